//! Views of device memory, as kernels receive them.

/// A value that may lie in device memory: any bits are a valid one, and it has no padding.
///
/// # Safety
/// Both must be true.
pub unsafe trait Value: Copy + Send + Sync + 'static {}

macro_rules! values {
    ($($type:ty),*) => {$(
        // SAFETY: numbers have no invalid bits and no padding.
        unsafe impl Value for $type {}
    )*};
}

values!(u8, u16, u32, u64, f32, crate::F16, crate::Bf16);

/// `len` values in device memory that a kernel reads.
#[repr(C)]
pub struct In<V> {
    pointer: *const V,
    len: u64,
}

/// `len` values in device memory that a kernel writes, and may read.
#[repr(C)]
pub struct Out<V> {
    pointer: *mut V,
    len: u64,
}

impl<V> Clone for In<V> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<V> Copy for In<V> {}
impl<V> Clone for Out<V> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<V> Copy for Out<V> {}

// SAFETY: a view is an address and a length; who may use it when is the promise given to `new`.
unsafe impl<V> Send for In<V> {}
// SAFETY: as above.
unsafe impl<V> Sync for In<V> {}
// SAFETY: as above.
unsafe impl<V> Send for Out<V> {}
// SAFETY: as above.
unsafe impl<V> Sync for Out<V> {}

impl<V: Copy> In<V> {
    /// # Safety
    /// `pointer` holds `len` values that the device may read while kernels with this view run, nobody writes them
    /// meanwhile, and every index that such a kernel derives from its arguments is below `len`: bounds are checked
    /// in debug builds of the host only.
    #[inline(always)]
    pub const unsafe fn new(pointer: *const V, len: usize) -> Self {
        Self { pointer, len: len as u64 }
    }

    /// Number of values.
    #[inline(always)]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no value.
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the values are, for calls of other libraries.
    #[inline(always)]
    pub const fn as_ptr(&self) -> *const V {
        self.pointer
    }

    /// The value at `i`.
    #[inline(always)]
    pub fn get(&self, i: usize) -> V {
        debug_assert!(i < self.len(), "read at {i} of {}", self.len());
        // SAFETY: in range by the promise given to `new`.
        unsafe { self.pointer.add(i).read() }
    }

    /// The address of the value at `i`, for an asynchronous copy of `n` values from there.
    #[inline(always)]
    pub(crate) fn address(&self, i: usize, n: usize) -> *const V {
        debug_assert!(i + n <= self.len(), "copy of {n} at {i} of {}", self.len());
        self.pointer.wrapping_add(i)
    }
}

impl In<u16> {
    /// The values at `i`, an even number, and `i + 1`, in one load of 4 bytes. The view itself is aligned to 4.
    #[inline(always)]
    pub fn pair(&self, i: usize) -> [u16; 2] {
        debug_assert!(i + 2 <= self.len(), "pair at {i} of {}", self.len());
        debug_assert!((self.pointer as usize + 2 * i).is_multiple_of(4), "misaligned pair at {i}");
        // SAFETY: in range and aligned by the promise given to `new`.
        let both = unsafe { self.pointer.add(i).cast::<u32>().read() };
        [both as u16, (both >> 16) as u16]
    }

    /// [`pair`](Self::pair), or zeros unless `valid`. The view is not empty. The device reads in any case, the first pair
    /// instead: a load behind a branch is waited for, and one before a mask is not.
    #[inline(always)]
    pub fn pair_if(&self, valid: bool, i: usize) -> [u16; 2] {
        #[cfg(target_arch = "nvptx64")]
        {
            let [one, two] = self.pair(if valid { i } else { 0 });
            let mask = if valid { u16::MAX } else { 0 };
            [one & mask, two & mask]
        }
        #[cfg(not(target_arch = "nvptx64"))]
        if valid { self.pair(i) } else { [0, 0] }
    }
}

impl In<u8> {
    /// The value whose bytes begin at `i`, a multiple of the value's alignment. The view itself is aligned to 16.
    #[inline(always)]
    pub fn get_as<V: Copy>(&self, i: usize) -> V {
        debug_assert!(i + size_of::<V>() <= self.len(), "read at byte {i} of {}", self.len());
        debug_assert!(
            (self.pointer as usize + i).is_multiple_of(align_of::<V>()),
            "misaligned read at byte {i}"
        );
        // SAFETY: in range and aligned by the promise given to `new`.
        unsafe { self.pointer.add(i).cast::<V>().read() }
    }
}

impl<V: Copy> Out<V> {
    /// # Safety
    /// `pointer` holds `len` values that the device may read and write while kernels with this view run, nobody
    /// else uses them meanwhile, blocks of one launch write different values, and every index that such a kernel derives from its arguments is below `len`:
    /// bounds are checked in debug builds of the host only.
    #[inline(always)]
    pub const unsafe fn new(pointer: *mut V, len: usize) -> Self {
        Self { pointer, len: len as u64 }
    }

    /// Number of values.
    #[inline(always)]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no value.
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the values are, for calls of other libraries.
    #[inline(always)]
    pub const fn as_ptr(&self) -> *mut V {
        self.pointer
    }

    /// The value at `i`.
    #[inline(always)]
    pub fn get(&self, i: usize) -> V {
        debug_assert!(i < self.len(), "read at {i} of {}", self.len());
        // SAFETY: in range by the promise given to `new`.
        unsafe { self.pointer.add(i).read() }
    }

    /// Writes the value at `i`.
    #[inline(always)]
    pub fn set(&self, i: usize, value: V) {
        debug_assert!(i < self.len(), "write at {i} of {}", self.len());
        // SAFETY: in range and this launch's alone, by the promise given to `new`.
        unsafe { self.pointer.add(i).write(value) }
    }
}

impl Out<u16> {
    /// Writes the values at `i`, an even number, and `i + 1`, in one store of 4 bytes. The view itself is aligned to 4.
    #[inline(always)]
    pub fn set_pair(&self, i: usize, [one, two]: [u16; 2]) {
        debug_assert!(i + 2 <= self.len(), "pair at {i} of {}", self.len());
        debug_assert!((self.pointer as usize + 2 * i).is_multiple_of(4), "misaligned pair at {i}");
        // SAFETY: in range, aligned and this launch's alone, by the promise given to `new`.
        unsafe { self.pointer.add(i).cast::<u32>().write(one as u32 | (two as u32) << 16) }
    }
}

impl Out<u8> {
    /// Writes a value whose bytes begin at `i`, a multiple of the value's alignment.
    #[inline(always)]
    pub fn set_as<V: Copy>(&self, i: usize, value: V) {
        debug_assert!(i + size_of::<V>() <= self.len(), "write at byte {i} of {}", self.len());
        debug_assert!(
            (self.pointer as usize + i).is_multiple_of(align_of::<V>()),
            "misaligned write at byte {i}"
        );
        // SAFETY: in range, aligned and this launch's alone, by the promise given to `new`.
        unsafe { self.pointer.add(i).cast::<V>().write(value) }
    }
}
