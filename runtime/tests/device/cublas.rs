//! A made-up cuBLAS on the made-up driver. Its algorithms are numbers: one that splits K, one that leaves the last row
//! out, one that sums in another order, one that does not run, a slow one and a fast one that are right.

#![allow(non_snake_case)]

use std::ffi::{c_char, c_int, c_void};
use std::io::Write;

const SPLITS: u64 = 10;
const LEAVES_OUT: u64 = 11;
const OTHER_ORDER: u64 = 12;
const DOES_NOT_RUN: u64 = 13;
const SLOW: u64 = 14;
const FAST: u64 = 15;

const INVALID: c_int = 7;
const NOT_SUPPORTED: c_int = 15;

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// A function of the made-up driver.
unsafe fn driver(name: &std::ffi::CStr, argument: usize) {
    unsafe {
        let driver = dlopen(c"libcuda.so.1".as_ptr(), 2);
        let function: unsafe extern "C" fn(usize) -> c_int = std::mem::transmute(dlsym(driver, name.as_ptr()));
        function(argument);
    }
}

/// Waits for the driver's stream: everything here is done at once.
unsafe fn wait() {
    unsafe { driver(c"cuStreamSynchronize", 0) }
}

/// Microseconds that a product takes by the driver's clock: more for more rows, but for 64.
fn microseconds(algo: u64, rows: usize) -> usize {
    let rows = if rows == 64 { 97 } else { rows };
    if algo == FAST { rows } else { 20 * rows }
}

fn note(line: String) {
    let path = std::env::var("DRIVER_LOG").unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

struct Layout {
    ty: c_int,
    rows: usize,
    columns: usize,
    ld: usize,
}

type Attributes = [u64; 32];

fn attributes(place: &mut *mut Attributes) -> c_int {
    *place = Box::into_raw(Box::new([99; 32]));
    0
}

unsafe fn set(attributes: *mut Attributes, which: c_int, value: *const u8, size: usize) -> c_int {
    let mut bytes = [0; 8];
    unsafe {
        bytes[..size].copy_from_slice(std::slice::from_raw_parts(value, size));
        (*attributes)[which as usize] = u64::from_le_bytes(bytes);
    }
    0
}

macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty $body:block)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result { #[allow(unused_unsafe)] unsafe { $body } }
    )*};
}

