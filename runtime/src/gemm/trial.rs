//! Random matrices on which cuBLASLt's algorithms show whether they keep the order, and how fast they are.

use std::sync::Arc;

use cublas_sys::MatmulAlgo;
use cust::event::{Event, EventFlags};
use kernels::compare::{self, COUNT, Count, DRAW, Draw};
use kernels::matmul::{self, MatMul};

use super::lt::{Operands, Problem};
use super::{Gemm, Input, Shape};
use crate::device::cuda::failed;
use crate::device::{Buffer, Cuda, Device, DeviceError, Purpose};

/// Runs that are timed together.
const RUNS: u32 = 3;
/// Times that this is done: the least counts, since a GPU that others share or that wakes up is late at times.
const TIMES: usize = 3;

/// The matrices of a shape, with our own kernel's answer.
pub(super) struct Trial<'d> {
    device: &'d Device,
    cuda: &'d Cuda,
    n: usize,
    w: Buffer<u16>,
    x: Buffer<u16>,
    /// Our kernel's.
    want: Buffer<f32>,
    /// cuBLASLt's.
    got: Buffer<f32>,
    counts: Buffer<u64>,
    events: [Event; 2],
}

impl<'d> Trial<'d> {
    /// Draws matrices for up to `rows` rows, and multiplies them.
    pub(super) fn new(
        device: &'d Device,
        cuda: &'d Cuda,
        shape: Shape,
        rows: usize,
    ) -> Result<Self, DeviceError> {
        let Shape { input, n, k } = shape;
        cuda.enter()?;
        let event = || Event::new(EventFlags::DEFAULT).map_err(failed("cuEventCreate"));
        let events = [event()?, event()?];
        let w = device.alloc(Purpose::Activations, n * k)?;
        let x = device.alloc(Purpose::Activations, rows * k)?;
        let want = device.alloc(Purpose::Activations, rows * n)?;
        let got = device.alloc(Purpose::Activations, rows * n)?;
        let counts = device.alloc(Purpose::Activations, (rows * n).div_ceil(compare::SPAN))?;
        let (fraction, low, span) = match input {
            // Products of 2^-60 to 2^60.
            Input::Bf16 => (7, 97, 61),
            // The type's own range, but for its ends.
            Input::F16 => (10, 3, 25),
        };
        let draw = |out: &Buffer<u16>, rows: usize, pairs: u32, seed: u32| {
            // SAFETY: the whole buffer, which nobody uses yet.
            let out = unsafe { out.view_mut(0, out.len()) };
            let (rows, columns) = (rows as u32, k as u32);
            let args = Draw { out, rows, columns, fraction, low, span, zero_row: 5, pairs, seed };
            // SAFETY: the view is the matrix that the arguments tell.
            unsafe { device.launch(&DRAW, &args) }
        };
        draw(&w, n, compare::OPPOSITES, 1)?;
        draw(&x, rows, compare::TWINS, 2)?;
        // The product begins to read weights before the kernels ahead of it have ended.
        device.synchronize()?;
        // SAFETY: whole buffers of the shape's sizes, which are drawn.
        unsafe {
            let args = MatMul {
                w: w.view(0, w.len()),
                x: x.view(0, x.len()),
                y: want.view_mut(0, want.len()),
                k: k as u32,
                n: n as u32,
                m: rows as u32,
            };
            match input {
                Input::Bf16 => device.launch(&matmul::BF16, &args)?,
                Input::F16 => device.launch(&matmul::F16_, &args)?,
            }
        }
        Ok(Self { device, cuda, n, w, x, want, got, counts, events })
    }

