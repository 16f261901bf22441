//! A row's bits do not depend on the rows beside it.

use kernels::{broad, expert_matmul};
use libtest_mimic::Failed;
use runtime::device::Device;

use crate::cases::expect::same_bits;
use crate::cases::expert_rows::Together;
use crate::cases::float::Float;
use crate::cases::gelu::Activation;
use crate::cases::mixture::{Mixture, Shape, Way};
use crate::cases::norm::Norm;
use crate::cases::router::Choice;
use crate::cases::rows::Rounded;
use crate::cases::stored::{Layout, Stored};
use crate::cases::swiglu::Gate;
use crate::cases::{Case, Entry, layer_norm, matmul, matvec, qmatmul};
use crate::trials::run;

/// Every output of `among` has `rows` parts, which are the outputs of the rows alone.
fn same_alone<C: Case>(
    device: &Device,
    among: &dyn Case,
    rows: usize,
    alone: impl Fn(usize) -> C,
) -> Result<(), Failed> {
    let all = run(among, device, Entry::Device(device))?;
    for row in 0..rows {
        let outputs = run(&alone(row), device, Entry::Device(device))?;
        assert_eq!(outputs.len(), all.len());
        for (got, all) in outputs.iter().zip(&all) {
            let part = all.len() / rows;
            same_bits(got, &all[row * part..][..part])
                .map_err(|error| format!("{}: row {row}: {error}", among.label()))?;
        }
    }
    Ok(())
}

pub(crate) fn of_matvec(stored: Stored, device: &Device) -> Result<(), Failed> {
    let among = matvec::Product::new(stored, 8, 37, stored.row_length(600), 17);
    same_alone(device, &among, among.m, |row| {
        let x = among.x[row * among.k..][..among.k].to_vec();
        matvec::Product { together: 1, m: 1, w: among.w.clone(), x, ..among }
    })
}

pub(crate) fn of_matmul(float: Float, device: &Device) -> Result<(), Failed> {
    for spread in [1, 10] {
        let among = matmul::Product::new(float, 37, 600, 17, spread);
        same_alone(device, &among, among.m, |row| {
            let x = among.x[row * among.k..][..among.k].to_vec();
            matmul::Product { m: 1, w: among.w.clone(), x, ..among }
        })?;
    }
    Ok(())
}

pub(crate) fn of_qmatmul(stored: Stored, device: &Device) -> Result<(), Failed> {
    let among = qmatmul::Product::new(stored, 37, stored.row_length(608), 17, 4);
    same_alone(device, &among, among.m, |row| among.row(row))
}

/// An activation that is made of sums as they are computed has the bits of one made of them afterwards.
pub(crate) fn gated_at_once_is_gated_afterwards(stored: Stored, device: &Device) -> Result<(), Failed> {
    let run = |case: &dyn Case| run(case, device, Entry::Device(device));
    let groups = device.is_cpu() || device.has_warpgroups();
    let shapes = [
        (34, 96, 1),
        (200, 320, 3),
        (16, 64, 8),
        (208, 576, 40),
        (258, 96, 70),
        (40, 64, 131),
        (256, 256, 70),
        (512, 512, 131),
    ];
    let mut count = 0;
    let mut ways =
        vec![(qmatmul::MANY_ROWS, qmatmul::Way::Warps), (qmatmul::UNEVEN_ROWS, qmatmul::Way::Warps)];
    if groups {
        ways.extend([
            (qmatmul::MANY_ROWS, qmatmul::Way::Group),
            (qmatmul::BLOCKS_OF_128, qmatmul::Way::Broad),
        ]);
        ways.push((qmatmul::UNEVEN_ROWS, qmatmul::Way::Broad));
    }
    let ways = shapes.into_iter().flat_map(|shape| ways.iter().map(move |&way| (shape, way)));
    for ((n, k, m), (rows, way)) in ways {
        let product = qmatmul::Product::new(stored, n, stored.row_length(k), m, 4);
        let product = qmatmul::Product { rows, way, ..product };
        let whole = way != qmatmul::Way::Broad || n % 256 == 0;
        if !whole || !product.chosen().is_some_and(|chosen| chosen.gates) {
            continue;
        }
        count += 1;
        let sums = run(&product)?.swap_remove(0);
        let sums: Vec<f32> = sums.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let want = run(&product.activation(&sums))?.swap_remove(0);
        let got = run(&qmatmul::Product { gated: true, ..product })?.swap_remove(0);
        same_bits(&got, &want)
            .map_err(|error| format!("n={n} k={k} m={m} as of {rows} rows, {way:?}: {error}"))?;
    }
    assert!(count >= 6, "{count} kernels gate");
    Ok(())
}

