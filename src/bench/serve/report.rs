//! The figures, for people and as JSON.

use serde_json::{Map, Value, json};

use super::histogram::Histogram;
use super::measure::{Errors, Figures, Times};

/// The version of the JSON's fields: goes up when one changes its meaning or goes.
pub(super) const FORMAT: u32 = 1;

/// Names of times, for people and in JSON.
fn times(figures: &Figures) -> [(&'static str, &'static str, &Times); 4] {
    [
        ("time to first token", "time_to_first_token", &figures.first),
        ("time between tokens", "time_between_tokens", &figures.gaps),
        ("time per output token", "time_per_output_token", &figures.per_token),
        ("whole request", "request", &figures.whole),
    ]
}

/// Without the head, which says what was asked of whom.
pub(super) fn to_text(figures: &Figures) -> String {
    let Figures { seconds, peak, requests, complete, cancelled, errors, .. } = figures;
    let mut text = format!(
        "requests    {requests} in {seconds:.2} s, {peak} at most at a time: {complete} complete, {cancelled} \
         cancelled, {} failed\n",
        errors.count()
    );
    text += &errors_to_text(errors);
    let tokens_in = figures.tokens_in.map_or("unknown".to_owned(), |tokens| tokens.to_string());
    text += &format!(
        "tokens      {} out, counted by {}; {tokens_in} in\n",
        figures.tokens_out, figures.counted_by
    );
    let tokens_in =
        figures.tokens_in.map_or("unknown".to_owned(), |n| format!("{:.1}", figures.per_second(n)));
    text += &format!(
        "per second  {:.1} tokens out, {tokens_in} in; {:.2} complete requests\n\n",
        figures.per_second(figures.tokens_out),
        figures.per_second(*complete as u64),
    );
    text += &format!(
        "{:<24}{:>8}{:>11}{:>11}{:>11}{:>11}{:>11}\n",
        "ms", "n", "mean", "p50", "p95", "p99", "max"
    );
    for (name, _, times) in times(figures) {
        text += &format!("{name:<24}{:>8}", times.count());
        for number in [times.mean()].into_iter().chain([50, 95, 99, 100].map(|p| times.percentile(p))) {
            text += &number.map_or(format!("{:>11}", "-"), |ms| format!("{ms:>11.3}"));
        }
        text.push('\n');
    }
    for (name, _, times) in times(figures).into_iter().take(2) {
        if times.count() > 0 {
            text += &format!("\n{name}\n{}", Histogram::of(times).to_text());
        }
    }
    text
}

/// A line for each kind.
pub(super) fn errors_to_text(errors: &Errors) -> String {
    let line = |(kind, failures): (&String, &super::measure::Failures)| {
        let example = &failures.example;
        let words = if example.is_empty() { String::new() } else { format!(": {example}") };
        format!("failed      {} x {kind}{words}\n", failures.count)
    };
    errors.0.iter().map(line).collect()
}

/// The figures' fields.
pub(super) fn to_json(figures: &Figures) -> Map<String, Value> {
    let per_second = |count| figures.per_second(count);
    let mut all = json!({
        "seconds": figures.seconds,
        "requests": figures.requests,
        "complete": figures.complete,
        "cancelled": figures.cancelled,
        "failed": figures.errors.count(),
        "errors": errors_to_json(&figures.errors),
        "peak_concurrency": figures.peak,
        "tokens_in": figures.tokens_in,
        "tokens_out": figures.tokens_out,
        "tokens_out_counted_by": figures.counted_by,
        "tokens_in_per_second": figures.tokens_in.map(per_second),
        "tokens_out_per_second": per_second(figures.tokens_out),
        "requests_per_second": per_second(figures.complete as u64),
    });
    let object = all.as_object_mut().expect("an object was written");
    for (_, name, times) in times(figures) {
        let number = |percent| times.percentile(percent);
        let value = json!({
            "n": times.count(), "mean": times.mean(), "p50": number(50), "p95": number(95), "p99": number(99),
            "max": number(100), "histogram": Histogram::of(times).to_json(),
        });
        object.insert(format!("{name}_ms"), value);
    }
    std::mem::take(object)
}

pub(super) fn errors_to_json(errors: &Errors) -> Value {
    let one = |(kind, failures): (&String, &super::measure::Failures)| json!({"kind": kind, "count": failures.count, "example": failures.example});
    errors.0.iter().map(one).collect()
}
