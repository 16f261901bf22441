//! Failures of the driver, put into the executable on purpose: what its users are told, that the worker lives on where the
//! GPU does, and that nothing is lost.
//!
//! The feature `fault-injection` has to be compiled in; without it these trials are ignored, unless `WORKER_ORCD_REQUIRE`
//! has `faults`.

mod loading;
mod many;
mod plan;
mod residency;
mod serving;
mod trap;

use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::common::required;
use crate::place::{Place, Room, alone_at, at};

pub(crate) use plan::{Faults, Rule};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = loading::trials();
    trials.extend(serving::trials());
    trials.extend(many::trials());
    trials.extend(trap::trials());
    trials.extend(residency::trials());
    trials
}

/// A trial on each GPU that needs failing calls.
pub(crate) fn injected(
    name: &str,
    test: impl Fn(Place) -> Result<(), Failed> + Clone + Send + 'static,
) -> Vec<Trial> {
    gated(at(name, &Place::GPUS, move |place| COMPILED.map_err(Failed::from).and_then(|()| test(place))))
}

/// As [`injected`], with nobody else of this process on the real GPU.
pub(crate) fn injected_alone(
    name: &str,
    test: impl Fn(Place) -> Result<(), Failed> + Clone + Send + 'static,
) -> Vec<Trial> {
    gated(alone_at(name, &Place::GPUS, move |place| {
        COMPILED.map_err(Failed::from).and_then(|()| test(place))
    }))
}

/// Whether calls can fail.
const COMPILED: Result<(), &str> = if cfg!(feature = "fault-injection") {
    Ok(())
} else {
    Err("compiled without the feature fault-injection")
};

fn gated(trials: Vec<Trial>) -> Vec<Trial> {
    let gate = |trial: Trial| {
        let ignored = trial.has_ignored_flag() || (COMPILED.is_err() && !required("faults"));
        if COMPILED.is_ok() { trial } else { trial.with_kind("no fault-injection") }
            .with_ignored_flag(ignored)
    };
    trials.into_iter().map(gate).collect()
}

/// A process whose calls can fail finds no cuBLAS, whose own calls would count.
fn without_cublas(command: &mut Command, room: &Room) {
    command.env("WORKER_ORCD_CUBLAS", room.path("none"));
}

/// An error of the driver: its number as a plan has it, and how messages tell it.
pub(crate) struct DriverError {
    pub(crate) number: &'static str,
    pub(crate) told: &'static str,
}

impl DriverError {
    const fn new(number: &'static str, told: &'static str) -> Self {
        Self { number, told }
    }
}

const INVALID_VALUE: DriverError = DriverError::new("1", "CUDA_ERROR_INVALID_VALUE (1)");
const OUT_OF_MEMORY: DriverError = DriverError::new("2", "CUDA_ERROR_OUT_OF_MEMORY (2)");
const INVALID_IMAGE: DriverError = DriverError::new("200", "CUDA_ERROR_INVALID_IMAGE (200)");
const INVALID_PTX: DriverError = DriverError::new("218", "CUDA_ERROR_INVALID_PTX (218)");
const NOT_FOUND: DriverError = DriverError::new("500", "CUDA_ERROR_NOT_FOUND (500)");
const OUT_OF_RESOURCES: DriverError = DriverError::new("701", "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701)");
const LAUNCH_FAILED: DriverError = DriverError::new("719", "CUDA_ERROR_LAUNCH_FAILED (719)");
const UNKNOWN: DriverError = DriverError::new("999", "CUDA_ERROR_UNKNOWN (999)");

/// A function of the driver as messages name it: without the version of its signature.
fn spoken(function: &str) -> &str {
    function.trim_end_matches("_v2")
}
