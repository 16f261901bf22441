//! Typed access to a file's metadata. A getter's error names the key, what was wanted and what was found.

use super::reader::Reader;
use super::{Array, Gguf, GgufError, Problem, Value, ValueType};

impl Gguf {
    /// The value of a key, as it is in the file.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// All keys with their values, in the keys' order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.metadata.iter().map(|(key, value)| (&**key, value))
    }

    /// The first elements of an array, `count` at most; none of an array of arrays.
    pub fn first(&self, array: &Array, count: usize) -> Vec<Value> {
        if array.element == ValueType::Array {
            return Vec::new();
        }
        let bytes = &self.header()[array.bytes.clone()];
        let mut reader = Reader::new(bytes, bytes.len());
        // They were checked when the file was opened.
        (0..array.len.min(count)).map_while(|_| Value::of(array.element, &mut reader).ok()).collect()
    }

    /// A number of 0 to 2³²-1, whatever integer type the file stores it in.
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        self.int(key, "an integer that fits u32")
    }

    /// A number of 0 to 2⁶⁴-1, whatever integer type the file stores it in.
    pub fn u64(&self, key: &str) -> Result<u64, GgufError> {
        self.int(key, "an integer that fits u64")
    }

    /// A float; a 64-bit one is rounded.
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        self.scalar(key, "a float", |value| match value {
            Value::F32(value) => Some(*value),
            Value::F64(value) => Some(*value as f32),
            _ => None,
        })
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        self.scalar(key, "a bool", |value| if let Value::Bool(value) = value { Some(*value) } else { None })
    }

    /// A text.
    pub fn str(&self, key: &str) -> Result<&str, GgufError> {
        self.scalar(
            key,
            "a string",
            |value| if let Value::String(value) = value { Some(&**value) } else { None },
        )
    }

    /// The texts of an array, decoded from the file as they are asked for.
    pub fn strings(&self, key: &str) -> Result<Strings<'_>, GgufError> {
        const WANTED: &str = "an array of strings";
        let array = self.array(key, WANTED)?;
        if array.element != ValueType::String {
            return Err(self.fail(Problem::wrong_elements(key, WANTED, array.element)));
        }
        Ok(Strings { rest: &self.header()[array.bytes.clone()], left: array.len })
    }

    /// The integers of an array, whatever integer type the file stores them in.
    pub fn i32s(&self, key: &str) -> Result<Vec<i32>, GgufError> {
        const WANTED: &str = "an array of integers that fit i32";
        let array = self.array(key, WANTED)?;
        let ty = array.element;
        if !ty.is_int() {
            return Err(self.fail(Problem::wrong_elements(key, WANTED, ty)));
        }
        let number = |bytes| {
            let value = ty.int(bytes);
            i32::try_from(value).map_err(|_| self.fail(Problem::wrong_type(key, WANTED, value)))
        };
        self.header()[array.bytes.clone()].chunks_exact(ty.size() as usize).map(number).collect()
    }

    /// The floats of an array; 64-bit ones are rounded.
    pub fn f32s(&self, key: &str) -> Result<Vec<f32>, GgufError> {
        const WANTED: &str = "an array of floats";
        let array = self.array(key, WANTED)?;
        let bytes = &self.header()[array.bytes.clone()];
        match array.element {
            ValueType::F32 => Ok(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
            ValueType::F64 => Ok(bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect()),
            other => Err(self.fail(Problem::wrong_elements(key, WANTED, other))),
        }
    }

    fn int<T: TryFrom<i128>>(&self, key: &str, wanted: &'static str) -> Result<T, GgufError> {
        match self.value(key)? {
            Value::Int { value, .. } => {
                T::try_from(*value).map_err(|_| self.fail(Problem::wrong_type(key, wanted, value)))
            }
            other => Err(self.fail(Problem::wrong_type(key, wanted, other.type_name()))),
        }
    }

    fn array(&self, key: &str, wanted: &'static str) -> Result<&Array, GgufError> {
        self.scalar(key, wanted, |value| if let Value::Array(array) = value { Some(array) } else { None })
    }

    fn scalar<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        get: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, GgufError> {
        let value = self.value(key)?;
        get(value).ok_or_else(|| self.fail(Problem::wrong_type(key, wanted, value.type_name())))
    }

    fn value(&self, key: &str) -> Result<&Value, GgufError> {
        self.get(key).ok_or_else(|| self.fail(Problem::Missing(key.to_owned())))
    }

    pub(super) fn fail(&self, problem: Problem) -> GgufError {
        GgufError { path: self.path.clone(), problem }
    }
}

/// Makes a key that need not be there optional: `gguf.u32(key).optional()?`.
pub trait Optional<T> {
    /// `None` for a missing key; every other error stays one.
    ///
    /// # Errors
    /// A value of the wrong type.
    fn optional(self) -> Result<Option<T>, GgufError>;
}

impl<T> Optional<T> for Result<T, GgufError> {
    fn optional(self) -> Result<Option<T>, GgufError> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(GgufError { problem: Problem::Missing(_), .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The texts of an array of strings, in order.
#[derive(Debug, Clone)]
pub struct Strings<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        // The lengths and the text were checked when the file was opened.
        let (len, rest) = self.rest.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        self.rest = rest;
        std::str::from_utf8(text).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}
