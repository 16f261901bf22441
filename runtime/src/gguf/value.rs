use std::ops::Range;

use super::Problem;
use super::reader::Reader;

/// Arrays may be nested this deep.
const MAX_DEPTH: usize = 4;

/// A metadata value. Arrays stay in the file and are decoded when asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer of any width and sign.
    Int {
        /// The number.
        value: i128,
        /// How the file stores it.
        ty: ValueType,
    },
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    String(String),
    /// Values of one type.
    Array(Array),
}

/// Where an array lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// The type of every element.
    pub element: ValueType,
    /// How many elements there are.
    pub len: usize,
    /// The elements' bytes in the file.
    pub(super) bytes: Range<usize>,
}

/// The types a metadata value can have; the numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// Unsigned, 8 bits.
    U8 = 0,
    /// Signed, 8 bits.
    I8 = 1,
    /// Unsigned, 16 bits.
    U16 = 2,
    /// Signed, 16 bits.
    I16 = 3,
    /// Unsigned, 32 bits.
    U32 = 4,
    /// Signed, 32 bits.
    I32 = 5,
    /// IEEE 754 single precision.
    F32 = 6,
    /// A byte, 0 or 1.
    Bool = 7,
    /// A length and so many bytes of UTF-8.
    String = 8,
    /// A type, a length, and so many values of the type.
    Array = 9,
    /// Unsigned, 64 bits.
    U64 = 10,
    /// Signed, 64 bits.
    I64 = 11,
    /// IEEE 754 double precision.
    F64 = 12,
}

impl Value {
    /// What kind of value it is, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Int { ty, .. } => ty.name(),
            Value::F32(_) => ValueType::F32.name(),
            Value::F64(_) => ValueType::F64.name(),
            Value::Bool(_) => ValueType::Bool.name(),
            Value::String(_) => ValueType::String.name(),
            Value::Array(_) => ValueType::Array.name(),
        }
    }

    /// Reads a type and a value of it.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Value, Problem> {
        let ty = ValueType::read(reader)?;
        Self::of(ty, reader)
    }

    /// Reads a value of a type.
    pub(super) fn of(ty: ValueType, reader: &mut Reader<'_>) -> Result<Value, Problem> {
        Ok(match ty {
            ValueType::Bool => Value::Bool(match reader.array("its value")? {
                [0] => false,
                [1] => true,
                [other] => return Err(reader.invalid(format!("its value {other} is neither true nor false"))),
            }),
            ValueType::F32 => Value::F32(reader.array("its value").map(f32::from_le_bytes)?),
            ValueType::F64 => Value::F64(reader.array("its value").map(f64::from_le_bytes)?),
            ValueType::String => Value::String(reader.string("its value")?.to_owned()),
            ValueType::Array => Value::Array(Array::read(reader, 1)?),
            _ => Value::Int { value: ty.int(reader.take(ty.size(), "its value")?), ty },
        })
    }
}

impl Array {
    /// Checks every element and steps over them.
    fn read(reader: &mut Reader<'_>, depth: usize) -> Result<Array, Problem> {
        if depth > MAX_DEPTH {
            return Err(reader.invalid(format!("arrays are nested more than {MAX_DEPTH} deep")));
        }
        let element = ValueType::read(reader)?;
        let len = reader.u64("its length")?;
        let start = reader.at();
        match element {
            ValueType::String => {
                for _ in 0..len {
                    reader.string("a string of it")?;
                }
            }
            ValueType::Array => {
                for _ in 0..len {
                    Array::read(reader, depth + 1)?;
                }
            }
            _ => {
                reader.take(len.saturating_mul(element.size()), "its elements")?;
            }
        }
        // Every element has at least one byte, so that the length fits where the bytes did.
        Ok(Array { element, len: len as usize, bytes: start..reader.at() })
    }
}

impl ValueType {
    /// The format's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<ValueType, Problem> {
        use ValueType::*;
        const BY_ID: [ValueType; 13] = [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64];
        let id = reader.u32("its type")?;
        BY_ID.get(id as usize).copied().ok_or_else(|| reader.invalid(format!("value type {id} is unknown")))
    }

    pub(super) fn is_int(self) -> bool {
        use ValueType::*;
        matches!(self, U8 | I8 | U16 | I16 | U32 | I32 | U64 | I64)
    }

    /// Bytes of one value; 0 for strings and arrays, which have no fixed size.
    pub(super) fn size(self) -> u64 {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 => 8,
            ValueType::String | ValueType::Array => 0,
        }
    }

    /// The integer in `bytes`, little-endian, of this type's size; 0 extends the unsigned, the sign the signed.
    pub(super) fn int(self, bytes: &[u8]) -> i128 {
        let signed = matches!(self, ValueType::I8 | ValueType::I16 | ValueType::I32 | ValueType::I64);
        let negative = signed && bytes.last().is_some_and(|&top| top >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        i128::from_le_bytes(wide)
    }
}