functions! {
    cublasCreate_v2() -> c_int { INVALID }
    cublasDestroy_v2() -> c_int { INVALID }
    cublasSetStream_v2() -> c_int { INVALID }
    cublasGetVersion_v2() -> c_int { INVALID }
    cublasGemmEx() -> c_int { INVALID }
    cublasGetStatusString() -> *const c_char { c"no".as_ptr() }

    cublasLtGetVersion() -> usize { 130_100 }
    cublasLtCreate(handle: &mut usize) -> c_int { *handle = 0x17; 0 }
    cublasLtDestroy(_handle: usize) -> c_int { note("cublas destroyed".into()); 0 }
    cublasLtMatmulDescCreate(desc: &mut *mut Attributes, compute: c_int, scale: c_int) -> c_int {
        if compute == 68 && scale == 0 { attributes(desc) } else { INVALID }
    }
    cublasLtMatmulDescDestroy(desc: *mut Attributes) -> c_int { drop(Box::from_raw(desc)); 0 }
    cublasLtMatmulDescSetAttribute(desc: *mut Attributes, which: c_int, value: *const u8, size: usize) -> c_int {
        set(desc, which, value, size)
    }
    cublasLtMatrixLayoutCreate(layout: &mut *mut Layout, ty: c_int, rows: u64, columns: u64, ld: i64) -> c_int {
        let (rows, columns, ld) = (rows as usize, columns as usize, ld as usize);
        *layout = Box::into_raw(Box::new(Layout { ty, rows, columns, ld }));
        0
    }
    cublasLtMatrixLayoutDestroy(layout: *mut Layout) -> c_int { drop(Box::from_raw(layout)); 0 }
    cublasLtMatrixLayoutSetAttribute() -> c_int { INVALID }
    cublasLtMatmulPreferenceCreate(preference: &mut *mut Attributes) -> c_int { attributes(preference) }
    cublasLtMatmulPreferenceDestroy(preference: *mut Attributes) -> c_int { drop(Box::from_raw(preference)); 0 }
    cublasLtMatmulPreferenceSetAttribute(
        preference: *mut Attributes, which: c_int, value: *const u8, size: usize
    ) -> c_int {
        set(preference, which, value, size)
    }
    cublasLtMatmulAlgoGetHeuristic(
        handle: usize, _desc: *const Attributes, w: *const Layout, _x: usize, _y: usize, _z: usize,
        preference: *const Attributes, wanted: c_int, results: *mut [u64; 12], count: &mut c_int,
    ) -> c_int {
        // Workspace, ways to join a split K, alignment of the four matrices.
        let asked = [1, 3, 5, 6, 7, 8].map(|which| (*preference)[which]);
        if handle != 0x17 || asked != [32 << 20, 0, 16, 16, 16, 16] { return INVALID }
        // A product of 48 columns finds nobody, one of 56 only who is wrong. Who leaves a row out comes after who is right.
        let all = match (*w).rows {
            48 => return NOT_SUPPORTED,
            56 => vec![SPLITS, LEAVES_OUT, OTHER_ORDER],
            _ => vec![SPLITS, OTHER_ORDER, DOES_NOT_RUN, SLOW, FAST, LEAVES_OUT],
        };
        *count = all.len().min(wanted as usize) as c_int;
        for (i, id) in all.into_iter().take(wanted as usize).enumerate() {
            // Algorithm, workspace, state and waves.
            *results.add(i) = [id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        }
        0
    }
    cublasLtMatmulAlgoConfigGetAttribute(
        algo: &u64, which: c_int, value: &mut u32, size: usize, written: &mut usize
    ) -> c_int {
        if size != 4 { return INVALID }
        *value = match which { 2 => if *algo == SPLITS { 4 } else { 1 }, 3 => 0, _ => return INVALID };
        *written = 4;
        0
    }
    cublasLtMatmulAlgoConfigSetAttribute() -> c_int { INVALID }
    cublasLtMatmul(
        handle: usize, desc: *const Attributes, alpha: &f32, a: *const u16, a_layout: &Layout, b: *const u16,
        b_layout: &Layout, beta: &f32, c: *const f32, _c_layout: &Layout, d: *mut f32, d_layout: &Layout, algo: &u64,
        workspace: *mut u8, workspace_bytes: usize, stream: usize,
    ) -> c_int {
        if *algo == DOES_NOT_RUN { return NOT_SUPPORTED }
        if handle != 0x17 || workspace.is_null() || workspace_bytes != 32 << 20 || stream == 0 || c != d.cast_const()
            || (*alpha, *beta) != (1.0, 0.0) || [a_layout.ty, b_layout.ty, d_layout.ty] != [14, 14, 0]
        {
            return INVALID
        }
        wait();
        note(format!("multiplied by {algo}, {} rows", d_layout.columns));
        // Both operands as they are after their operation, columns first: element (i, j) of a transposed matrix is (j, i).
        let bf16 = |at: *const u16| f32::from_bits(u32::from(*at) << 16);
        let element = |data: *const u16, layout: &Layout, operation: u64, i: usize, j: usize| {
            let (i, j) = if operation == 1 { (j, i) } else { (i, j) };
            assert!(i < layout.rows && j < layout.columns);
            bf16(data.add(j * layout.ld + i))
        };
        let depth = if (*desc)[3] == 1 { a_layout.rows } else { a_layout.columns };
        for j in 0..d_layout.columns - usize::from(*algo == LEAVES_OUT) {
            for i in 0..d_layout.rows {
                let mut sum = 0f32;
                for l in 0..depth {
                    let l = if *algo == OTHER_ORDER { depth - 1 - l } else { l };
                    sum += element(a, a_layout, (*desc)[3], i, l) * element(b, b_layout, (*desc)[4], l, j);
                }
                *d.add(j * d_layout.ld + i) = sum;
            }
        }
        driver(c"madeUpTimePasses", microseconds(*algo, d_layout.columns));
        0
    }
}
