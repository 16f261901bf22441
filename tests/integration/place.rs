//! Where a trial's server runs: on the CPU, on the paper GPU, or on a real one.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard};

use libtest_mimic::{Failed, Trial};
use runtime::device::Device;
use runtime::gguf::TensorType;
use runtime::synthetic::{self, Shape};
use tempfile::TempDir;
use worker_orcd::images::IMAGES;

use crate::common::paper::{expect_nothing_left, on_paper, paper_driver};
use crate::common::{executable, required};

/// A device, and whose driver is under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Cpu,
    Paper,
    Cuda,
}

impl Place {
    pub(crate) const ALL: [Place; 3] = [Place::Cpu, Place::Paper, Place::Cuda];
    pub(crate) const GPUS: [Place; 2] = [Place::Paper, Place::Cuda];

    /// What it is to `--device`.
    pub(crate) fn device(self) -> &'static str {
        if self == Place::Cpu { "cpu" } else { "cuda:0" }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Cpu => "cpu",
            Place::Paper => "paper",
            Place::Cuda => "cuda:0",
        })
    }
}

/// Why there is no `cuda:0`.
static NO_GPU: LazyLock<bool> = LazyLock::new(|| Device::cuda(0, IMAGES).is_err());

/// Trials on the real GPU, so that one that counts its memory can be alone there.
static GPU: RwLock<()> = RwLock::new(());

/// A trial for each of the places; that on `cuda:0` is ignored where there is no GPU, unless `WORKER_ORCD_REQUIRE` has
/// `cuda`.
pub(crate) fn at(
    name: &str,
    places: &[Place],
    test: impl Fn(Place) -> Result<(), Failed> + Clone + Send + 'static,
) -> Vec<Trial> {
    each(name, places, move |place| {
        let _among_others = (place == Place::Cuda).then(among_others);
        test(place)
    })
}

/// Whoever is on the real GPU holds one meanwhile.
pub(crate) fn among_others() -> RwLockReadGuard<'static, ()> {
    GPU.read().unwrap_or_else(PoisonError::into_inner)
}

/// As [`at`], with nobody else of this process on the real GPU meanwhile.
pub(crate) fn alone_at(
    name: &str,
    places: &[Place],
    test: impl Fn(Place) -> Result<(), Failed> + Clone + Send + 'static,
) -> Vec<Trial> {
    each(name, places, move |place| {
        let _alone = (place == Place::Cuda).then(|| GPU.write().unwrap_or_else(PoisonError::into_inner));
        test(place)
    })
}

fn each(
    name: &str,
    places: &[Place],
    test: impl Fn(Place) -> Result<(), Failed> + Clone + Send + 'static,
) -> Vec<Trial> {
    let trial = |&place: &Place| {
        let test = test.clone();
        let lacks = place == Place::Cuda && *NO_GPU;
        Trial::test(format!("{name}/{place}"), move || test(place))
            .with_kind(if lacks { "no CUDA device" } else { "" })
            .with_ignored_flag(lacks && !required("cuda"))
    };
    places.iter().map(trial).collect()
}

/// A trial's place and a folder of its own there.
pub(crate) struct Room {
    pub(crate) place: Place,
    folder: TempDir,
}

impl Room {
    pub(crate) fn new(place: Place) -> Result<Self, Failed> {
        Ok(Self { place, folder: tempfile::tempdir()? })
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The executable here.
    pub(crate) fn worker(&self) -> Result<Command, Failed> {
        let mut command = Command::new(executable());
        command.env_remove("WORKER_ORCD_LOG");
        if self.place == Place::Paper {
            on_paper(&mut command, &paper_driver()?, &self.log());
            command.env("WORKER_ORCD_CACHE", self.folder.path());
        }
        Ok(command)
    }

    /// `serve` of a model here, on a free port.
    pub(crate) fn serve(&self, model: &Path) -> Result<Command, Failed> {
        let mut command = self.worker()?;
        command.args(["serve", "--device", self.place.device(), "--port", "0", "--model"]).arg(model);
        Ok(command)
    }

    /// A model of made-up weights and single bytes, whose context outlasts a test.
    pub(crate) fn drawn(&self) -> Result<PathBuf, Failed> {
        let mut shape = Shape::named("tiny")?.clone();
        shape.context = 8192;
        self.draw(&shape)
    }

    /// A model of made-up weights.
    pub(crate) fn draw(&self, shape: &Shape) -> Result<PathBuf, Failed> {
        let path = self.path("drawn.gguf");
        let gguf = synthetic::model(shape, TensorType::F16, 1)?;
        synthetic::write(&Device::cpu(1), &gguf, &mut BufWriter::new(File::create(&path)?), &mut |_, _| ())?;
        Ok(path)
    }

    /// Where the paper GPU says what a process left.
    pub(crate) fn log(&self) -> PathBuf {
        self.path("paper.log")
    }

    /// Asserts that the process that ended has freed all it had on the paper GPU, and gives what that counted. A real
    /// GPU tells nobody.
    pub(crate) fn nothing_left(&self) -> Result<HashMap<String, u64>, Failed> {
        if self.place != Place::Paper {
            return Ok(HashMap::new());
        }
        let did = expect_nothing_left(&self.log())?;
        std::fs::remove_file(self.log())?;
        Ok(did)
    }
}
