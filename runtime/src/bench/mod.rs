//! How fast a model is on a device: prompts and generation, as the engine runs them, beside what the device's memory can
//! do.

mod copy;
mod overhead;
mod report;
mod streams;

use std::time::Instant;

use kernels::kv::PAGE;

use crate::device::{Device, DeviceError, Purpose};
use crate::gguf::Gguf;
use crate::model::config::ModelConfig;
use crate::model::{Model, ModelError};
use crate::numerics::Numerics;
use crate::worker;

pub use overhead::{NullEngine, serve_null};
pub use report::{About, Kind, Row};
use streams::{Room, Streams};

/// What to measure: each prompt and each generation, after each depth, with each number of streams.
#[derive(Debug, Clone)]
pub struct Options {
    /// Lengths of prompts, computed in one stream; 0 is left out.
    pub prompts: Vec<usize>,
    /// Numbers of tokens to generate in each stream; 0 is left out.
    pub generate: Vec<usize>,
    /// Numbers of streams that generate at once.
    pub batches: Vec<usize>,
    /// Tokens that are in each stream before.
    pub depths: Vec<usize>,
    /// Measured repetitions, after one that is not.
    pub repetitions: usize,
    /// Tokens of a prompt computed at once; as many as the engine takes where `None`.
    pub step: Option<usize>,
    /// Whether each row is run once more with every launch timed.
    pub profile: bool,
    /// The arithmetic of matrix products; the device's default where `None`.
    pub numerics: Option<Numerics>,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The options leave nothing to do.
    #[error("nothing to measure: give a prompt's length, or a number of tokens to generate, that is not 0")]
    Nothing,
    /// A number that must be 1 at least.
    #[error("{0} must not be 0")]
    Zero(&'static str),
    /// More tokens than the model has positions.
    #[error("{row} needs {needed} positions, the model's context has {context}")]
    Context {
        /// The row.
        row: String,
        /// Positions that it needs.
        needed: usize,
        /// Positions there are.
        context: usize,
    },
    /// Weights and pages do not fit.
    #[error(
        "{device} has {free} bytes free: {streams} streams of up to {tokens} tokens take {kv} of keys and values, \
         beside {weights} of weights; take fewer streams or a smaller depth"
    )]
    Memory {
        /// The device.
        device: String,
        /// Bytes that are free.
        free: u64,
        /// Streams.
        streams: usize,
        /// Tokens of the longest.
        tokens: usize,
        /// Bytes of keys and values.
        kv: u64,
        /// Bytes of weights.
        weights: u64,
    },
    /// The model computes no numbers.
    #[error("the model's logits are not numbers")]
    Logits,
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Steps of a generation that are profiled at most.
const PROFILED: usize = 4;

/// A loaded model, about to be measured.
pub struct Bench<'a> {
    device: &'a Device,
    /// What is measured where.
    pub about: About,
    options: Options,
    sizes: Sizes,
    streams: Streams<'a>,
    /// Tokens that every stream has, from position 0 on.
    filled: usize,
}

/// What a step reads.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Bytes of weights in every step.
    body: u64,
    /// Bytes of one expert of every layer.
    expert: u64,
    /// Experts of a layer, and those that compute a token; none where there is no mixture.
    experts: (usize, usize),
    /// Bytes of the matrix that makes logits.
    output: u64,
    /// Bytes of the keys and values of a token.
    token: u64,
}

