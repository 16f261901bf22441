//! Keys and values of the sequences, and the queries that meet them.

use cuda_std::Value;
use kernels::flash;
use kernels::kv::PAGE;

use crate::batch::{BatchLimits, padding_pages};
use crate::device::{Buffer, Device, DeviceError, Purpose};
use crate::numerics::Form;
use crate::ops::Heads;

/// The KV cache of a model, in one of its forms.
pub enum Cache {
    /// f32.
    Full(Store<f32>),
    /// f16 or bf16.
    Half(Half),
}

/// A cache of tensor-core inputs.
pub struct Half {
    /// f16 or bf16.
    pub form: Form,
    /// The memory.
    pub store: Store<u16>,
    /// What the chunks of a few long sequences leave to be merged.
    pub partials: Partials,
}

/// The cache's memory. `V` is how an element is stored.
pub struct Store<V> {
    /// `[tokens, heads, head_dim]`: the queries of a step.
    pub queries: Buffer<V>,
    /// By block.
    pub layers: Vec<KvLayer<V>>,
}

/// Pages of one layer; their layouts are in [`kernels::kv`].
pub struct KvLayer<V> {
    /// Keys.
    pub keys: Buffer<V>,
    /// Values.
    pub values: Buffer<V>,
}

/// See [`flash::Flash`].
pub struct Partials {
    /// Weighted sums.
    pub sums: Buffer<f32>,
    /// Greatest scores and sums of weights.
    pub tops: Buffer<f32>,
}

/// Bytes of partial results at most: where more would be needed, enough sequences run to occupy a GPU without.
const MAX_PARTIALS: usize = 256 << 20;

impl Cache {
    /// Zeroed memory for `pages` pages in `blocks` layers, and the pages that fill up batches.
    ///
    /// # Errors
    /// Out of memory, or a failing driver.
    pub fn new(
        device: &Device,
        form: Form,
        heads: Heads,
        blocks: usize,
        limits: BatchLimits,
        pages: usize,
    ) -> Result<Self, DeviceError> {
        Ok(match form {
            Form::F32 => Self::Full(Store::new(device, heads, blocks, limits, pages)?),
            form => Self::Half(Half {
                form,
                store: Store::new(device, heads, blocks, limits, pages)?,
                partials: Partials::new(device, heads, limits)?,
            }),
        })
    }

    /// Of its elements.
    pub fn form(&self) -> Form {
        match self {
            Self::Full(_) => Form::F32,
            Self::Half(half) => half.form,
        }
    }
}

impl<V: Value> Store<V> {
    fn new(
        device: &Device,
        heads: Heads,
        blocks: usize,
        limits: BatchLimits,
        pages: usize,
    ) -> Result<Self, DeviceError> {
        let tokens = limits.tokens.max(limits.sequences.next_power_of_two());
        let layer = (pages + padding_pages(limits)) * PAGE * heads.kv * heads.dim;
        Ok(Self {
            queries: device.alloc(Purpose::Activations, tokens * heads.query * heads.dim)?,
            layers: (0..blocks)
                .map(|_| {
                    let keys = device.alloc(Purpose::KvCache, layer)?;
                    Ok(KvLayer { keys, values: device.alloc(Purpose::KvCache, layer)? })
                })
                .collect::<Result<_, DeviceError>>()?,
        })
    }
}

impl Partials {
    fn new(device: &Device, heads: Heads, limits: BatchLimits) -> Result<Self, DeviceError> {
        let wanted = limits.sequences.next_power_of_two() * limits.context.div_ceil(flash::CHUNK);
        let row = heads.query * (heads.dim + 2);
        let rows = wanted.min(MAX_PARTIALS / (4 * row)) * heads.query;
        Ok(Self {
            sums: device.alloc(Purpose::Activations, rows * heads.dim)?,
            tops: device.alloc(Purpose::Activations, rows * 2)?,
        })
    }
}
