//! The stored types by name.

macro_rules! stored {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How weights are stored: the types that kernels read, by their names in GGUF.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types, reason = "GGUF's own names")]
        pub enum Stored {
            $($(#[$doc])* $name,)*
        }

        impl Stored {
            /// All types.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, such as `Q4_K`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

stored! {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `F32`.
    BF16,
    /// Blocks of 32: a scale in f16, and 8 bits a value.
    Q8_0,
    /// Blocks of 32: a scale in f16, and 4 bits a value.
    Q4_0,
    /// Blocks of 32: a scale and a minimum in f16, and 4 bits a value.
    Q4_1,
    /// Blocks of 32: a scale in f16, and 5 bits a value.
    Q5_0,
    /// Blocks of 32: a scale and a minimum in f16, and 5 bits a value.
    Q5_1,
    /// Super-blocks of 256: 2 bits a value.
    Q2_K,
    /// Super-blocks of 256: 3 bits a value.
    Q3_K,
    /// Super-blocks of 256: 4 bits a value.
    Q4_K,
    /// Super-blocks of 256: 5 bits a value.
    Q5_K,
    /// Super-blocks of 256: 6 bits a value.
    Q6_K,
    /// Blocks of 32: a scale in f16, and 4 bits a value, an index into 16 numbers.
    IQ4_NL,
    /// Super-blocks of 256: 4 bits a value, an index into 16 numbers.
    IQ4_XS,
    /// Blocks of 32: a power of two in 8 bits, and a float of 4 bits a value.
    MXFP4,
}

impl Stored {
    /// Whether values are stored in blocks.
    pub const fn is_quantised(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }
}