/// What the kernels whose blocks make weights in scratch memory are chosen for.
pub(crate) fn whole_blocks_for_most_multiprocessors(stored: Stored) -> Result<(), Failed> {
    let rows_of_block = |rows, tokens| {
        broad::of(stored, rows, tokens)
            .map(|chosen| chosen.kernel.name.rsplit('_').next().expect("a name's end"))
    };
    for (rows, tokens, want) in [
        (28_672, 128, Some("256")),
        (28_672, 65, Some("256")),
        (28_672, 64, None),
        (10_240, 128, Some("128")),
        (6144, 128, None),
        (6144, 256, Some("128")),
        // Blocks are whole.
        (28_672 + 64, 128, None),
    ] {
        let got = rows_of_block(rows, tokens);
        if got != want {
            return Err(format!("{rows} rows, {tokens} tokens: blocks of {got:?} rows, not {want:?}").into());
        }
    }
    Ok(())
}

pub(crate) fn of_norm(form: Float, device: &Device) -> Result<(), Failed> {
    for (n, variant) in [(576, 7), (1000, 10)] {
        let among = Norm::new(form, 9, n).with_product(variant);
        same_alone(device, &among, 9, |row| among.row(row))?;
    }
    Ok(())
}

pub(crate) fn of_swiglu(form: Float, device: &Device) -> Result<(), Failed> {
    for (n, variant) in [(576, 7), (1000, 10)] {
        let among = Gate::new(form, 9, n, variant);
        same_alone(device, &among, 9, |row| among.row(row))?;
    }
    Ok(())
}

pub(crate) fn of_layer_norm(form: Float, device: &Device) -> Result<(), Failed> {
    for (n, variant) in [(576, 7), (1000, 10)] {
        let among = layer_norm::Norm::new(form, 9, n).with_product(variant);
        same_alone(device, &among, 9, |row| among.row(row))?;
    }
    Ok(())
}

pub(crate) fn of_gelu(form: Float, device: &Device) -> Result<(), Failed> {
    for (n, variant) in [(576, 7), (1000, 10)] {
        let among = Activation::new(form, 9, n, variant);
        same_alone(device, &among, 9, |row| among.row(row))?;
    }
    Ok(())
}

pub(crate) fn of_rounding(form: Float, device: &Device) -> Result<(), Failed> {
    let among = Rounded::new(form, 17, 600);
    same_alone(device, &among, 17, |row| Rounded { x: among.x[row * 600..][..600].to_vec(), ..among })
}

/// Dequantised to 16 bits and multiplied as such, weights give the bits of the product that dequantises on its way.
pub(crate) fn dequantised_before_is_dequantised_on_the_way(
    stored: Stored,
    device: &Device,
) -> Result<(), Failed> {
    let run = |case: &dyn Case| run(case, device, Entry::Device(device));
    for (n, k, m, spread) in [(48, 576, 17, 3), (33, 64, 1, 10), (200, 1536, 3, 1)] {
        let product = qmatmul::Product::new(stored, n, stored.row_length(k), m, spread);
        let halves = run(&product.weights())?.swap_remove(0);
        let halves = halves.as_chunks().0.iter().map(|&bytes| u16::from_le_bytes(bytes)).collect();
        same_bits(&run(&product)?[0], &run(&product.with_halves(halves))?[0])?;
    }
    Ok(())
}

pub(crate) fn of_choice(device: &Device) -> Result<(), Failed> {
    for levels in [0, 3] {
        let among = Choice::new(17, 32, 4, 7, levels);
        same_alone(device, &among, 17, |token| among.row(token))?;
    }
    Ok(())
}

pub(crate) fn of_expert_sum(device: &Device) -> Result<(), Failed> {
    let among = Together::new(9, 4, 600, 7);
    same_alone(device, &among, 9, |token| among.token(token))
}

/// Among other pairs, and alone with its token, a pair has the bits of its row's product with its expert's matrix, as the
/// kernel computes it that knows no experts.
pub(crate) fn of_mixture(stored: Stored, tensor_core: bool, device: &Device) -> Result<(), Failed> {
    let ways = if tensor_core {
        &expert_matmul::TILES.map(Way::TensorCore)[..]
    } else {
        &[Way::Chain(1), Way::Chain(8)]
    };
    for (way, share) in ways.iter().flat_map(|&way| [(way, 4), (way, 1)]) {
        let shape = Shape { n: 37, k: stored.row_length(288), experts: 8, used: 4, share };
        let among = Mixture::new(stored, way, shape, 41, 4);
        let all = run(&among, device, Entry::Device(device))?.swap_remove(0);
        let row = all.len() / among.chosen.len();
        for token in [0, 1, 20, 40] {
            let alone = run(&among.token(token), device, Entry::Device(device))?.swap_remove(0);
            same_bits(&alone, &all[token * 4 * row..][..4 * row])
                .map_err(|error| format!("{way:?}, token {token} alone: {error}"))?;
            for pair in 4 * token..4 * token + 4 {
                let product = if tensor_core {
                    run(&among.steps(pair), device, Entry::Device(device))?
                } else {
                    run(&among.chain(pair), device, Entry::Device(device))?
                };
                same_bits(&product[0], &all[pair * row..][..row])
                    .map_err(|error| format!("{way:?}, pair {pair}: {error}"))?;
            }
        }
    }
    Ok(())
}
