//! Every allocation is in its device's ledger, since only a device makes buffers.

use runtime::device::Buffer;

pub fn case() {
    let _ = Buffer::<f32>::new; // fails: E0624
    let _ = Buffer::<f32>::len; // compiles
}
