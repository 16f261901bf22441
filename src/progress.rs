//! Progress bars, on a terminal's stderr only.

use indicatif::{ProgressBar, ProgressStyle};
use runtime::worker::Progress;

/// Shows how much of a model has been uploaded.
pub(crate) fn uploading() -> impl FnMut(u64, u64) + Send + 'static {
    show("loading {bar:40} {bytes}/{total_bytes}")
}

/// The same for a worker's load.
pub(crate) fn loading() -> impl FnMut(Progress<'_>) + Send + 'static {
    let mut bar = uploading();
    move |step| {
        if let Progress::Uploaded { done, total } = step {
            bar(done, total);
        }
    }
}

/// Shows how many tokens have been computed again.
pub(crate) fn replaying() -> impl FnMut(u64, u64) + Send + 'static {
    show("replaying {bar:40} {pos}/{len} tokens")
}

/// Shows how much of a file has been written.
pub(crate) fn writing() -> impl FnMut(u64, u64) + Send + 'static {
    show("writing {bar:40} {bytes}/{total_bytes} {bytes_per_sec}")
}

fn show(template: &'static str) -> impl FnMut(u64, u64) + Send + 'static {
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template(template) {
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
