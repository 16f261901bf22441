//! A mixture of experts: which of them compute a token, their products, and what they give together.
//!
//! A token and one of its experts are a *pair*, number `token used + slot`. All launches depend on the number of tokens alone,
//! so that a graph of them serves whatever experts are chosen.

use kernels::experts::ExpertProduct;
use kernels::product::Rounding;
use kernels::{expert_matmul, expert_matvec, expert_sum, expert_swiglu, router};

use super::{Done, multiply};
use crate::device::{Buffer, Device, DeviceError, Purpose};
use crate::model::experts::Experts;
use crate::model::linear::Linear;
use crate::numerics::Form;
use crate::products::Products;
use crate::rows::{Rows, nothing};

/// Which experts compute the tokens of a step.
pub struct Routing {
    experts: usize,
    used: usize,
    /// `[tokens, experts]`.
    logits: Buffer<f32>,
    /// `[tokens, used]`.
    chosen: Buffer<u32>,
    /// `[tokens, used]`.
    weights: Buffer<f32>,
    /// `[tokens used]`, see [`router::Group`].
    sorted: Buffer<u32>,
    /// `[.., 3]`, see [`router::Group`].
    tiles: Buffer<u32>,
}

impl Routing {
    /// Memory for so many tokens, of which each has `used` of the experts.
    ///
    /// # Errors
    /// Out of memory, or a failing driver.
    pub fn new(device: &Device, tokens: usize, experts: usize, used: usize) -> Result<Self, DeviceError> {
        assert!(used <= experts && experts <= router::MAX_EXPERTS);
        let (purpose, pairs) = (Purpose::Activations, tokens * used);
        // A lone token has a tile for each pair; otherwise tiles are of 8 pairs or more.
        let tiles = router::tiles(pairs, experts, 8).max(used);
        Ok(Self {
            experts,
            used,
            logits: device.alloc(purpose, tokens * experts)?,
            chosen: device.alloc(purpose, pairs)?,
            weights: device.alloc(purpose, pairs)?,
            sorted: device.alloc(purpose, pairs)?,
            tiles: device.alloc(purpose, 3 * tiles)?,
        })
    }

    /// Experts of a token.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Pairs in a tile at most, before matrices that take this form.
    pub fn tile(&self, device: &Device, form: Form, tokens: usize) -> usize {
        match form {
            Form::F32 => expert_matvec::tile(tokens),
            _ => expert_matmul::tile(tokens * self.used, self.experts, device.scratch()),
        }
    }

    /// Tiles that there may be.
    fn tiles(&self, tile: usize, tokens: usize) -> usize {
        router::tiles(tokens * self.used, self.experts, tile)
    }
}

/// Chooses each token's experts by the products of `w` with its row.
pub fn choose(
    device: &Device,
    products: &Products,
    w: &Linear,
    x: &Rows,
    tokens: usize,
    routing: &Routing,
) -> Done {
    let Routing { experts, used, logits, chosen, weights, .. } = routing;
    let pairs = tokens * used;
    assert_eq!(w.rows(), *experts, "a router of other experts");
    multiply(device, products, w, x, tokens, logits)?;
    // SAFETY: the views have the sizes the kernels document.
    unsafe {
        let choose = router::Choose {
            logits: w.product(0, x, tokens, logits, Rounding::NONE),
            chosen: chosen.view_mut(0, pairs),
            weights: weights.view_mut(0, pairs),
            tokens: tokens as u32,
            experts: *experts as u32,
            used: *used as u32,
        };
        device.launch(&router::CHOOSE, &choose)
    }
}

/// Groups the pairs by their experts, for [`experts`] of tiles of up to `tile` pairs.
pub fn group(device: &Device, tokens: usize, routing: &Routing, tile: usize) -> Done {
    let Routing { experts, used, chosen, sorted, tiles, .. } = routing;
    let pairs = tokens * used;
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let group = router::Group {
            chosen: chosen.view(0, pairs),
            sorted: sorted.view_mut(0, pairs),
            tiles: tiles.view_mut(0, 3 * routing.tiles(tile, tokens)),
            pairs: pairs as u32,
            experts: *experts as u32,
            tile: tile as u32,
        };
        device.launch(&router::GROUP, &group)
    }
}