impl<'a> Bench<'a> {
    /// Checks that everything fits, measures a copy, and loads the model. `progress` is told the bytes loaded and in all.
    ///
    /// # Errors
    /// See [`BenchError`]; checks come before work.
    pub fn load(
        device: &'a Device,
        gguf: &Gguf,
        mut options: Options,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, BenchError> {
        let config = ModelConfig::from_gguf(gguf)?;
        options.prompts.retain(|&tokens| tokens > 0);
        options.generate.retain(|&tokens| tokens > 0);
        // A greater depth goes on from a smaller one.
        options.depths.sort_unstable();
        let room = room(&options, config.context, worker::step_tokens(device))?;
        let numerics = options.numerics.unwrap_or(Numerics::default_of(device));
        let page = Model::page_bytes(gguf, &config, numerics) as u64;
        let sizes = Sizes::of(gguf, &config, page);
        let weights: u64 = gguf.tensors().iter().map(|tensor| tensor.bytes.len() as u64).sum();
        let kv = (room.pages() as u64).saturating_mul(page);
        let (_, free) = device.memory()?;
        // The CPU's system may not say; then the allocation tells.
        if free > 0 && weights.saturating_add(kv) > free {
            return Err(BenchError::Memory {
                device: device.name(),
                free,
                streams: room.streams,
                tokens: room.first.max(room.others),
                kv,
                weights,
            });
        }
        let copy = copy::bandwidth(device)?;
        let start = Instant::now();
        let streams = Streams::load(device, gguf, room, numerics, progress)?;
        let seconds = start.elapsed().as_secs_f64();
        let driver = cuda_loader::driver().ok().filter(|_| device.name() != "cpu");
        let usage = device.usage();
        let about = About {
            device: device.name(),
            description: device.description(),
            driver: driver.map(|driver| driver.version().to_string()),
            architecture: config.architecture,
            quant: gguf.quant_kind().map_or_else(String::new, |ty| ty.name().to_owned()),
            numerics: numerics.name(),
            weight_bytes: weights,
            kv_bytes: usage.of(Purpose::KvCache),
            other_bytes: usage.of(Purpose::Activations) + usage.of(Purpose::Inputs),
            load_seconds: seconds,
            copy,
            step: room.step,
            repetitions: options.repetitions,
        };
        Ok(Self { device, about, options, sizes, streams, filled: 0 })
    }

    /// Measures everything; `each` is told every row as it comes.
    ///
    /// # Errors
    /// A failing device; numbers that are none.
    pub fn run(&mut self, each: &mut dyn FnMut(&Row)) -> Result<Vec<Row>, BenchError> {
        let mut rows = Vec::new();
        for depth in self.options.depths.clone() {
            self.fill(depth)?;
            for tokens in self.options.prompts.clone() {
                rows.push(self.row(Kind::Prompt, tokens, 1, depth)?);
                rows.last().into_iter().for_each(&mut *each);
            }
            for tokens in self.options.generate.clone() {
                for batch in self.options.batches.clone() {
                    rows.push(self.row(Kind::Generate, tokens, batch, depth)?);
                    rows.last().into_iter().for_each(&mut *each);
                }
            }
        }
        Ok(rows)
    }

    /// Every stream that is used gets `depth` tokens. Rows before wrote at the old depth and beyond, where this writes now.
    fn fill(&mut self, depth: usize) -> Result<(), BenchError> {
        let ids = self.streams.ids(depth - self.filled);
        let used = if self.options.generate.is_empty() { 1 } else { most(&self.options.batches) };
        for stream in 0..used {
            self.streams.prompt(stream, self.filled, &ids)?;
        }
        self.filled = depth;
        Ok(())
    }

    fn row(&mut self, kind: Kind, tokens: usize, batch: usize, depth: usize) -> Result<Row, BenchError> {
        let mut seconds = Vec::new();
        for repetition in 0..=self.options.repetitions {
            let start = Instant::now();
            self.once(kind, tokens, batch, depth)?;
            // The first compiles kernels and warms caches.
            if repetition > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        let (steps, bytes) = match kind {
            Kind::Prompt => self.sizes.of_prompt(depth, tokens, self.about.step),
            Kind::Generate => (tokens, self.sizes.of_generation(depth, tokens, batch)),
        };
        let mut profile = Vec::new();
        if self.options.profile {
            self.device.begin_profile();
            // A few steps tell as much as many.
            self.once(kind, if kind == Kind::Prompt { tokens } else { tokens.min(PROFILED) }, batch, depth)?;
            profile = self.device.end_profile()?;
        }
        Ok(Row { kind, tokens, batch, depth, seconds, steps, bytes, profile })
    }

    fn once(&mut self, kind: Kind, tokens: usize, batch: usize, depth: usize) -> Result<(), BenchError> {
        let ids = self.streams.ids(if kind == Kind::Prompt { tokens } else { batch });
        match kind {
            Kind::Prompt => self.streams.prompt(0, depth, &ids),
            Kind::Generate => self.streams.generate(depth, ids, tokens),
        }
    }
}

impl Sizes {
    fn of(gguf: &Gguf, config: &ModelConfig, page: u64) -> Self {
        let bytes = |name| gguf.tensor(name).map_or(0, |tensor| tensor.bytes.len() as u64);
        let total: u64 = gguf.tensors().iter().map(|tensor| tensor.bytes.len() as u64).sum();
        let (embedding, output) = (bytes("token_embd.weight"), bytes("output.weight"));
        let of_experts = gguf.tensors().iter().filter(|tensor| tensor.name.contains("_exps."));
        let of_experts: u64 = of_experts.map(|tensor| tensor.bytes.len() as u64).sum();
        let experts = config.mixture.map_or((0, 0), |mixture| (mixture.experts, mixture.used));
        Self {
            // Of the embedding a step reads a row for each token.
            body: total - embedding - output - of_experts,
            expert: of_experts / experts.0.max(1) as u64,
            experts,
            output: if output > 0 { output } else { embedding },
            token: page / PAGE as u64,
        }
    }

    /// Bytes of the blocks' weights in a step of so many tokens: of the experts as many as these may choose.
    fn blocks(&self, tokens: usize) -> u64 {
        let (experts, used) = self.experts;
        self.body + self.expert * experts.min(used.saturating_mul(tokens)) as u64
    }

    /// Steps of a prompt, and bytes of them all: weights once a step, the output matrix in the last, and once a step the
    /// keys and values up to its end.
    fn of_prompt(&self, depth: usize, tokens: usize, step: usize) -> (usize, u64) {
        let steps = tokens.div_ceil(step);
        let positions: usize = (1..=steps).map(|i| depth + tokens.min(i.saturating_mul(step))).sum();
        (steps, self.blocks(tokens.min(step)) * steps as u64 + self.output + self.token * positions as u64)
    }

    /// Bytes of all steps: weights once a step, and every stream's keys and values.
    fn of_generation(&self, depth: usize, steps: usize, batch: usize) -> u64 {
        let positions: usize = (1..=steps).map(|i| depth + i).sum();
        (self.blocks(batch) + self.output) * steps as u64 + self.token * (batch * positions) as u64
    }
}

/// The room for all rows, if the model has it.
fn room(options: &Options, context: usize, step: usize) -> Result<Room, BenchError> {
    let step = options.step.unwrap_or(step);
    if options.prompts.is_empty() && options.generate.is_empty() {
        return Err(BenchError::Nothing);
    }
    let batches = if options.generate.is_empty() { &[1][..] } else { &options.batches };
    for (what, zero) in [
        ("the number of streams", batches.is_empty() || batches.contains(&0)),
        ("the number of depths", options.depths.is_empty()),
        ("the number of repetitions", options.repetitions == 0),
        ("the tokens of a step", step == 0),
    ] {
        if zero {
            return Err(BenchError::Zero(what));
        }
    }
    let depth = most(&options.depths);
    for (kind, tokens) in [(Kind::Prompt, &options.prompts), (Kind::Generate, &options.generate)] {
        let (tokens, batch) = (most(tokens), 1);
        let needed = depth.saturating_add(tokens);
        if needed > context {
            let row = Row {
                kind,
                tokens,
                batch,
                depth,
                seconds: Vec::new(),
                steps: 0,
                bytes: 0,
                profile: Vec::new(),
            }
            .name();
            return Err(BenchError::Context { row, needed, context });
        }
    }
    let others = depth + most(&options.generate);
    Ok(Room { step, streams: most(batches), first: others.max(depth + most(&options.prompts)), others })
}

fn most(list: &[usize]) -> usize {
    list.iter().copied().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(prompts: &[usize], generate: &[usize], batches: &[usize], depths: &[usize]) -> Options {
        let [prompts, generate, batches, depths] =
            [prompts, generate, batches, depths].map(<[usize]>::to_vec);
        Options {
            prompts,
            generate,
            batches,
            depths,
            repetitions: 1,
            step: None,
            profile: false,
            numerics: None,
        }
    }

    #[test]
    fn the_first_stream_has_room_for_prompts_and_the_others_for_what_they_generate() {
        let room = room(&options(&[100, 40], &[8, 3], &[2, 5], &[64, 0]), 164, 16).expect("it fits");
        assert_eq!((room.streams, room.first, room.others, room.step), (5, 164, 72, 16));
        // Pages of 32: six for 164 tokens, three for 72.
        assert_eq!(room.pages(), 6 + 4 * 3);
    }

    #[test]
    fn without_generation_there_is_one_stream() {
        let room = room(&options(&[100], &[], &[8], &[0]), 100, 16).expect("it fits");
        assert_eq!((room.streams, room.pages()), (1, 4));
    }

    #[test]
    fn a_step_reads_all_weights_once_and_what_each_stream_has() {
        let sizes = Sizes { body: 1000, expert: 0, experts: (0, 0), output: 100, token: 7 };
        // Two steps over 3 streams, at 10 and 11 positions.
        assert_eq!(sizes.of_generation(9, 2, 3), 2 * 1100 + 7 * 3 * (10 + 11));
        // 40 tokens in steps of 16 end at positions 21, 37 and 45; logits come of the last step alone.
        assert_eq!(sizes.of_prompt(5, 40, 16), (3, 3 * 1000 + 100 + 7 * (21 + 37 + 45)));
    }

    #[test]
    fn a_step_reads_as_many_experts_as_its_tokens_may_choose() {
        let sizes = Sizes { body: 1000, expert: 10, experts: (32, 4), output: 100, token: 0 };
        assert_eq!(sizes.of_generation(0, 2, 1), 2 * (1100 + 4 * 10));
        assert_eq!(sizes.of_generation(0, 1, 3), 1100 + 12 * 10);
        assert_eq!(sizes.of_generation(0, 1, 9), 1100 + 32 * 10);
        assert_eq!(sizes.of_prompt(0, 2, 16), (1, 1100 + 8 * 10));
        assert_eq!(sizes.of_prompt(0, 40, 16), (3, 3 * (1000 + 32 * 10) + 100));
    }
}
