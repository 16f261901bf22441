//! What a step of the engine costs beside the model: queue, scheduler, batch, text and events of all streams.
//!
//! ```sh
//! cargo bench -p runtime --bench scheduler
//! ```

#![allow(missing_docs, reason = "criterion's macros write functions")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use runtime::bench::NullEngine;

fn step(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine_step");
    for streams in [1, 8, 64, 256] {
        let mut engine = NullEngine::new(streams);
        group.bench_function(BenchmarkId::from_parameter(streams), |bench| bench.iter(|| engine.step()));
    }
}

criterion_group!(benches, step);
criterion_main!(benches);