    /// Whether the algorithm's answer has our kernel's bits, in every row. One that does not run does not.
    pub(super) fn agrees(
        &mut self,
        gemm: &Gemm,
        problem: &Problem,
        algo: &MatmulAlgo,
    ) -> Result<bool, DeviceError> {
        let len = problem.rows() * self.n;
        // All bits set is no result of a product: what is not written differs.
        self.device.fill(&mut self.got, 0, len, 0xff)?;
        if !self.run(gemm, problem, algo) {
            return Ok(false);
        }
        // SAFETY: inside of the buffers, and after the product on the device's stream.
        unsafe {
            let args = Count {
                want: self.want.view(0, len),
                got: self.got.view(0, len),
                counts: self.counts.view_mut(0, len.div_ceil(compare::SPAN)),
                len: len as u64,
            };
            self.device.launch(&COUNT, &args)?;
        }
        let counts = self.device.download(&self.counts, 0, len.div_ceil(compare::SPAN))?;
        Ok(counts.iter().all(|&count| count == 0))
    }

    /// Milliseconds of a run.
    pub(super) fn time(
        &mut self,
        gemm: &Gemm,
        problem: &Problem,
        algo: &MatmulAlgo,
    ) -> Result<f32, DeviceError> {
        let [start, end] = &self.events;
        let mut least = f32::INFINITY;
        for _ in 0..TIMES {
            start.record(self.cuda.stream()).map_err(failed("cuEventRecord"))?;
            for _ in 0..RUNS {
                if !self.run(gemm, problem, algo) {
                    return Ok(f32::INFINITY);
                }
            }
            end.record(self.cuda.stream()).map_err(failed("cuEventRecord"))?;
            end.synchronize().map_err(failed("cuEventSynchronize"))?;
            let all = end.elapsed_time_f32(start).map_err(failed("cuEventElapsedTime"))?;
            least = least.min(all / RUNS as f32);
        }
        Ok(least)
    }

    /// Puts a product on the stream; whether cuBLASLt takes it.
    fn run(&self, gemm: &Gemm, problem: &Problem, algo: &MatmulAlgo) -> bool {
        // SAFETY: whole buffers of this device, used in its stream's order alone.
        let (w, x, y) = unsafe {
            let (w, x) = (self.w.view(0, self.w.len()), self.x.view(0, self.x.len()));
            (w.as_ptr(), x.as_ptr(), self.got.view_mut(0, self.got.len()).as_ptr())
        };
        let operands = gemm.operands(w, x, y);
        // SAFETY: the buffers hold the problem's matrices, for at least its rows; the algorithm was offered for it.
        unsafe { problem.run(algo, &operands, self.cuda.stream().as_inner().cast()) }.is_ok()
    }
}

/// What became of the algorithms offered for a problem.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict<A> {
    /// The fastest that agrees.
    pub(super) best: Option<(A, f32)>,
    /// How many agree.
    pub(super) admitted: usize,
    /// How many were tried and do not.
    pub(super) refused: usize,
}

/// Tries what is offered until `wanted` agree, and takes the fastest of these.
///
/// # Errors
/// Those of the trials.
pub(super) fn choose<T, A: Copy, E>(
    trial: &mut T,
    offers: &[A],
    wanted: usize,
    mut agrees: impl FnMut(&mut T, &A) -> Result<bool, E>,
    mut time: impl FnMut(&mut T, &A) -> Result<f32, E>,
) -> Result<Verdict<A>, E> {
    let (mut admitted, mut refused) = (Vec::new(), 0);
    for offer in offers {
        if admitted.len() == wanted {
            break;
        }
        if agrees(trial, offer)? { admitted.push(*offer) } else { refused += 1 }
    }
    let mut best: Option<(A, f32)> = None;
    for offer in &admitted {
        let milliseconds = time(trial, offer)?;
        if best.is_none_or(|(_, least)| milliseconds < least) {
            best = Some((*offer, milliseconds));
        }
    }
    Ok(Verdict { best, admitted: admitted.len(), refused })
}

/// An algorithm that keeps the order, for one number of rows.
pub(super) struct Admitted {
    problem: Problem,
    algo: MatmulAlgo,
    milliseconds: f32,
}

