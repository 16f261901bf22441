//! That nobody's answer depends on who else is served: requests of all kinds, each alone, then together in every manner
//! that the engine knows, must give the same tokens, texts and log-probabilities to the last bit.
//!
//! Tiny models on the CPU and on the paper GPU, and SmolLM2 on a GPU if there is one. What a crowd went through on its way
//! (pages taken from the cache, sequences preempted) is noted, and required where a setting is there to cause it.

mod answer;
#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod setting;
mod workload;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};
use runtime::device::Device;
use runtime::gguf::TensorType;
use runtime::numerics::Numerics;
use runtime::synthetic::{self, Shape};
use runtime::worker::DeviceChoice;
use tempfile::TempDir;
use worker_orcd::images::IMAGES;

use common::{data, paper};
use crowd::Crowd;
use setting::Setting;

/// Set in a child on the paper GPU.
const CHILD: &str = "INVARIANCE_ON_PAPER";

/// A model.
#[derive(Clone)]
enum Model {
    /// A file.
    File(PathBuf),
    /// Random weights, stored so, with a context over several of attention's chunks.
    Drawn(TensorType),
}

/// A model, where it runs and how, and how much is asked of it.
#[derive(Clone)]
struct Subject {
    model: Model,
    device: DeviceChoice,
    numerics: Numerics,
    /// First requests; a third as many follow up on an answer.
    requests: usize,
    /// Tokens of a prompt at most, and of an answer to it.
    prompt: usize,
    answer: usize,
    /// Tokens of the answers to short prompts: several pages.
    talk: usize,
    settings: Vec<Setting>,
}

/// Positions of the drawn models: attention's chunks have 128.
const DRAWN_CONTEXT: usize = 512;

impl Model {
    fn fixture(name: &str) -> Self {
        Self::File(data(&format!("{name}.gguf")))
    }

    /// Its file; one that is drawn is written to the folder.
    fn file(&self, folder: &Path) -> Result<PathBuf, Failed> {
        let ty = match self {
            Self::File(path) => return Ok(path.clone()),
            Self::Drawn(ty) => *ty,
        };
        let mut shape = Shape::named("tiny")?.clone();
        shape.context = DRAWN_CONTEXT;
        let path = folder.join("drawn.gguf");
        let gguf = synthetic::model(&shape, ty, 1)?;
        synthetic::write(&Device::cpu(1), &gguf, &mut File::create(&path)?, &mut |_, _| ())?;
        Ok(path)
    }
}

fn main() {
    if std::env::var_os(CHILD).is_some() {
        if let Err(error) = check(&on_paper()) {
            panic!("{}", error.message().unwrap_or("it failed"));
        }
        return;
    }
    let cpu = |model, numerics, requests, prompt, settings| Subject {
        model,
        device: DeviceChoice::Cpu,
        numerics,
        requests,
        prompt,
        answer: prompt.min(96) / 3,
        talk: 110,
        settings,
    };
    let mut trials = Vec::new();
    let mut add = |name: &str, subject: Subject| {
        trials.push(Trial::test(format!("invariance::{name}"), move || check(&subject)));
    };
    add("drawn-f16/cpu/f32", cpu(Model::Drawn(TensorType::F16), Numerics::F32, 150, 300, setting::all()));
    add("llama-f32/cpu/f32", cpu(Model::fixture("llama-f32"), Numerics::F32, 60, 60, setting::few()));
    add("llama-q4_1/cpu/tc", cpu(Model::fixture("llama-q4_1"), Numerics::Tc, 60, 60, setting::few()));
    add("drawn-bf16/cpu/tc", cpu(Model::Drawn(TensorType::BF16), Numerics::Tc, 45, 300, setting::few()));
    trials.push(Trial::test("invariance::drawn-f16/paper/f32", in_child));

    let model = common::smollm2();
    let no_gpu = Device::cuda(0, IMAGES).is_err();
    let kind = if no_gpu { "no CUDA device" } else { "" };
    let on_gpu =
        common::with_model("invariance::smollm2-135m/cuda:0/tc", &model, |path| check(&smollm2(path)));
    trials.push(on_gpu.with_kind(kind).with_ignored_flag(no_gpu && !common::required("cuda")));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn smollm2(path: &Path) -> Subject {
    Subject {
        model: Model::File(path.to_owned()),
        device: DeviceChoice::Cuda(0),
        numerics: Numerics::Tc,
        requests: 150,
        prompt: 600,
        answer: 48,
        talk: 150,
        settings: setting::all(),
    }
}

fn on_paper() -> Subject {
    Subject {
        model: Model::Drawn(TensorType::F16),
        device: DeviceChoice::Cuda(0),
        numerics: Numerics::F32,
        requests: 24,
        prompt: 140,
        answer: 20,
        talk: 110,
        settings: setting::few(),
    }
}

/// Everybody alone, then everybody in each setting.
fn check(subject: &Subject) -> Result<(), Failed> {
    let start = Instant::now();
    let folder = TempDir::new()?;
    let file = subject.model.file(folder.path())?;
    let alone = Crowd::load(&file, subject, Setting::ALONE)?;
    let (requests, expected) = workload::with_answers(subject, &alone)?;
    let tokens: usize = expected.iter().map(|answer| answer.tokens()).sum();
    alone.stop();
    println!(
        "note: {} requests, {tokens} tokens, each alone: {:.1} s",
        requests.len(),
        start.elapsed().as_secs_f64()
    );
    for &setting in &subject.settings {
        let start = Instant::now();
        let crowd = Crowd::load(&file, subject, setting)?;
        let answers = crowd.serve(&workload::shuffled(&requests, setting), setting.streams)?;
        let different = (0..requests.len()).filter(|&i| answers[i] != expected[i]).count();
        let paths = crowd.paths(setting)?;
        crowd.stop();
        println!("note: {setting}: {different} differ; {paths}; {:.1} s", start.elapsed().as_secs_f64());
        if let Some(i) = (0..requests.len()).find(|&i| answers[i] != expected[i]) {
            return Err(format!(
                "{setting}: request {i} ({:?}): {}",
                requests[i],
                answers[i].difference(&expected[i])
            )
            .into());
        }
    }
    Ok(())
}

fn in_child() -> Result<(), Failed> {
    let dir = TempDir::new()?;
    let log = dir.path().join("left");
    let mut child = Command::new(std::env::current_exe()?);
    child.env(CHILD, "1").stdin(Stdio::null());
    paper::on_paper(&mut child, &paper::paper_driver()?, &log);
    let output = child.output()?;
    print!("{}", common::stdout(&output));
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, common::stderr(&output)).into());
    }
    Ok(())
}
