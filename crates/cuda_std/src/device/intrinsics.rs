//! What `device.ll` defines, and of `warpgroup_*` what `cuda_builder` does: see there.

unsafe extern "C" {
    pub(crate) fn shared_memory() -> *mut u8;
    pub(crate) fn launch_successor();
    pub(crate) fn await_predecessors();
    pub(crate) fn block_barrier();
    pub(crate) fn barrier_sync(barrier: u32, threads: u32);
    pub(crate) fn barrier_arrive(barrier: u32, threads: u32);
    pub(crate) fn settle(four: *mut [u32; 4]);
    pub(crate) fn warp_barrier(mask: u32);
    pub(crate) fn shuffle_xor(mask: u32, value: u32, lanes: u32) -> u32;
    pub(crate) fn copy_async_16(to: *mut u8, from: *const u8, bytes: u32);
    pub(crate) fn copies_commit();
    pub(crate) fn copies_wait_0();
    pub(crate) fn copies_wait_1();
    pub(crate) fn copies_wait_2();
    pub(crate) fn copies_wait_3();
    pub(crate) fn permute_bytes(low: u32, high: u32, selector: u32) -> u32;
    pub(crate) fn pack_f16(low: f32, high: f32) -> u32;
    pub(crate) fn pack_bf16(low: f32, high: f32) -> u32;
    pub(crate) fn load_matrix_4(out: *mut [u32; 4], row: *const u8);
    pub(crate) fn load_matrix_2(out: *mut [u32; 2], row: *const u8);
    pub(crate) fn mma_bf16(c: *mut [f32; 4], a0: u32, a1: u32, a2: u32, a3: u32, b0: u32, b1: u32);
    pub(crate) fn mma_f16(c: *mut [f32; 4], a0: u32, a1: u32, a2: u32, a3: u32, b0: u32, b1: u32);
    pub(crate) fn mma_upper_bf16(c: *mut [f32; 2], a0: u32, a2: u32, b0: u32, b1: u32);
    pub(crate) fn mma_upper_f16(c: *mut [f32; 2], a0: u32, a2: u32, b0: u32, b1: u32);
    pub(crate) fn add_f16_pairs(a: u32, b: u32) -> u32;
    pub(crate) fn multiply_f16_pairs(a: u32, b: u32) -> u32;
    pub(crate) fn fuse_f16_pairs(a: u32, b: u32, c: u32) -> u32;
    pub(crate) fn multiply_bf16_pairs(a: u32, b: u32) -> u32;
    pub(crate) fn repeat_low_f16(a: u32) -> u32;
    pub(crate) fn repeat_high_f16(a: u32) -> u32;
    pub(crate) fn widen_f16_pair(out: *mut [f32; 2], a: u32);
    pub(crate) fn shared_offset(address: *const u8) -> u32;
    pub(crate) fn warpgroup_show();
    pub(crate) fn warpgroup_sums_64(c: *mut [f32; 4]);
    pub(crate) fn warpgroup_sums_128(c: *mut [f32; 4]);
    pub(crate) fn warpgroup_sums_256(c: *mut [f32; 4]);
    pub(crate) fn warpgroup_wait_0();
    pub(crate) fn warpgroup_wait_1();
    pub(crate) fn thread_x() -> u32;
    pub(crate) fn block_x() -> u32;
    pub(crate) fn block_y() -> u32;
}

macro_rules! warpgroup {
    ($($name:ident)*) => {
        unsafe extern "C" {
            $(pub(crate) fn $name(
                sums: *mut f32,
                a0: u32, a1: u32, a2: u32, a3: u32, first: u64,
                a4: u32, a5: u32, a6: u32, a7: u32, second: u64,
            );)*
        }
    };
}
warpgroup!(warpgroup_f16_32 warpgroup_f16_64 warpgroup_f16_128 warpgroup_bf16_32 warpgroup_bf16_64 warpgroup_bf16_128);

macro_rules! chains {
    ($($name:ident)*) => {
        unsafe extern "C" {
            $(pub(crate) fn $name(c: *mut [f32; 4], a: *const [u32; 4], first: u64);)*
        }
    };
}
chains!(warpgroup_f16_128_steps_8 warpgroup_f16_128_steps_4 warpgroup_f16_64_steps_8);
chains!(warpgroup_bf16_128_steps_8 warpgroup_bf16_128_steps_4 warpgroup_bf16_64_steps_8);

macro_rules! shared {
    ($($name:ident)*) => {
        unsafe extern "C" {
            $(pub(crate) fn $name(c: *mut [f32; 4], a: u64, b: u64);)*
        }
    };
}
shared!(warpgroup_f16_128_shared warpgroup_f16_256_shared warpgroup_bf16_128_shared warpgroup_bf16_256_shared);
