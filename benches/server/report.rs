//! What a run found: numbers and faults.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{Options, Outcome};

/// Numbers by name, in the order in which they came, and what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Report {
    numbers: Map<String, Value>,
    pub(crate) faults: Vec<String>,
}

impl Report {
    pub(crate) fn number(&mut self, name: &str, value: impl Into<Value>) {
        self.numbers.insert(name.to_owned(), value.into());
    }

    /// Count, median, 99th percentile and greatest of some times, in milliseconds.
    pub(crate) fn times(&mut self, name: &str, times: &[Duration]) {
        let mut sorted: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        // The smallest time that so large a part of them does not exceed.
        let rank = |part: f64| (sorted.len() as f64 * part).ceil().max(1.0) as usize - 1;
        let at = |part: f64| sorted.get(rank(part)).map(|ms| (ms * 1e3).round() / 1e3);
        let value = json!({"n": sorted.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0)});
        self.number(name, value);
    }

    /// Memory over time, in bytes. It may not grow by more than `growth_mb` from the middle third to the last.
    pub(crate) fn memory(&mut self, samples: &[u64], growth_mb: u64) {
        let third = samples.len() / 3;
        if third == 0 {
            return self.fault("too few samples of the server's memory".to_owned());
        }
        let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len() as f64 / 1048576.0;
        let (middle, last) = (mean(&samples[third..2 * third]), mean(&samples[samples.len() - third..]));
        let greatest = samples.iter().max().map_or(0.0, |&bytes| bytes as f64 / 1048576.0);
        let round = |mb: f64| (mb * 10.0).round() / 10.0;
        self.number(
            "rss_mb",
            json!({"samples": samples.len(), "first": round(samples[0] as f64 / 1048576.0),
                "middle_third": round(middle), "last_third": round(last), "max": round(greatest),
                "growth": round(last - middle), "bound": growth_mb}),
        );
        if last - middle > growth_mb as f64 {
            self.fault(format!("memory grew by {:.1} MB, more than {growth_mb}", last - middle));
        }
    }

    pub(crate) fn fault(&mut self, what: String) {
        eprintln!("fault: {what}");
        // One of a kind is enough to fail; thousands would hide the others.
        if self.faults.len() < 100 {
            self.faults.push(what);
        }
    }

    /// To standard output, and as JSON where the options name a file.
    pub(crate) fn print(&self, options: &Options) -> Outcome<()> {
        for (name, value) in &self.numbers {
            println!("{name:<28} {value}");
        }
        println!("{:<28} {}", "faults", self.faults.len());
        if let Some(path) = &options.json {
            let all = json!({"model": options.model, "device": options.device, "serve": options.serve,
                "seed": options.seed, "numbers": self.numbers, "faults": self.faults});
            std::fs::write(path, format!("{all:#}\n"))?;
        }
        Ok(())
    }
}
