use std::sync::Arc;
use std::time::Duration;

use runtime::engine::EngineState;
use runtime::receipt::{Asked, Digest, Receipt};
use runtime::request::Completion;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::Worker;
use crate::serve::reaches;

/// What is known of the hash of the model's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelHash {
    /// It is being computed.
    Pending,
    /// It is this.
    Known(Digest),
    /// It cannot be had: no answer gets a receipt.
    Unknown,
}

/// The receipt of a completion; `None` where the model's hash cannot be had, or is not there in time, as may be for a while
/// after the first start with a model.
pub(crate) async fn receipt(
    worker: Arc<Worker>,
    asked: Asked,
    completion: Completion,
    patience: Duration,
) -> (Completion, Option<Receipt>) {
    let mut hash = worker.model_hash.clone();
    let model = tokio::select! {
        biased;
        hash = known(&mut hash) => hash,
        () = sleep(patience) => None,
        // A shutdown does not wait for it.
        () = reaches(&worker.engine, &[EngineState::Stopped, EngineState::Failed]) => None,
    };
    let receipt = model.map(|model| Receipt::new(&worker.info, model, worker.ptx_sha256, asked, &completion));
    (completion, receipt)
}

async fn known(hash: &mut watch::Receiver<ModelHash>) -> Option<Digest> {
    // Whoever goes away without an answer has none.
    let hash = hash.wait_for(|hash| *hash != ModelHash::Pending).await;
    match *hash.ok()? {
        ModelHash::Known(digest) => Some(digest),
        ModelHash::Pending | ModelHash::Unknown => None,
    }
}
