//! All pinned host memory of the program, bounded: what transfers between host and GPU pass through.
//!
//! A copy from pinned memory runs at the bus's speed, and beside everything else. Large uploads go in chunks through two
//! buffers, one being filled by several threads while the other is on its way; small ones through a ring, without
//! waiting; small downloads through a buffer of their own. No kernel ever receives an address of this memory.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use cust::event::{Event, EventFlags};
use cust::stream::Stream;
use cust::sys::{self, CUdeviceptr, CUresult};

use super::cuda::{check, failed};
use super::pool::Pool;
use super::{DeviceError, Filler};

/// Bytes of a buffer for large uploads, of which there are two.
const CHUNK: usize = 16 << 20;
/// Bytes of the ring; what fits in it goes through it.
const RING: usize = 1 << 20;
/// Parts of the ring, each reused as a whole.
const PARTS: usize = 4;
/// Bytes of a part.
const PART: usize = RING / PARTS;
/// Bytes that go through the ring in one copy, at most.
const PIECE: usize = 64 << 10;
/// Bytes that are downloaded through pinned memory, at most.
const ANSWER: usize = 64 << 10;
/// What a thread copies before it asks for more.
const SHARE: usize = 512 << 10;
/// Threads that fill a buffer, at most: more are no faster.
const THREADS: usize = 8;

/// Bytes of pinned memory at most.
pub(crate) const LIMIT: usize = 2 * CHUNK + RING + ANSWER;

/// Pinned memory, allocated when first needed. Used under its device's context.
#[derive(Default)]
pub(crate) struct Staging {
    bulk: Option<Bulk>,
    ring: Option<Ring>,
    answer: Option<Pinned>,
}

impl Staging {
    /// Copies `bytes` to the device after what is on the stream. They may change when it returns.
    ///
    /// # Safety
    /// `to` is device memory of at least so many bytes, and stays until the stream has done the copy.
    pub(crate) unsafe fn upload(
        &mut self,
        to: CUdeviceptr,
        bytes: &[u8],
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        if bytes.len() > RING {
            let fill = |at, into: &mut [u8]| {
                into.copy_from_slice(&bytes[at..at + into.len()]);
                Ok::<(), DeviceError>(())
            };
            let bulk = make(&mut self.bulk, Bulk::new)?;
            // SAFETY: the caller's promise.
            unsafe { bulk.upload(to, bytes.len(), &fill, stream) }
        } else {
            let ring = make(&mut self.ring, Ring::new)?;
            // SAFETY: the caller's promise.
            unsafe { ring.upload(to, bytes, stream) }
        }
    }

    /// Copies to the device what `fill` makes.
    ///
    /// # Safety
    /// As [`upload`](Self::upload), of `len` bytes.
    pub(crate) unsafe fn upload_with<E: From<DeviceError> + Send>(
        &mut self,
        to: CUdeviceptr,
        len: usize,
        fill: Filler<'_, E>,
        stream: &Stream,
    ) -> Result<(), E> {
        if len > RING {
            let bulk = make(&mut self.bulk, Bulk::new)?;
            // SAFETY: the caller's promise.
            unsafe { bulk.upload(to, len, fill, stream) }
        } else {
            let mut bytes = vec![0; len];
            fill(0, &mut bytes)?;
            // SAFETY: the caller's promise.
            Ok(unsafe { self.upload(to, &bytes, stream) }?)
        }
    }

    /// Fills `bytes` from the device once all that is on the stream is done.
    ///
    /// # Safety
    /// `from` is device memory of at least so many bytes.
    pub(crate) unsafe fn download(
        &mut self,
        from: CUdeviceptr,
        bytes: &mut [u8],
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        let answer = match bytes.len() {
            0..=ANSWER => Some(make(&mut self.answer, || Pinned::new(ANSWER))?),
            _ => None,
        };
        let to = answer.as_ref().map_or(bytes.as_mut_ptr(), |pinned| pinned.base.as_ptr());
        // SAFETY: both have so many bytes, and stay until the copy is done, which is waited for here.
        let code =
            unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast::<c_void>(), from, bytes.len(), stream.as_inner()) };
        check("cuMemcpyDtoHAsync", code)?;
        stream.synchronize().map_err(failed("cuStreamSynchronize"))?;
        if let Some(answer) = answer {
            // SAFETY: written by the copy, which is done.
            unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(answer.base.as_ptr(), bytes.len()) };
        }
        Ok(())
    }

    /// Frees the buffers for large uploads and ends their threads; the next large upload makes new ones.
    pub(crate) fn release(&mut self) -> Result<(), DeviceError> {
        if let Some(bulk) = &mut self.bulk {
            bulk.buffers.iter_mut().try_for_each(|buffer| buffer.event.wait())?;
        }
        self.bulk = None;
        Ok(())
    }

    /// Bytes pinned now.
    pub(crate) fn bytes(&self) -> usize {
        let bulk = self.bulk.as_ref().map_or(0, |bulk| bulk.buffers.iter().map(|b| b.pinned.len).sum());
        let ring = self.ring.as_ref().map_or(0, |ring| ring.pinned.len);
        bulk + ring + self.answer.as_ref().map_or(0, |pinned| pinned.len)
    }
}

/// The value in `place`, made if there is none.
fn make<T>(
    place: &mut Option<T>,
    new: impl FnOnce() -> Result<T, DeviceError>,
) -> Result<&mut T, DeviceError> {
    Ok(match place {
        Some(value) => value,
        None => place.insert(new()?),
    })
}

/// Two buffers in turns.
struct Bulk {
    buffers: [Chunk; 2],
    next: usize,
    pool: Pool,
}

