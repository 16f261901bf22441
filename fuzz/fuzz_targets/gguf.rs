//! A GGUF file: opened, every value and tensor read, and the model's shape made of it.

#![no_main]

use std::cell::LazyCell;

use libfuzzer_sys::fuzz_target;
use runtime::gguf::{Gguf, Value};
use runtime::model::config::ModelConfig;
use worker_orcd_fuzz::{InMemory, bounded};

thread_local! {
    static FILE: LazyCell<InMemory> = LazyCell::new(InMemory::new);
}

fuzz_target!(|bytes: &[u8]| {
    let path = FILE.with(|file| file.of(bytes));
    // A tensor's entry takes a few times the bytes that it has in the file, in a list that doubles.
    bounded(8 * bytes.len() + (16 << 10), 32 * bytes.len() + (64 << 10), || match Gguf::open(&path) {
        Ok(gguf) => read(&gguf, bytes),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.len() < 16 << 10, "{text}");
        }
    });
});

fn read(gguf: &Gguf, bytes: &[u8]) {
    for (key, value) in gguf.metadata() {
        // Each accessor gives a value or says what the file has.
        let read = [
            gguf.u32(key).is_ok(),
            gguf.u64(key).is_ok(),
            gguf.f32(key).is_ok(),
            gguf.bool(key).is_ok(),
            gguf.str(key).is_ok(),
            gguf.i32s(key).is_ok(),
            gguf.f32s(key).is_ok(),
            gguf.strings(key).is_ok(),
        ];
        match value {
            Value::Array(array) => {
                assert!(array.len <= bytes.len());
                if let Ok(strings) = gguf.strings(key) {
                    assert_eq!(strings.count(), array.len, "{key:?}");
                }
            }
            Value::String(text) => assert_eq!(gguf.str(key).ok(), Some(&**text)),
            Value::Int { .. } => assert!(!read[2..].contains(&true)),
            _ => assert!(read.contains(&true), "{key:?}"),
        }
    }
    let mut ends = 0;
    let mut tensors: Vec<_> = gguf.tensors().iter().collect();
    tensors.sort_by_key(|tensor| tensor.bytes.start);
    for tensor in tensors {
        assert!(ends <= tensor.bytes.start, "{:?} overlaps", tensor.name);
        ends = tensor.bytes.end;
        assert_eq!(gguf.data(tensor).expect("read"), bytes[tensor.bytes.clone()]);
        assert_eq!(tensor.values() / tensor.ty.block_values() * tensor.ty.block_bytes(), tensor.bytes.len());
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
    }
    let _ = (gguf.quant_kind(), ModelConfig::from_gguf(gguf));
}
