//! A row's bits do not depend on the rows beside it.

use libtest_mimic::Failed;
use runtime::device::Device;

use crate::cases::expect::same_bits;
use crate::cases::float::Float;
use crate::cases::gelu::Activation;
use crate::cases::norm::Norm;
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