struct Chunk {
    pinned: Pinned,
    event: Mark,
}

impl Bulk {
    fn new() -> Result<Self, DeviceError> {
        let chunk = || Ok(Chunk { pinned: Pinned::new(CHUNK)?, event: Mark::new()? });
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        Ok(Self { buffers: [chunk()?, chunk()?], next: 0, pool: Pool::new(cores.min(THREADS)) })
    }

    /// # Safety
    /// As [`Staging::upload_with`].
    unsafe fn upload<E: From<DeviceError> + Send>(
        &mut self,
        to: CUdeviceptr,
        len: usize,
        fill: Filler<'_, E>,
        stream: &Stream,
    ) -> Result<(), E> {
        for start in (0..len).step_by(CHUNK) {
            let part = CHUNK.min(len - start);
            let buffer = &mut self.buffers[self.next];
            self.next = 1 - self.next;
            buffer.event.wait()?;
            buffer.pinned.fill(part, &|at, into| fill(start + at, into), &self.pool)?;
            // SAFETY: the caller's promise; the event below says when the buffer is free again.
            unsafe { copy(to + start as u64, buffer.pinned.base.as_ptr(), part, stream)? };
            buffer.event.set(stream)?;
        }
        Ok(())
    }
}

/// A ring in parts: pieces go side by side into a part, and a part is reused once all its copies are done.
struct Ring {
    pinned: Pinned,
    events: [Mark; PARTS],
    part: usize,
    /// Bytes taken of the part.
    used: usize,
}

impl Ring {
    fn new() -> Result<Self, DeviceError> {
        let events = [Mark::new()?, Mark::new()?, Mark::new()?, Mark::new()?];
        Ok(Self { pinned: Pinned::new(RING)?, events, part: 0, used: 0 })
    }

    /// # Safety
    /// As [`Staging::upload`].
    unsafe fn upload(
        &mut self,
        mut to: CUdeviceptr,
        bytes: &[u8],
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        for piece in bytes.chunks(PIECE) {
            if self.used + piece.len() > PART {
                self.events[self.part].set(stream)?;
                self.part = (self.part + 1) % PARTS;
                self.used = 0;
                self.events[self.part].wait()?;
            }
            // SAFETY: inside of the ring, where no copy is under way: in this part not since it was waited for.
            let place = unsafe { self.pinned.base.add(self.part * PART + self.used).as_ptr() };
            // SAFETY: the piece fits in what is left of the part.
            unsafe { place.copy_from_nonoverlapping(piece.as_ptr(), piece.len()) };
            // SAFETY: the caller's promise; the part's event says when the place is free again.
            unsafe { copy(to, place, piece.len(), stream)? };
            self.used += piece.len().next_multiple_of(64);
            to += piece.len() as u64;
        }
        Ok(())
    }
}

/// # Safety
/// `from` is pinned memory that is not written until the stream has done the copy; `to` is device memory.
unsafe fn copy(to: CUdeviceptr, from: *const u8, len: usize, stream: &Stream) -> Result<(), DeviceError> {
    // SAFETY: the caller's promise.
    let code = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.cast::<c_void>(), len, stream.as_inner()) };
    check("cuMemcpyHtoDAsync", code)
}

/// A point in a stream that can be waited for.
struct Mark {
    event: Event,
    set: bool,
}

impl Mark {
    fn new() -> Result<Self, DeviceError> {
        let event = Event::new(EventFlags::DISABLE_TIMING).map_err(failed("cuEventCreate"))?;
        Ok(Self { event, set: false })
    }

    /// After what is on the stream.
    fn set(&mut self, stream: &Stream) -> Result<(), DeviceError> {
        self.event.record(stream).map_err(failed("cuEventRecord"))?;
        self.set = true;
        Ok(())
    }

    /// Waits until the stream has passed the mark, if it was set since the last wait.
    fn wait(&mut self) -> Result<(), DeviceError> {
        if std::mem::take(&mut self.set) {
            self.event.synchronize().map_err(failed("cuEventSynchronize"))?;
        }
        Ok(())
    }
}

/// Host memory that the GPU's copy engine reaches.
struct Pinned {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: owns its memory, as a Vec does.
unsafe impl Send for Pinned {}

impl Pinned {
    fn new(len: usize) -> Result<Self, DeviceError> {
        let mut base = null_mut();
        // SAFETY: a place for an address.
        check("cuMemAllocHost", unsafe { sys::cuMemAllocHost_v2(&raw mut base, len) })?;
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| DeviceError::Driver {
            call: "cuMemAllocHost, which gave no address".to_owned(),
            code: CUresult::CUDA_ERROR_UNKNOWN,
        })?;
        Ok(Self { base, len })
    }

    /// Fills the first `len` bytes of the memory, on all threads of the pool; gives the first failure.
    fn fill<E: Send>(&mut self, len: usize, fill: Filler<'_, E>, pool: &Pool) -> Result<(), E> {
        assert!(len <= self.len);
        let (to, next, failure) = (self.base.as_ptr() as usize, AtomicUsize::new(0), Mutex::new(None));
        pool.run(&|| {
            loop {
                let at = next.fetch_add(SHARE, Ordering::Relaxed);
                if at >= len {
                    break;
                }
                // SAFETY: inside of this memory, whose bytes the driver has set, and no other thread has this share.
                let share =
                    unsafe { std::slice::from_raw_parts_mut((to + at) as *mut u8, SHARE.min(len - at)) };
                if let Err(error) = fill(at, share) {
                    // The others find nothing left to do.
                    next.store(len, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`; whoever copied from here has waited.
        let _ = unsafe { sys::cuMemFreeHost(self.base.as_ptr().cast::<c_void>()) };
    }
}
