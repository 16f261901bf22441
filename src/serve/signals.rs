//! SIGTERM and SIGINT: the first asks the server to end, the second ends the process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit;

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Waits for one; its number.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }
}

/// Completes at the first signal. A second one ends the process at once, with the exit code that shells give to it:
/// 143 or 130.
///
/// # Errors
/// The system does not let signals be caught.
pub(super) fn first() -> io::Result<impl Future<Output = ()>> {
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut signals = Signals { terminate, interrupt };
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        signals.next().await;
        // If nobody waits for it, the server is about to end already.
        let _ = tell.send(());
        let second = signals.next().await;
        exit::at_once(128 + second);
    });
    Ok(async {
        if told.await.is_err() {
            // The task above does not end before the process does.
            std::future::pending::<()>().await;
        }
    })
}
