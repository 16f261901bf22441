//! Where the time of a step goes: every launch between two events of the device.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cust::event::{Event, EventFlags};
use cust::stream::Stream;

use super::DeviceError;
use super::cuda::failed;

/// What launches of one name and grid took.
#[derive(Debug, Clone, PartialEq)]
pub struct Spent {
    /// The kernel and its grid, or what a library computed.
    pub name: String,
    /// Launches.
    pub launches: usize,
    /// All of them. On a GPU with the microsecond or so that two events cost.
    pub time: Duration,
}

/// Launches since profiling began.
#[derive(Default)]
pub(crate) struct Profile {
    launches: Vec<(String, Mark)>,
}

enum Mark {
    Host(Duration),
    Device(Event, Event),
}

impl Profile {
    /// Runs `f` and notes how long it took, on a stream of a GPU or right here.
    pub(crate) fn time<R>(
        &mut self,
        name: String,
        stream: Option<&Stream>,
        f: impl FnOnce() -> Result<R, DeviceError>,
    ) -> Result<R, DeviceError> {
        let Some(stream) = stream else {
            let start = Instant::now();
            let answer = f()?;
            self.launches.push((name, Mark::Host(start.elapsed())));
            return Ok(answer);
        };
        let event = || Event::new(EventFlags::DEFAULT).map_err(failed("cuEventCreate"));
        let (before, after) = (event()?, event()?);
        before.record(stream).map_err(failed("cuEventRecord"))?;
        let answer = f()?;
        after.record(stream).map_err(failed("cuEventRecord"))?;
        self.launches.push((name, Mark::Device(before, after)));
        Ok(answer)
    }

    /// The launches by name, the most expensive first. The device has finished them.
    pub(crate) fn spent(self) -> Result<Vec<Spent>, DeviceError> {
        let mut by_name: HashMap<String, Spent> = HashMap::new();
        for (name, mark) in self.launches {
            let time = match mark {
                Mark::Host(time) => time,
                Mark::Device(before, after) => {
                    let milliseconds =
                        after.elapsed_time_f32(&before).map_err(failed("cuEventElapsedTime"))?;
                    Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3)
                }
            };
            let spent =
                by_name.entry(name.clone()).or_insert(Spent { name, launches: 0, time: Duration::ZERO });
            spent.launches += 1;
            spent.time += time;
        }
        let mut all: Vec<Spent> = by_name.into_values().collect();
        all.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.name.cmp(&b.name)));
        Ok(all)
    }
}
