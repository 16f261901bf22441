use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use warp::Reply;
use warp::http::HeaderMap;
use warp::http::header::CONTENT_TYPE;

use crate::State;
use crate::error::ApiError;
use crate::health::is_resident;

/// `GET /metrics`: what Prometheus asks for, from cached state; the device is not asked.
pub(crate) async fn metrics(state: Arc<State>, headers: HeaderMap) -> Result<impl Reply, ApiError> {
    state.keys.check(&headers)?;
    let text = state.metrics.text(&state);
    Ok(warp::reply::with_header(text, CONTENT_TYPE, TextEncoder::new().format_type().to_owned()))
}

/// All numbers for Prometheus. What happens is counted when it happens, what is the case is read when asked for.
pub(crate) struct Metrics {
    registry: Registry,
    /// Answers to `/execute` by how they ended.
    requests: IntCounterVec,
    pub(crate) tokens_in: IntCounter,
    pub(crate) tokens_generated: IntCounter,
    pub(crate) first_token: Histogram,
    pub(crate) inter_token: Histogram,
    pub(crate) duration_ms: Histogram,
    vram: IntGaugeVec,
    queue_depth: IntGauge,
    running: IntGauge,
    kv_pages: IntGaugeVec,
    cached_tokens: Total,
    preemptions: Total,
    uptime: IntGauge,
    resident: IntGauge,
}

/// Bounds in seconds: a short prompt on a fast GPU to a long queue.
const FIRST_TOKEN: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Bounds in seconds: a small model on a fast GPU to a large one on a CPU.
const INTER_TOKEN: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2];
/// Bounds in milliseconds, up to the default time limit.
const DURATION_MS: [f64; 12] = [10.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 10e3, 30e3, 100e3, 300e3];

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        Self {
            requests: register(&registry, "requests_total", "Requests by outcome", |opts| {
                IntCounterVec::new(opts, &["outcome"])
            }),
            tokens_in: register(
                &registry,
                "tokens_in_total",
                "Prompt tokens of begun jobs",
                IntCounter::with_opts,
            ),
            tokens_generated: register(
                &registry,
                "tokens_generated_total",
                "Tokens generated",
                IntCounter::with_opts,
            ),
            first_token: register(
                &registry,
                "time_to_first_token_seconds",
                "From a job's submission to its first text",
                histogram(&FIRST_TOKEN),
            ),
            inter_token: register(
                &registry,
                "inter_token_seconds",
                "Between two texts of a job",
                histogram(&INTER_TOKEN),
            ),
            duration_ms: register(
                &registry,
                "inference_duration_ms",
                "From the beginning to the end of completed jobs",
                histogram(&DURATION_MS),
            ),
            vram: register(&registry, "vram_bytes", "Bytes on the device by purpose", |opts| {
                IntGaugeVec::new(opts, &["purpose"])
            }),
            queue_depth: register(&registry, "queue_depth", "Jobs that wait", IntGauge::with_opts),
            running: register(&registry, "running", "Jobs being computed", IntGauge::with_opts),
            kv_pages: register(&registry, "kv_pages", "Pages of the KV cache by state", |opts| {
                IntGaugeVec::new(opts, &["state"])
            }),
            cached_tokens: Total::new(
                &registry,
                "prompt_tokens_cached_total",
                "Tokens whose keys and values were in the cache",
            ),
            preemptions: Total::new(
                &registry,
                "preemptions_total",
                "Times that a job lost its pages to older ones",
            ),
            uptime: register(&registry, "uptime_seconds", "Since the server listens", IntGauge::with_opts),
            resident: register(
                &registry,
                "resident",
                "1 if the model is in the device's memory, else 0",
                IntGauge::with_opts,
            ),
            registry,
        }
    }

    /// Counts a request that has got its last word: a stop reason or a code of an error.
    pub(crate) fn request_ended(&self, outcome: &str) {
        self.requests.with_label_values(&[outcome.to_ascii_lowercase()]).inc();
    }

    fn text(&self, state: &State) -> String {
        self.uptime.set(number(state.started.elapsed().as_secs()));
        let status = state.worker.get().map(|worker| worker.engine.status());
        self.resident.set(is_resident(status).into());
        if let (Some(worker), Some(status)) = (state.worker.get(), status) {
            for &(purpose, bytes) in &worker.info.bytes_by_purpose {
                self.vram.with_label_values(&[purpose]).set(number(bytes));
            }
            self.queue_depth.set(number(status.waiting as u64));
            self.running.set(number(status.running as u64));
            self.kv_pages.with_label_values(&["used"]).set(number(status.kv_pages_used as u64));
            self.kv_pages.with_label_values(&["cached"]).set(number(status.kv_pages_cached as u64));
            let free = status.kv_pages_total - status.kv_pages_used - status.kv_pages_cached;
            self.kv_pages.with_label_values(&["free"]).set(number(free as u64));
            self.cached_tokens.reaches(status.cached_tokens);
            self.preemptions.reaches(status.preemptions);
        }
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("every family that is gathered has a name and a value")
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    name: &str,
    help: &str,
    new: impl FnOnce(Opts) -> prometheus::Result<C>,
) -> C {
    let collector = new(Opts::new(name, help).namespace("worker")).expect("a valid name");
    registry.register(Box::new(collector.clone())).expect("no name is used twice");
    collector
}

fn histogram(bounds: &[f64]) -> impl FnOnce(Opts) -> prometheus::Result<Histogram> {
    let buckets = bounds.to_vec();
    |opts| Histogram::with_opts(HistogramOpts { common_opts: opts, buckets })
}

/// A counter of what the engine counts.
struct Total {
    counter: IntCounter,
    /// What was told of it.
    told: AtomicU64,
}

impl Total {
    fn new(registry: &Registry, name: &str, help: &str) -> Self {
        let counter = register(registry, name, help, IntCounter::with_opts);
        Self { counter, told: AtomicU64::new(0) }
    }

    fn reaches(&self, count: u64) {
        let told = self.told.fetch_max(count, Ordering::Relaxed);
        self.counter.inc_by(count.saturating_sub(told));
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