/// Leaves the sums of every pair's row with its expert's matrix in `sums` from `at` on, `[tokens used, rows]`. `share`
/// neighbouring pairs have the same row of `x`. The pairs are [grouped](group) in tiles of the size for `w`'s form.
#[allow(clippy::too_many_arguments, reason = "each is one operand")]
pub fn experts(
    device: &Device,
    w: &Experts,
    (x, share): (&Rows, usize),
    tokens: usize,
    routing: &Routing,
    sums: &Buffer<f32>,
    at: usize,
) -> Done {
    let (pairs, tile) = (tokens * routing.used, routing.tile(device, w.form(), tokens));
    let (matrix, count) = (w.matrix(), routing.tiles(tile, tokens));
    assert_eq!(x.width(), matrix.columns, "rows of another width");
    assert!(w.count() == routing.experts && pairs.is_multiple_of(share));
    let inputs = pairs / share * matrix.columns;
    let (k, n, share) = (matrix.columns as u32, w.rows() as u32, share as u32);
    // SAFETY: the views have the sizes the kernels document; chosen experts are below their number; `Rows` has this form.
    unsafe {
        let (bytes, y) = (matrix.bytes.view(0, matrix.bytes.len()), sums.view_mut(at, pairs * w.rows()));
        let (sorted, tiles) = (routing.sorted.view(0, pairs), routing.tiles.view(0, 3 * count));
        let (form, w, count) = (w.form(), bytes, count as u32);
        if form == Form::F32 {
            let x = x.values().view(0, inputs);
            let args = expert_matvec::ExpertMatVec { w, x, y, sorted, tiles, k, n, share, count };
            let kernel = expert_matvec::of(matrix.stored, tile).expect("experts of a type that is supported");
            return device.launch(kernel, &args);
        }
        let x = x.bits().view(0, inputs);
        let args = expert_matmul::ExpertMatMul { w, x, y, sorted, tiles, k, n, share, count };
        let kernel = expert_matmul::of(matrix.stored, tile).expect("experts of a type that is supported");
        device.launch(kernel, &args)
    }
}

/// The sums of `pairs` pairs that [`experts`] left from `at` on.
///
/// # Safety
/// See [`Linear::product`].
unsafe fn product(
    w: &Experts,
    x: &Rows,
    pairs: usize,
    routing: &Routing,
    (sums, at): (&Buffer<f32>, usize),
    rounding: Rounding,
) -> ExpertProduct {
    // SAFETY: the caller's promise.
    unsafe {
        ExpertProduct {
            sums: sums.view(at, pairs * w.rows()),
            bias: w.matrix().bias.as_ref().map_or_else(nothing, |bias| bias.view(0, bias.len())),
            chosen: routing.chosen.view(0, pairs),
            factor: x.factor(w.form()),
            n: w.rows() as u32,
            rounding,
        }
    }
}

/// The clamped activation of gpt-oss, of the sums that [`experts`] left of `gate` and, behind them, of `up`, with `x`: a row
/// a pair, in a form.
pub fn expert_swiglu(
    device: &Device,
    [gate, up]: [&Experts; 2],
    x: &Rows,
    tokens: usize,
    routing: &Routing,
    sums: &Buffer<f32>,
    (y, form): (&Rows, Form),
) -> Done {
    let (pairs, n) = (tokens * routing.used, gate.rows());
    assert!(y.width() == n && up.rows() == n, "rows of another width");
    let kernel = match form {
        Form::F32 => &expert_swiglu::F32,
        Form::F16 => &expert_swiglu::F16_,
        Form::Bf16 => &expert_swiglu::BF16,
    };
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let part = |w: &Experts, at| product(w, x, pairs, routing, (sums, at), w.form().rounding());
        let args = expert_swiglu::ExpertSwiglu {
            gate: part(gate, 0),
            up: part(up, pairs * n),
            y: y.view_mut(form, pairs),
            alpha: ALPHA,
            limit: LIMIT,
            n: n as u32,
            pairs: pairs as u32,
        };
        device.launch(kernel, &args)
    }
}

/// gpt-oss's, which its files do not say.
const ALPHA: f32 = 1.702;
const LIMIT: f32 = 7.0;

/// The weighted sum of each token's experts, of the sums that [`experts`] left of `w` with `x`, a row a pair.
pub fn expert_sum(
    device: &Device,
    w: &Experts,
    x: &Rows,
    tokens: usize,
    routing: &Routing,
    sums: &Buffer<f32>,
    y: &Buffer<f32>,
) -> Done {
    let (pairs, n) = (tokens * routing.used, w.rows());
    // SAFETY: the views have the sizes the kernel documents.
    unsafe {
        let args = expert_sum::ExpertSum {
            values: product(w, x, pairs, routing, (sums, 0), Rounding::NONE),
            weights: routing.weights.view(0, pairs),
            y: y.view_mut(0, tokens * n),
            n: n as u32,
            used: routing.used as u32,
            tokens: tokens as u32,
        };
        device.launch(&expert_sum::SUM, &args)
    }
}
