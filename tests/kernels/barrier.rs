//! The checking team is worth its name: it catches a kernel without its barrier, which the host's order of lanes hides.

use cuda_std::{Block, Geometry, In, Out, Scratch, kernel};
use libtest_mimic::Failed;
use runtime::device::Device;

use crate::cases::{Case, Entry, Expect, Launch, Stage};
use crate::trials::run;

const LANES: usize = 64;

/// Arguments of both kernels: `[LANES]` each.
#[derive(Clone, Copy)]
#[repr(C)]
struct Shift {
    x: In<f32>,
    y: Out<f32>,
}

fn geometry(_: &Shift) -> Geometry {
    Geometry { grid: [1, 1], scratch: 4 * LANES }
}

/// `y[i] = x[i - 1]`, around the end, by way of the neighbour's scratch cell.
#[inline(always)]
fn shift<B: Block, const BARRIER: bool>(block: &B, a: &Shift) {
    let cells = block.scratch::<f32>(LANES);
    block.lanes(|lane| cells.set(lane, lane, a.x.get(lane)));
    if BARRIER {
        block.barrier();
    }
    block.lanes(|lane| a.y.set(lane, cells.get(lane, (lane + LANES - 1) % LANES)));
}

kernel! {
    /// As it should be.
    WITH = test__with(Shift), lanes: LANES, geometry: geometry, body: shift::<_, true>
}
kernel! {
    /// A race.
    WITHOUT = test__without(Shift), lanes: LANES, geometry: geometry, body: shift::<_, false>
}

struct Neighbours {
    barrier: bool,
}

impl Case for Neighbours {
    fn label(&self) -> String {
        format!("barrier={}", self.barrier)
    }

    fn bytes(&self) -> u64 {
        8 * LANES as u64
    }

    fn stage(&self, stage: &mut Stage) -> Launch {
        let x: Vec<f32> = (0..LANES).map(|i| i as f32).collect();
        let args = Shift { x: stage.input(&x), y: stage.output(LANES) };
        Launch::new(if self.barrier { &WITH } else { &WITHOUT }, args)
    }

    fn oracle(&self) -> Vec<Expect> {
        let y: Vec<f32> = (0..LANES).map(|i| ((i + LANES - 1) % LANES) as f32).collect();
        vec![Expect::bits(&y)]
    }
}

pub(crate) fn a_barrier_satisfies_the_checking_team() -> Result<(), Failed> {
    let case = Neighbours { barrier: true };
    let got = run(&case, &Device::cpu(1), Entry::Check)?;
    Ok(case.oracle()[0].check(&got[0])?)
}

pub(crate) fn a_missing_barrier_is_caught() -> Result<(), Failed> {
    let checked =
        std::panic::catch_unwind(|| run(&Neighbours { barrier: false }, &Device::cpu(1), Entry::Check));
    let Err(panic) = checked else { return Err("the checking team noticed nothing".into()) };
    let text = panic.downcast_ref::<String>().map_or("", String::as_str);
    if !text.contains("no barrier between lane 63's write of cell 63 and lane 0's read") {
        return Err(format!("the checking team says only: {text}").into());
    }
    Ok(())
}
