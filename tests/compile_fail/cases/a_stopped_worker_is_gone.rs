//! A worker that was stopped is used no more.

use std::time::Duration;

use runtime::worker::Worker;

pub fn case(worker: Worker) {
    drop(worker.engine.status()); // compiles
    worker.stop(Duration::ZERO);
    drop(worker.engine.status()); // fails: E0382
}
