//! How far a transfer is: a bar on a terminal, else a line now and then.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::printable;

/// Time between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    name: String,
    total: u64,
    /// Where stderr is a terminal; gone when dropped.
    bar: Option<ProgressBar>,
    told: Instant,
}

impl Progress {
    pub(super) fn new(name: &str, total: u64) -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{msg} {bar:30} {decimal_bytes:>9} of {decimal_total_bytes} {decimal_bytes_per_sec:>11}",
            );
            let bar = ProgressBar::new(total).with_message(printable::line(name));
            // The template is a constant; the default style is as good as any other.
            if let Ok(style) = style { bar.with_style(style) } else { bar }
        });
        Progress { name: printable::line(name), total, bar, told: Instant::now() }
    }

    /// Shows how many bytes there are.
    pub(super) fn set(&mut self, bytes: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(bytes),
            None if self.told.elapsed() >= PAUSE => {
                self.told = Instant::now();
                eprintln!("{}: {} of {} MB", self.name, bytes / 1_000_000, self.total / 1_000_000);
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
