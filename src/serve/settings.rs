//! The arguments, checked: nothing is loaded, fetched or listened on before every one of them is right.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use runtime::engine::DEFAULT_MAX_TOKENS;
use runtime::huggingface::Quant;
use runtime::numerics::Numerics;
use runtime::worker::DeviceChoice;
use uuid::Uuid;

use super::args::Args;
use super::callback::CallbackUrl;
use super::code::Code;
use super::fault::Faults;
use super::keys;
use crate::cache;

/// What a server is told to be. It has no `Debug`: the keys must not get into a log.
pub(super) struct Settings {
    /// A file, a folder, or a name of the catalogue.
    pub(super) model: String,
    pub(super) quant: Option<Quant>,
    pub(super) worker_id: Uuid,
    pub(super) device: DeviceChoice,
    pub(super) numerics: Option<Numerics>,
    pub(super) address: SocketAddr,
    pub(super) callback: Option<CallbackUrl>,
    pub(super) max_tokens_out: u32,
    pub(super) kv_bytes: Option<u64>,
    pub(super) max_batch: Option<usize>,
    pub(super) step_tokens: Option<usize>,
    pub(super) prefix_cache: bool,
    pub(super) queue_depth: usize,
    pub(super) inference_timeout: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) residency_interval: Duration,
    pub(super) api_keys: Vec<String>,
    pub(super) allow_shutdown: bool,
}

impl Settings {
    /// Checks every argument. A value that is wrong is noted and stood in for, so that the rest is checked as well.
    ///
    /// # Errors
    /// All faults.
    pub(super) fn check(args: Args) -> Result<Settings, Faults> {
        use Code::InvalidArgument as Argument;
        let mut faults = Faults(Vec::new());

        let model = args.model.unwrap_or_default();
        if let Err(why) = check_model(&model) {
            faults.note(Code::ModelLoadFailed, why);
        }
        let quant = faults.value(Argument, "--quant", args.quant.as_deref());
        let worker_id = faults.value(Argument, "--worker-id", args.worker_id.as_deref());
        let device = device(&mut faults, args.device.as_deref(), args.gpu_device.as_deref());
        let numerics = faults.value(Argument, "--numerics", args.numerics.as_deref());
        let host = faults.value::<IpAddr>(Argument, "--host", Some(&args.host));
        let port = faults.number("--port", &args.port, 0..=65_535) as u16;
        let callback = callback(&mut faults, args.callback_url.as_deref());
        let most = u64::from(DEFAULT_MAX_TOKENS);
        let max_tokens_out = faults.number("--max-tokens-out", &args.max_tokens_out, 1..=most) as u32;
        let kv_mb = args.kv_cache_size_mb.map(|text| faults.number("--kv-cache-size-mb", &text, 1..=1 << 30));
        let mut count =
            |name, text: Option<String>, most| text.map(|text| faults.number(name, &text, 1..=most) as usize);
        let max_batch = count("--max-batch", args.max_batch, 256);
        let step_tokens = count("--step-tokens", args.step_tokens, 16_384);
        let queue_depth = faults.number("--queue-depth", &args.queue_depth, 1..=10_000) as usize;
        let mut seconds =
            |name, text: &str, least| Duration::from_secs(faults.number(name, text, least..=86_400));
        let inference_timeout = seconds("--inference-timeout-sec", &args.inference_timeout_sec, 1);
        let drain_timeout = seconds("--drain-timeout-sec", &args.drain_timeout_sec, 0);
        let residency_interval = seconds("--residency-interval-sec", &args.residency_interval_sec, 1);
        let api_keys = args.api_key_file.map_or_else(Vec::new, |path| {
            keys::read(&path).unwrap_or_else(|why| {
                faults.note(Argument, format!("--api-key-file {:?}: {why}", path.display().to_string()));
                Vec::new()
            })
        });

        let Some(host) = host.filter(|_| faults.0.is_empty()) else { return Err(faults) };
        Ok(Settings {
            model,
            quant,
            worker_id: worker_id.unwrap_or_else(Uuid::new_v4),
            device,
            numerics,
            address: SocketAddr::new(host, port),
            callback,
            max_tokens_out,
            kv_bytes: kv_mb.map(|megabytes| megabytes << 20),
            max_batch,
            step_tokens,
            prefix_cache: !args.no_prefix_cache,
            queue_depth,
            inference_timeout,
            drain_timeout,
            residency_interval,
            api_keys,
            allow_shutdown: args.allow_shutdown,
        })
    }
}

/// A file that can be opened, a folder, or a name of the catalogue. What is in it shows when it is loaded.
fn check_model(model: &str) -> Result<(), String> {
    if model.is_empty() {
        return Err(
            "--model is missing: a GGUF file, a Hugging Face folder, or a name of the catalogue".to_owned()
        );
    }
    let path = Path::new(model);
    if path.is_dir() {
        let listed = std::fs::read_dir(path);
        return listed.map(drop).map_err(|error| format!("--model {model:?} cannot be read: {error}"));
    }
    if path.is_file() {
        let opened = std::fs::File::open(path);
        return opened.map(drop).map_err(|error| format!("--model {model:?} cannot be read: {error}"));
    }
    cache::find(model).map(drop).map_err(|error| format!("--model {error}"))
}

/// The device, by its name or by the older argument.
fn device(faults: &mut Faults, name: Option<&str>, gpu: Option<&str>) -> DeviceChoice {
    let named = faults.value::<DeviceChoice>(Code::InvalidDevice, "--device", name);
    let numbered = gpu.and_then(|text| match text.parse() {
        Ok(ordinal) => Some(DeviceChoice::Cuda(ordinal)),
        Err(_) => {
            faults.note(Code::InvalidDevice, format!("--gpu-device {text:?}: must be a GPU's number, as 0"));
            None
        }
    });
    if let (Some(named), Some(numbered)) = (named, numbered)
        && named != numbered
    {
        let text =
            format!("--device {named} and --gpu-device, which says {numbered}, differ: give one of them");
        faults.note(Code::InvalidDevice, text);
    }
    named.or(numbered).unwrap_or(DeviceChoice::Auto)
}

/// The callback's address. One in which there may be a password or a key is not quoted.
fn callback(faults: &mut Faults, text: Option<&str>) -> Option<CallbackUrl> {
    let text = text?;
    let noted = |why| {
        let shown = if text.contains(['@', '?', '#']) { String::new() } else { format!(" {text:?}") };
        faults.note(Code::InvalidArgument, format!("--callback-url{shown}: {why}"));
    };
    text.parse().map_err(noted).ok()
}