/// Of algorithms with ascending rows, those that no later one beats: it computes the same and more in less time.
pub(super) fn fastest(admitted: Vec<Admitted>) -> Vec<Admitted> {
    let mut kept: Vec<Admitted> = Vec::new();
    for one in admitted.into_iter().rev() {
        if kept.last().is_none_or(|later| one.milliseconds < later.milliseconds) {
            kept.push(one);
        }
    }
    kept.reverse();
    kept
}

impl Admitted {
    /// Rows that it computes.
    pub(super) fn rows(&self) -> usize {
        self.problem.rows()
    }

    /// # Safety
    /// As [`Problem::run`].
    pub(super) unsafe fn run(&self, cuda: &Cuda, operands: &Operands) -> Result<(), DeviceError> {
        // SAFETY: the caller's promise; the algorithm was offered for the problem.
        let done = unsafe { self.problem.run(&self.algo, operands, cuda.stream().as_inner().cast()) };
        done.or_else(|status| super::lt::check("cublasLtMatmul", status))
    }
}

/// The best algorithm for `rows` of the trial's rows, if any agrees.
pub(super) fn admit(
    gemm: &Gemm,
    trial: &mut Trial,
    shape: Shape,
    rows: usize,
) -> Result<Option<Admitted>, DeviceError> {
    let problem = Problem::new(&Arc::clone(&gemm.lt), shape, rows)?;
    let offers = problem.offers(super::OFFERS, super::WORKSPACE)?;
    let verdict = choose(
        trial,
        &offers,
        super::WANTED,
        |trial, algo| trial.agrees(gemm, &problem, algo),
        |trial, algo| trial.time(gemm, &problem, algo),
    )?;
    let Shape { input, n, k } = shape;
    let (admitted, refused) = (verdict.admitted, verdict.refused);
    let milliseconds = verdict.best.map(|(_, milliseconds)| milliseconds);
    tracing::debug!(?input, n, k, rows, admitted, refused, milliseconds, "cuBLASLt's algorithms tried");
    Ok(verdict.best.map(|(algo, milliseconds)| Admitted { problem, algo, milliseconds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers are (agrees, milliseconds); answers the verdict, and what was tried and timed.
    fn tried(offers: &[(bool, f32)], wanted: usize) -> (Verdict<(bool, f32)>, usize, usize) {
        let mut counts = (0, 0);
        let verdict = choose(
            &mut counts,
            offers,
            wanted,
            |(tried, _), offer| {
                *tried += 1;
                Ok::<_, ()>(offer.0)
            },
            |(_, timed), offer| {
                *timed += 1;
                Ok(offer.1)
            },
        );
        (verdict.unwrap(), counts.0, counts.1)
    }

    #[test]
    fn the_fastest_that_agrees_is_taken() {
        let offers = [(false, 0.1), (true, 3.0), (true, 1.0), (false, 0.2), (true, 2.0), (true, 0.5)];
        let (verdict, tried, timed) = tried(&offers, 3);
        assert_eq!(verdict, Verdict { best: Some((offers[2], 1.0)), admitted: 3, refused: 2 });
        assert_eq!((tried, timed), (5, 3), "the last is not needed");
    }

    #[test]
    fn one_that_agrees_is_taken_and_none_is_none() {
        let (verdict, _, timed) = tried(&[(false, 0.1), (true, 3.0)], 3);
        assert_eq!((verdict.best, timed), (Some(((true, 3.0), 3.0)), 1));
        let (verdict, tried, _) = tried(&[(false, 0.1), (false, 0.1)], 3);
        assert_eq!((verdict.best, verdict.refused, tried), (None, 2, 2));
        assert_eq!(tried_none().best, None);
    }

    fn tried_none() -> Verdict<(bool, f32)> {
        tried(&[], 3).0
    }

    #[test]
    fn an_error_ends_the_trial() {
        let failing = choose(&mut (), &[1, 2], 1, |_, _| Err("lost"), |_, _| Ok(0.0));
        assert_eq!(failing, Err("lost"));
    }
}
