//! The layout of the KV cache.
//!
//! It is made of pages of [`PAGE`] tokens. What neighbouring lanes read lies side by side, and that differs:
//!
//! | elements | keys | values |
//! |---|---|---|
//! | f32: a lane has a token of the keys, or an element of the values | `[pages, kv_heads, head_dim, PAGE]` | `[pages, kv_heads, PAGE, head_dim]` |
//! | f16, bf16: a tensor-core step sums over 16 elements of a key, or over 16 tokens of the values | `[pages, kv_heads, PAGE, head_dim]` | `[pages, kv_heads, head_dim, PAGE]` |

use cuda_std::{Bf16, F16, Value};

/// Tokens in a page.
pub const PAGE: usize = 32;

/// The first position that a token sees which sees `seen` positions up to itself, through a sliding window of `window`
/// positions; 0 is no window.
#[inline(always)]
pub fn first_seen(seen: usize, window: usize) -> usize {
    if window == 0 { 0 } else { seen.saturating_sub(window) }
}

/// The type of cached keys and values, and of the queries that meet them.
pub trait Cached {
    /// How an element is stored.
    type Stored: Value;
    /// Rounded to nearest even.
    fn store(value: f32) -> Self::Stored;
    /// Where element `d` of the token at `place` lies in a head's page of keys.
    fn key(place: usize, d: usize, head_dim: usize) -> usize;
    /// Where element `d` of the token at `place` lies in a head's page of values.
    fn value(place: usize, d: usize, head_dim: usize) -> usize;
}

/// f32.
pub struct Full;

impl Cached for Full {
    type Stored = f32;

    #[inline(always)]
    fn store(value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn key(place: usize, d: usize, _: usize) -> usize {
        d * PAGE + place
    }

    #[inline(always)]
    fn value(place: usize, d: usize, head_dim: usize) -> usize {
        place * head_dim + d
    }
}

/// The 16-bit types.
macro_rules! half {
    ($type:ty) => {
        impl Cached for $type {
            type Stored = u16;

            #[inline(always)]
            fn store(value: f32) -> u16 {
                <$type>::from_f32(value).0
            }

            #[inline(always)]
            fn key(place: usize, d: usize, head_dim: usize) -> usize {
                place * head_dim + d
            }

            #[inline(always)]
            fn value(place: usize, d: usize, _: usize) -> usize {
                d * PAGE + place
            }
        }
    };
}

half!(F16);
half!(Bf16);
