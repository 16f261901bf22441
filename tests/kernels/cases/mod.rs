//! The kernels' cases, each declared once: data, launch and oracle. The tests run them on every device against their
//! oracle, the benches run some of them for time.

pub(crate) mod attention;
pub(crate) mod compare;
pub(crate) mod dequantise;
pub(crate) mod draw;
pub(crate) mod embed;
pub(crate) mod expect;
pub(crate) mod expert_rows;
pub(crate) mod flash;
pub(crate) mod float;
pub(crate) mod gelu;
pub(crate) mod layer_norm;
pub(crate) mod logits;
pub(crate) mod logprobs;
pub(crate) mod matmul;
pub(crate) mod matvec;
pub(crate) mod merge;
pub(crate) mod mixture;
pub(crate) mod norm;
pub(crate) mod product;
pub(crate) mod qmatmul;
pub(crate) mod random;
pub(crate) mod residual;
pub(crate) mod rope;
pub(crate) mod router;
pub(crate) mod rows;
pub(crate) mod sample;
mod stage;
pub(crate) mod stored;
pub(crate) mod swiglu;

use cuda_std::{HostEntry, Kernel};
use runtime::device::{Device, DeviceError};

pub(crate) use expect::Expect;
pub(crate) use stage::Stage;

/// One launch and what it must answer.
pub(crate) trait Case {
    /// What sets it apart from its neighbours: the shape.
    fn label(&self) -> String;

    /// Bytes the kernel has to move, each counted once.
    fn bytes(&self) -> u64;

    /// Puts the data on the device.
    fn stage(&self, stage: &mut Stage) -> Launch;

    /// What each output holds afterwards, in the order in which they were staged. Naive, in f64, from the formula.
    fn oracle(&self) -> Vec<Expect>;
}

/// How many and how large cases are: the checking team walks lanes one by one and remembers every cell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Real shapes.
    Full,
    /// All kernels and all edges, on few elements.
    Small,
}

/// Where a kernel runs.
#[derive(Clone, Copy)]
pub(crate) enum Entry<'d> {
    /// A device, as the runtime launches it.
    Device(&'d Device),
    /// The host version that every processor of the architecture runs.
    Baseline,
    /// The host version for AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The host version that panics where a GPU would race.
    Check,
}

/// A kernel with its arguments. The memory behind them is the [`Stage`]'s.
pub(crate) struct Launch(Run);

type Run = Box<dyn Fn(Entry) -> Result<(), DeviceError>>;

impl Launch {
    /// `args` are views that one stage made, and fit the shapes the kernel documents.
    pub(crate) fn new<A: Copy + Sync>(kernel: &'static Kernel<A>, args: A) -> Self {
        Self(Box::new(move |entry| {
            match entry {
                // SAFETY: the promise above; `run`'s caller keeps the stage.
                Entry::Device(device) => unsafe { device.launch(kernel, &args)? },
                Entry::Baseline => on_this_thread(kernel, kernel.baseline, &args),
                #[cfg(target_arch = "x86_64")]
                Entry::Avx2 => on_this_thread(kernel, kernel.avx2, &args),
                Entry::Check => on_this_thread(kernel, kernel.check, &args),
            }
            Ok(())
        }))
    }

    /// Runs the kernel once; its stage is of that device, or of the CPU, and still there.
    pub(crate) fn run(&self, entry: Entry) -> Result<(), DeviceError> {
        (self.0)(entry)
    }
}

/// Runs all blocks of a launch, with scratch memory full of what no kernel should read.
fn on_this_thread<A>(kernel: &Kernel<A>, entry: HostEntry<A>, args: &A) {
    let geometry = (kernel.geometry)(args);
    let [width, height] = geometry.grid;
    let mut scratch = vec![u128::MAX; geometry.scratch.div_ceil(16)];
    // SAFETY: as in `Launch::new`; the trials ask for AVX2 where the processor has it.
    unsafe { entry(args, 0..width * height, width, &mut scratch) };
}
