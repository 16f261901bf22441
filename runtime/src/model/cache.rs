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
    /// f16 or bf16, as the form says.
    Half(Form, Store<u16>),
}

/// The cache's memory. `V` is how an element is stored.
pub struct Store<V> {
    /// `[tokens, heads, head_dim]`: the queries of a step.
    pub queries: Buffer<V>,
    /// By block.
    pub layers: Vec<KvLayer<V>>,
    /// What the chunks of a few long sequences leave to be merged.
    pub partials: Partials,
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
            Form::F32 => Self::Full(Store::new(device, heads, blocks, limits, pages, 0)?),
            form => {
                let wanted = limits.sequences.next_power_of_two() * limits.context.div_ceil(flash::CHUNK);
                let row = heads.query * (heads.dim + 2);
                let partials = wanted.min(MAX_PARTIALS / (4 * row));
                Self::Half(form, Store::new(device, heads, blocks, limits, pages, partials)?)
            }
        })
    }
}

impl<V: Value> Store<V> {
    fn new(
        device: &Device,
        heads: Heads,
        blocks: usize,
        limits: BatchLimits,
        pages: usize,
        partials: usize,
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
            partials: Partials {
                sums: device.alloc(Purpose::Activations, partials * heads.query * heads.dim)?,
                tops: device.alloc(Purpose::Activations, partials * heads.query * 2)?,
            },
        })
    }
}
