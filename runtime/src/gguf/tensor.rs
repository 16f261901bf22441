use std::ops::Range;

use super::Problem;
use super::reader::Reader;

/// Tensors have at most this many dimensions.
const MAX_DIMS: u32 = 4;

/// A tensor's place and shape in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Such as `blk.0.attn_q.weight`.
    pub name: String,
    /// One to four, none of them 0, the fastest first: a weight matrix is `[in features, out features]`.
    pub dims: Vec<usize>,
    /// How the values are stored.
    pub ty: TensorType,
    /// Where they are in the file.
    pub bytes: Range<usize>,
}

impl Tensor {
    /// Number of values.
    pub fn values(&self) -> usize {
        self.dims.iter().product()
    }

    /// Reads a tensor's entry, whose bytes are then relative to the beginning of the data.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Tensor, Problem> {
        let name = reader.name()?.to_owned();
        reader.subject = format!("tensor {name:?}");
        let count = reader.u32("its number of dimensions")?;
        if count == 0 || count > MAX_DIMS {
            return Err(reader.invalid(format!("it has {count} dimensions, 1 to {MAX_DIMS} are allowed")));
        }
        let mut dims = Vec::new();
        for _ in 0..count {
            let dim = reader.u64("its dimensions")?;
            dims.push(
                usize::try_from(dim)
                    .ok()
                    .filter(|&dim| dim > 0)
                    .ok_or_else(|| reader.invalid(format!("a dimension of {dim}")))?,
            );
        }
        let id = reader.u32("its type")?;
        let ty = TensorType::from_id(id).ok_or_else(|| Problem::TensorType { tensor: name.clone(), id })?;
        if dims[0] % ty.block_values() != 0 {
            let fault = format!(
                "rows of {} values are not whole blocks of {} {ty} values",
                dims[0],
                ty.block_values()
            );
            return Err(reader.invalid(fault));
        }
        let start = reader.u64("its offset")?;
        let blocks = dims[1..].iter().try_fold(dims[0] / ty.block_values(), |n, &dim| n.checked_mul(dim));
        let size = blocks.and_then(|blocks| blocks.checked_mul(ty.block_bytes()));
        // The number of values must fit too, as `values` multiplies without a check.
        let values = blocks.and_then(|blocks| blocks.checked_mul(ty.block_values()));
        let start = usize::try_from(start).ok();
        let bytes = match (start, size, values) {
            (Some(start), Some(size), Some(_)) => start.checked_add(size).map(|end| start..end),
            _ => None,
        };
        let bytes = bytes
            .ok_or_else(|| reader.invalid(format!("its dimensions {dims:?} or its offset are too large")))?;
        Ok(Tensor { name, dims, ty, bytes })
    }
}

macro_rules! tensor_types {
    ($($name:ident = $id:literal, $values:literal, $bytes:literal;)*) => {
        /// How a tensor's values are stored: ggml's types, by their usual names.
        ///
        /// The values of a row are stored in blocks of a fixed number of values and a fixed number of bytes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(non_camel_case_types, reason = "ggml's own names")]
        pub enum TensorType {
            $(
                #[doc = concat!("ggml's `", stringify!($name), "`: ", $values, " values in ", $bytes, " bytes.")]
                $name = $id,
            )*
        }

        impl TensorType {
            fn from_id(id: u32) -> Option<TensorType> {
                match id {
                    $($id => Some(TensorType::$name),)*
                    _ => None,
                }
            }

            /// Its usual name, such as `Q4_1`.
            pub fn name(self) -> &'static str {
                match self {
                    $(TensorType::$name => stringify!($name),)*
                }
            }

            /// Values in a block; 1 for plain types.
            pub fn block_values(self) -> usize {
                match self {
                    $(TensorType::$name => $values,)*
                }
            }

            /// Bytes of a block.
            pub fn block_bytes(self) -> usize {
                match self {
                    $(TensorType::$name => $bytes,)*
                }
            }
        }
    };
}

// Name = id, values in a block, bytes of a block. Ids that are left out were withdrawn from the format.
tensor_types! {
    F32 = 0, 1, 4;
    F16 = 1, 1, 2;
    Q4_0 = 2, 32, 18;
    Q4_1 = 3, 32, 20;
    Q5_0 = 6, 32, 22;
    Q5_1 = 7, 32, 24;
    Q8_0 = 8, 32, 34;
    Q8_1 = 9, 32, 36;
    Q2_K = 10, 256, 84;
    Q3_K = 11, 256, 110;
    Q4_K = 12, 256, 144;
    Q5_K = 13, 256, 176;
    Q6_K = 14, 256, 210;
    Q8_K = 15, 256, 292;
    IQ2_XXS = 16, 256, 66;
    IQ2_XS = 17, 256, 74;
    IQ3_XXS = 18, 256, 98;
    IQ1_S = 19, 256, 50;
    IQ4_NL = 20, 32, 18;
    IQ3_S = 21, 256, 110;
    IQ2_S = 22, 256, 82;
    IQ4_XS = 23, 256, 136;
    I8 = 24, 1, 1;
    I16 = 25, 1, 2;
    I32 = 26, 1, 4;
    I64 = 27, 1, 8;
    F64 = 28, 1, 8;
    IQ1_M = 29, 256, 56;
    BF16 = 30, 1, 2;
    TQ1_0 = 34, 256, 54;
    TQ2_0 = 35, 256, 66;
    MXFP4 = 39, 32, 17;
    NVFP4 = 40, 64, 36;
    Q1_0 = 41, 128, 18;
    Q2_0 = 42, 64, 18;
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
