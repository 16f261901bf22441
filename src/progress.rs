//! Progress bars, on a terminal's stderr only.

use indicatif::{ProgressBar, ProgressStyle};

/// Shows how much of a model has been uploaded.
pub(crate) fn loading() -> impl FnMut(u64, u64) + Send + 'static {
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("loading {bar:40} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    move |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        if done >= total {
            bar.finish_and_clear();
        }
    }
}
