//! Makes GGUF headers (version 3).

use super::{DEFAULT_ALIGNMENT, TensorType, ValueType};

/// A header in the making: metadata and tensors, in the order in which they are added. Names and keys are the caller's
/// to keep distinct; [`Gguf::drawn`](super::Gguf::drawn) reads the result as strictly as a file.
#[derive(Debug, Default)]
pub struct Writer {
    metadata: Vec<u8>,
    keys: u64,
    tensors: Vec<u8>,
    count: u64,
    /// Where the next tensor's data may begin, in the data.
    end: u64,
}

impl Writer {
    /// Neither keys nor tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// A key with text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key, ValueType::String);
        string(&mut self.metadata, value);
    }

    /// A key with a u32.
    pub fn u32(&mut self, key: &str, value: u32) {
        self.key(key, ValueType::U32);
        self.metadata.extend(value.to_le_bytes());
    }

    /// A key with an f32.
    pub fn f32(&mut self, key: &str, value: f32) {
        self.key(key, ValueType::F32);
        self.metadata.extend(value.to_le_bytes());
    }

    /// A key with a bool.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key, ValueType::Bool);
        self.metadata.push(value.into());
    }

    /// A key with texts.
    pub fn texts<S: AsRef<str>>(&mut self, key: &str, values: &[S]) {
        self.array(key, ValueType::String, values.len());
        for value in values {
            string(&mut self.metadata, value.as_ref());
        }
    }

    /// A key with i32s.
    pub fn i32s(&mut self, key: &str, values: &[i32]) {
        self.array(key, ValueType::I32, values.len());
        self.metadata.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// A tensor after those before it.
    ///
    /// # Panics
    /// If rows of `dims[0]` values are not whole blocks of the type.
    pub fn tensor(&mut self, name: &str, dims: &[usize], ty: TensorType) {
        assert!(dims[0].is_multiple_of(ty.block_values()), "rows of {name} are whole blocks");
        string(&mut self.tensors, name);
        self.tensors.extend((dims.len() as u32).to_le_bytes());
        self.tensors.extend(dims.iter().flat_map(|&dim| (dim as u64).to_le_bytes()));
        self.tensors.extend((ty as u32).to_le_bytes());
        self.tensors.extend(self.end.to_le_bytes());
        let bytes = dims.iter().product::<usize>() / ty.block_values() * ty.block_bytes();
        self.count += 1;
        self.end += bytes.next_multiple_of(DEFAULT_ALIGNMENT) as u64;
    }

    /// The header's bytes, padded up to where the data begin.
    pub fn header(&self) -> Vec<u8> {
        let mut header = b"GGUF".to_vec();
        header.extend(3u32.to_le_bytes());
        header.extend(self.count.to_le_bytes());
        header.extend(self.keys.to_le_bytes());
        header.extend(&self.metadata);
        header.extend(&self.tensors);
        header.resize(header.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
        header
    }

    fn key(&mut self, key: &str, ty: ValueType) {
        string(&mut self.metadata, key);
        self.metadata.extend((ty as u32).to_le_bytes());
        self.keys += 1;
    }

    fn array(&mut self, key: &str, element: ValueType, len: usize) {
        self.key(key, ValueType::Array);
        self.metadata.extend((element as u32).to_le_bytes());
        self.metadata.extend((len as u64).to_le_bytes());
    }
}

/// A length, then the text.
fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
