//! Memory on a device is freed once: by its only owner.

use runtime::device::Buffer;

pub fn case(buffer: Buffer<f32>) -> (usize, usize) {
    let other = buffer.clone(); // fails: E0599
    let other = &buffer; // compiles
    (buffer.len(), other.len())
}
