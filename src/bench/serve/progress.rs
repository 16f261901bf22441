//! What a run has come to so far, in a line on a terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use super::exchange::End;

/// How often the line is written anew.
const INTERVAL: Duration = Duration::from_millis(200);

/// Counts requests and tokens; the line goes when it is dropped.
pub(super) struct Progress {
    counts: Arc<Counts>,
    bar: ProgressBar,
    writer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    running: AtomicU64,
    /// The most that were running at a time.
    peak: AtomicU64,
    tokens: AtomicU64,
    failed: AtomicU64,
}

impl Progress {
    /// Of so many requests. Within a runtime.
    pub(super) fn new(what: &str, requests: usize) -> Progress {
        let bar = ProgressBar::new(requests as u64).with_prefix(what.to_owned());
        let template = "{prefix} {bar:30} {pos}/{len} in {elapsed}: {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let counts = Arc::new(Counts::default());
        let writer = (!bar.is_hidden()).then(|| tokio::spawn(write(counts.clone(), bar.clone())));
        Progress { counts, bar, writer }
    }

    pub(super) fn begun(&self) {
        let running = self.counts.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.counts.peak.fetch_max(running, Ordering::Relaxed);
    }

    pub(super) fn text(&self) {
        self.counts.tokens.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, end: &End) {
        self.counts.running.fetch_sub(1, Ordering::Relaxed);
        self.counts.failed.fetch_add(u64::from(matches!(end, End::Failed(_))), Ordering::Relaxed);
        self.bar.inc(1);
    }

    pub(super) fn peak(&self) -> u64 {
        self.counts.peak.load(Ordering::Relaxed)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.abort();
        }
        self.bar.finish_and_clear();
    }
}

async fn write(counts: Arc<Counts>, bar: ProgressBar) {
    let start = Instant::now();
    loop {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rate = count(&counts.tokens) as f64 / start.elapsed().as_secs_f64();
        let (running, failed) = (count(&counts.running), count(&counts.failed));
        bar.set_message(format!("{running} running, {failed} failed, {rate:.0} tokens/s"));
        tokio::time::sleep(INTERVAL).await;
    }
}
