//! The hash of the model's file, computed beside the server that already serves.

use std::io;
use std::thread;

use runtime::checkpoint::CheckpointFiles;
use server::ModelHash;
use tokio::sync::watch;

use crate::cache;

/// Threads beside a GPU, whose host has little to do.
const MOST_THREADS: usize = 8;

/// Begins to hash on a thread of its own. Where that fails, the log says why, once, and no answer gets a receipt.
pub(super) fn begin(files: io::Result<CheckpointFiles>, on_cpu: bool) -> watch::Receiver<ModelHash> {
    let (tell, told) = watch::channel(ModelHash::Pending);
    let hash = move || {
        // On the CPU the cores are the model's.
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = if on_cpu { 1 } else { (cores / 2).clamp(1, MOST_THREADS) };
        let known = files.and_then(|files| files.hash(cache::hashes().as_deref(), threads));
        tell.send_replace(match known {
            Ok(hash) => {
                tracing::info!(event = "model_hash", blake3 = %hash, "the model's hash is known");
                ModelHash::Known(hash)
            }
            Err(error) => {
                tracing::warn!(event = "model_hash", "answers have no receipts: the model's file: {error}");
                ModelHash::Unknown
            }
        });
    };
    if let Err(error) = thread::Builder::new().name("model hash".to_owned()).spawn(hash) {
        tracing::warn!(event = "model_hash", "answers have no receipts: no thread: {error}");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_cannot_be_hashed_leaves_the_hash_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        std::fs::write(&path, "content").unwrap();
        let gone = CheckpointFiles::of(&path, None);
        std::fs::remove_file(&path).unwrap();
        for file in [gone, CheckpointFiles::of(&path, None)] {
            let mut hash = begin(file, true);
            let hash = hash.wait_for(|hash| *hash != ModelHash::Pending).await.unwrap();
            assert_eq!(*hash, ModelHash::Unknown);
        }
    }
}
