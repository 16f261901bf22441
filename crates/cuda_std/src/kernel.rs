//! A kernel as the host knows it, and the macro that makes one out of a generic function.

/// How a kernel is launched, for given arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Blocks in x and y; y is below 65536.
    pub grid: [usize; 2],
    /// Bytes of scratch memory a block takes.
    pub scratch: usize,
}

/// Runs some blocks of a launch on the host: `(arguments, blocks x-fastest, grid in x, scratch memory)`.
#[cfg(not(target_arch = "nvptx64"))]
pub type HostEntry<A> = unsafe fn(&A, core::ops::Range<usize>, usize, &mut [u128]);

/// A kernel over arguments `A`: one source, compiled for the device as entry `name` and for the host right here.
///
/// Made by [`kernel!`](crate::kernel).
#[cfg(not(target_arch = "nvptx64"))]
pub struct Kernel<A: 'static> {
    /// The entry's name in the PTX, `family__kernel`.
    pub name: &'static str,
    /// Lanes in a block.
    pub lanes: usize,
    /// Whether it begins before the kernels ahead of it have ended.
    pub streams_weights: bool,
    /// The launch geometry.
    pub geometry: fn(&A) -> Geometry,
    /// Compiled for the baseline of the host's architecture.
    pub baseline: HostEntry<A>,
    /// Compiled for AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    pub avx2: HostEntry<A>,
    /// On the checking team, which panics where a barrier is missing.
    pub check: HostEntry<A>,
}

#[cfg(not(target_arch = "nvptx64"))]
impl<A> Kernel<A> {
    /// The source file that the kernel is in, which names its PTX image.
    pub fn family(&self) -> &'static str {
        self.name.split("__").next().unwrap_or(self.name)
    }
}

/// Makes a kernel's device entry and its host value.
///
/// ```ignore
/// kernel! {
///     /// Root-mean-square norm of each row.
///     pub RMS = norm__rms(RmsArgs), lanes: 256, geometry: geometry, body: rms_norm
/// }
/// ```
///
/// `body` is a function `fn(&impl Block, &Args)` marked `#[inline(always)]`; on the device it becomes
/// `extern "ptx-kernel" fn norm__rms(args: RmsArgs)`, on the host `pub static RMS: Kernel<RmsArgs>`. With `streams: weights`
/// as the last field the body begins before kernels launched earlier have ended; it must [wait](crate::Block::await_predecessors),
/// and [let the next one come](crate::Block::launch_successor).
#[macro_export]
macro_rules! kernel {
    (
        $(#[$meta:meta])*
        $vis:vis $NAME:ident = $entry:ident($args:ty), lanes: $lanes:expr, geometry: $geometry:expr, body: $body:expr
        $(, streams: $streams:ident)?
    ) => {
        #[cfg(target_arch = "nvptx64")]
        #[unsafe(no_mangle)]
        #[allow(missing_docs, non_snake_case, clippy::missing_safety_doc)]
        pub unsafe extern "ptx-kernel" fn $entry(args: $args) {
            let block = $crate::DeviceBlock::<{ $lanes }>::begin($crate::kernel!(@streams $($streams)?));
            ($body)(&block, &args)
        }

        $(#[$meta])*
        #[cfg(not(target_arch = "nvptx64"))]
        $vis static $NAME: $crate::Kernel<$args> = {
            unsafe fn baseline(a: &$args, blocks: core::ops::Range<usize>, width: usize, scratch: &mut [u128]) {
                for i in blocks {
                    ($body)(&$crate::HostBlock::<{ $lanes }, $crate::Baseline>::new(i % width, i / width, scratch), a);
                }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2(a: &$args, blocks: core::ops::Range<usize>, width: usize, scratch: &mut [u128]) {
                for i in blocks {
                    ($body)(&$crate::HostBlock::<{ $lanes }, $crate::Avx2>::new(i % width, i / width, scratch), a);
                }
            }
            unsafe fn check(a: &$args, blocks: core::ops::Range<usize>, width: usize, scratch: &mut [u128]) {
                for i in blocks {
                    $crate::CheckState::with(scratch, |state| {
                        ($body)(&$crate::CheckBlock::<{ $lanes }>::new(i % width, i / width, state), a)
                    });
                }
            }
            $crate::Kernel {
                name: stringify!($entry),
                lanes: $lanes,
                streams_weights: $crate::kernel!(@streams $($streams)?),
                geometry: $geometry,
                baseline,
                #[cfg(target_arch = "x86_64")]
                avx2,
                check,
            }
        };
    };
    (@streams weights) => { true };
    (@streams) => { false };
}
