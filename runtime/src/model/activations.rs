//! What a step computes on its way.

use kernels::embed::NO_FAULT;

use crate::batch::BatchLimits;
use crate::device::{Buffer, Device, DeviceError, Purpose};
use crate::model::architecture::Input;
use crate::model::config::{Mixture, ModelConfig};
use crate::model::transformer::Transformer;
use crate::numerics::Form;
use crate::ops::{self, Routing};
use crate::rows::Rows;

/// What a step computes on its way, one buffer a role.
pub(super) struct Activations {
    /// `[tokens, hidden]`: the residual stream.
    pub(super) x: Buffer<f32>,
    /// `[tokens, hidden]`: the normed input of a part, and of the output.
    pub(super) normed: Rows,
    /// `[tokens, heads, head_dim]`: what attention gives.
    pub(super) attended: Rows,
    /// `[tokens, feed_forward]`: the activation within the feed-forward part; of a mixture a row for each expert of a token.
    pub(super) inner: Rows,
    /// `[tokens, ..]`: sums of Q, K and V, or of gate and up, or of experts.
    pub(super) wide: Buffer<f32>,
    /// `[tokens, hidden]`: sums of what is added to the residual stream.
    pub(super) narrow: Buffer<f32>,
    /// Which experts compute the tokens, of a mixture.
    pub(super) routing: Option<Routing>,
    /// `[sequences, vocab]`.
    pub(super) logits: Buffer<f32>,
    /// One value, see [`kernels::embed`]; ids are checked before, so it stays as it is.
    pub(super) fault: Buffer<u32>,
}

impl Activations {
    pub(super) fn new(
        device: &Device,
        config: &ModelConfig,
        transformer: &Transformer,
        limits: BatchLimits,
        cache: Form,
    ) -> Result<Self, DeviceError> {
        let sequences = limits.sequences.next_power_of_two();
        let (tokens, heads) = (limits.tokens.max(sequences), config.heads);
        let linears: Vec<_> = transformer.blocks.iter().flat_map(|block| block.linears()).collect();
        let of = |input| linears.iter().filter(move |linear| linear.0 == input).map(|linear| linear.1);
        let experts: Vec<_> = transformer.blocks.iter().flat_map(|block| block.experts()).collect();
        let forms = |input| {
            let of_experts = experts.iter().filter(move |experts| experts.0 == input);
            of(input)
                .flat_map(|linear| linear.matrices().map(|(_, form)| form))
                .chain(of_experts.map(|experts| experts.1.form()))
        };
        let rows = |width: usize, forms: Vec<Form>| Rows::new(device, tokens, width, &forms);
        let alloc = |len: usize| device.alloc(Purpose::Activations, len);

        let widest = of(Input::Normed).map(|linear| linear.rows()).max().unwrap_or(0);
        // Of experts: gate and up, then down.
        let of_pair = |mixture: Mixture| mixture.used * (2 * mixture.feed_forward).max(config.hidden);
        let wide = tokens * widest.max(config.mixture.map_or(0, of_pair));
        let inner_forms: Vec<Form> = forms(Input::Inner).collect();
        let (inner, routing) = match config.mixture {
            None => (Rows::activation(device, tokens, config.feed_forward, &inner_forms)?, None),
            Some(Mixture { experts, used, feed_forward }) => (
                Rows::activation(device, tokens * used, feed_forward, &inner_forms)?,
                Some(Routing::new(device, tokens, experts, used)?),
            ),
        };
        // In f32 too: observers look at it.
        let normed = forms(Input::Normed).chain([transformer.output.form(), Form::F32]).collect();
        let attended = forms(Input::Attended).flat_map(|form| [form, ops::attended(cache, form)]).collect();
        let fault = {
            let mut fault = device.alloc(Purpose::Activations, 1)?;
            device.upload(&mut fault, 0, &[NO_FAULT])?;
            fault
        };
        Ok(Self {
            x: alloc(tokens * config.hidden)?,
            normed: rows(config.hidden, normed)?,
            attended: rows(heads.query * heads.dim, attended)?,
            inner,
            wide: alloc(wide)?,
            routing,
            narrow: alloc(tokens * config.hidden)?,
            logits: alloc(sequences * config.vocab)?,
            fault,
        })
    }
}
