//! Sends requests at a pace, and collects what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use super::arrivals::Arrivals;
use super::exchange::{Exchange, Exchanger};
use super::progress::Progress;
use super::workload::Workload;

/// When a request is sent.
pub(super) enum Pace {
    /// When one of so many before has ended.
    Closed(u32),
    /// At its moment, whatever became of those before.
    Open(Arrivals),
}

/// What all requests of a run need.
pub(super) struct Driver {
    pub(super) exchanger: Exchanger,
    pub(super) workload: Workload,
}

/// What became of the requests, by their numbers.
pub(super) struct Driven {
    pub(super) exchanges: Vec<(usize, Exchange)>,
    pub(super) seconds: f64,
    /// The most that were running at a time.
    pub(super) peak: u64,
}

impl Driver {
    /// Sends the requests of these numbers, in this order.
    pub(super) async fn drive(self: &Arc<Self>, what: &str, order: Vec<usize>, pace: Pace) -> Driven {
        let progress = Arc::new(Progress::new(what, order.len()));
        let start = Instant::now();
        let mut tasks: JoinSet<Vec<(usize, Exchange)>> = JoinSet::new();
        match pace {
            Pace::Closed(concurrency) => {
                let (order, next) = (Arc::new(order), Arc::new(AtomicUsize::new(0)));
                for _ in 0..order.len().min(concurrency as usize) {
                    let (driver, progress, order, next) =
                        (self.clone(), progress.clone(), order.clone(), next.clone());
                    tasks.spawn(async move {
                        let mut exchanges = Vec::new();
                        while let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                            exchanges.push((number, driver.one(number, None, &progress).await));
                        }
                        exchanges
                    });
                }
            }
            Pace::Open(arrivals) => {
                for (number, moment) in order.into_iter().zip(arrivals) {
                    let due = start + moment;
                    tokio::time::sleep_until(due.into()).await;
                    let (driver, progress) = (self.clone(), progress.clone());
                    tasks
                        .spawn(async move { vec![(number, driver.one(number, Some(due), &progress).await)] });
                }
            }
        }
        let mut exchanges = tasks.join_all().await.into_iter().flatten().collect::<Vec<_>>();
        let seconds = start.elapsed().as_secs_f64();
        exchanges.sort_by_key(|&(number, _)| number);
        Driven { exchanges, seconds, peak: progress.peak() }
    }

    /// One request, measured from when it was due, if it was.
    async fn one(&self, number: usize, due: Option<Instant>, progress: &Progress) -> Exchange {
        let work = self.workload.work(number);
        let body = self.exchanger.terms.body(&work);
        progress.begun();
        let start = due.unwrap_or_else(Instant::now);
        let exchange = self.exchanger.run(&body, work.cancel_after, start, || progress.text()).await;
        progress.ended(&exchange.end);
        exchange
    }
}
