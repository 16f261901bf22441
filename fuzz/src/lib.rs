//! What the targets share: a file of the input's bytes, and an allocator that counts.

mod counting;
mod file;

pub use counting::bounded;
pub use file::InMemory;
