//! What the targets share: a file of the input's bytes, an allocator that counts, and what is done with a tokenizer.

mod counting;
mod file;
mod tokenizer;

pub use counting::bounded;
pub use file::InMemory;
pub use tokenizer::use_tokenizer;
