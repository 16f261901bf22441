//! The arguments of `worker-orcd serve`, as they are written. [`super::settings`] says what is wrong with them.

use std::path::PathBuf;

/// Serves completions of one model over HTTP until SIGTERM or SIGINT
///
/// Values stay text here, so that all faults can be told at once.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    long_about = None,
    override_usage = "worker-orcd serve --model <MODEL> [OPTIONS]"
)]
pub struct Args {
    /// A GGUF file, a Hugging Face folder, or a name of the catalogue; required
    #[arg(long)]
    pub(super) model: Option<String>,
    /// What the model is called in answers, receipts and logs; what --model says unless given
    #[arg(long, value_name = "NAME")]
    pub(super) served_model_name: Option<String>,
    /// Quantises the matrices of a folder: q8_0 or q4_0
    #[arg(long)]
    pub(super) quant: Option<String>,
    /// This worker's name in logs and callbacks; a fresh one unless given
    #[arg(long, value_name = "UUID")]
    pub(super) worker_id: Option<String>,
    /// auto, cpu or cuda:N; auto unless given
    #[arg(long)]
    pub(super) device: Option<String>,
    /// The same as --device cuda:N
    #[arg(long, value_name = "N")]
    pub(super) gpu_device: Option<String>,
    /// f32 or tc; tc on a GPU and f32 on the CPU unless given
    #[arg(long)]
    pub(super) numerics: Option<String>,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(super) host: String,
    /// The port to listen on; 0 takes a free one, which the `ready` log line tells
    #[arg(long, default_value = "8080")]
    pub(super) port: String,
    /// Told once when the model is ready: POST URL/v2/internal/workers/ready
    #[arg(long, value_name = "URL")]
    pub(super) callback_url: Option<String>,
    /// What a request may ask for as max_tokens, at most
    #[arg(long, value_name = "TOKENS", default_value = "2048")]
    pub(super) max_tokens_out: String,
    /// Memory for keys and values; what suits the model and the device unless given
    #[arg(long, value_name = "MB")]
    pub(super) kv_cache_size_mb: Option<String>,
    /// Sequences computed at once; 64 on a GPU and 16 on the CPU unless given
    #[arg(long, value_name = "N")]
    pub(super) max_batch: Option<String>,
    /// Tokens computed at once; 2048 on a GPU, 8192 if it has 40 GB, room for them, and nobody generates, and 16 on the CPU unless given
    #[arg(long, value_name = "N")]
    pub(super) step_tokens: Option<String>,
    /// Computes every prompt wholly, even if it begins as an earlier one did
    #[arg(long)]
    pub(super) no_prefix_cache: bool,
    /// Jobs of one client that may wait
    #[arg(long, value_name = "N", default_value = "64")]
    pub(super) queue_depth: String,
    /// How long a job may take, its time in the queue included
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    pub(super) inference_timeout_sec: String,
    /// How long running jobs may go on after a signal
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub(super) drain_timeout_sec: String,
    /// How often it is verified that the model is in the GPU's memory
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub(super) residency_interval_sec: String,
    /// A file of keys, one a line; requests then need one of them
    #[arg(long, value_name = "FILE")]
    pub(super) api_key_file: Option<PathBuf>,
    /// Lets POST /shutdown end the server
    #[arg(long)]
    pub(super) allow_shutdown: bool,
}
