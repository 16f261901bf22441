//! [`crate::prompt`] on the tensor core of Hopper: four warps multiply together.
//!
//! The bits are the same. A block has 128 rows, 64 for each four warps, which keep scores, weights and sums in registers; keys and
//! values the tensor core reads from scratch memory by itself. While a chunk is worked on, the next one's are copied, and their
//! copies are asked for while the tensor core makes scores.
//!
//! Bytes moved: `4 head_dim` for each token seen, tile and key head.

use cuda_std::math::{ORDINARY, divide, exp_negative, exp_ordinary, mul_add, sqrt};
use cuda_std::{
    Bf16, Block, Divisor, F16, Geometry, MmaInput, Scratch, Warp, WarpGroup, kernel, made, mapped, unrolled,
};

use crate::chunks::{Asking, CHUNK, Merge};
use crate::flash::Flash;
use crate::kv::{Cached, PAGE};
use crate::prompt::{LANES, ROWS, STEP, WARPS, parts, stride};

/// Octets of a chunk's tokens, and steps over them.
const OCTETS: usize = CHUNK / 8;
const STEPS: usize = CHUNK / 16;
/// Columns of a part of what the tensor core reads by itself, see [`cuda_std::WarpGroup::multiply_group`].
const PART: usize = 64;

/// The cell of octet `octet` of row `row` of so many rows.
#[inline(always)]
fn swizzled(rows: usize, row: usize, octet: usize) -> usize {
    octet / 8 * rows * PART + row * PART + ((octet % 8) ^ (row % 8)) * 8
}

fn geometry(a: &Flash) -> Geometry {
    let (head_dim, group) = (a.head_dim as usize, (a.heads / a.kv_heads) as usize);
    Geometry {
        grid: [a.kv_heads as usize, a.count as usize * parts(group)],
        scratch: 1024 + 2 * (ROWS * stride(head_dim) + 4 * CHUNK * head_dim),
    }
}

/// What a warp keeps from one chunk to the next.
struct State<W: Warp, const EIGHTS: usize> {
    /// Of its rows: positions seen, up to their own.
    seen: W::Rows<u32>,
    /// What the first of them sees and the last.
    first_sees: usize,
    last_sees: usize,
    merge: W::Rows<Merge>,
    sums: [W::C; EIGHTS],
}

impl<W: Warp, const EIGHTS: usize> Clone for State<W, EIGHTS> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<W: Warp, const EIGHTS: usize> Copy for State<W, EIGHTS> {}

/// Of heads of `8 EIGHTS` elements, over which there are `SIXTEENS` steps.
#[inline(always)]
fn prompt<B: Block, I: MmaInput + Cached, const EIGHTS: usize, const SIXTEENS: usize>(block: &B, a: &Flash) {
    let head_dim = const { 8 * EIGHTS };
    let (stride, scale) = (stride(head_dim), 1.0 / sqrt(head_dim as f32));
    let window = if a.window == 0 { u32::MAX } else { a.window };
    // The last tiles, which may see most, come first, of all heads.
    let parts = parts((a.heads / a.kv_heads) as usize);
    let index = a.count as usize * parts - 1 - block.y();
    let (tile, part) = divide(index, parts);
    let rows = Asking::new(a, tile, part * ROWS, block.x());
    let (seen, first_seen) = (rows.seen(a), rows.first_seen(a));
    block.align();
    let keys = block.scratch::<u16>(2 * CHUNK * head_dim);
    let values = block.scratch::<u16>(2 * CHUNK * head_dim);
    let queries = block.scratch::<u16>(ROWS * stride);

    // Two lanes a row; they are waited for with the first chunk.
    block.lanes(
        #[inline(always)]
        |lane| {
            let (row, first) = (lane / 2, lane % 2);
            let there = rows.exists(row);
            let q = if there { rows.output(a, row) * head_dim } else { 0 };
            for octet in (0..EIGHTS).step_by(2) {
                let octet = octet + first;
                queries.copy_async(lane, row * stride + octet * 8, &a.q, q + octet * 8, there);
            }
        },
    );

    let mut state = block.per_warp::<_, WARPS>(|index, warp| {
        let (mut saw, mut merge) = (warp.rows(0u32), warp.rows(Merge::NONE));
        warp.each_row(|_, row| {
            let at = index * STEP + row;
            if rows.exists(at) {
                saw[row] = a.positions.get(rows.token(at)) + 1;
                merge[row] = Merge::before(&a.sinks, rows.head(at));
            }
        });
        let last_sees = rows.last_sees(a, index * STEP, STEP);
        State::<B::Warp, EIGHTS> {
            seen: saw,
            first_sees: if last_sees == 0 { 0 } else { rows.last_sees(a, index * STEP, 1) },
            last_sees,
            merge,
            sums: [warp.zero(); EIGHTS],
        }
    });
    let (first, end) = (first_seen / CHUNK, seen.div_ceil(CHUNK));
    let pages = |chunk: usize| {
        made::<_, { CHUNK / PAGE }>(|i| {
            let i = chunk * (CHUNK / PAGE) + i;
            let there = i * PAGE < seen;
            (there, if there { rows.number(a, i) } else { 0 })
        })
    };
    // Where in its cells a chunk lies.
    let half = |chunk: usize| chunk % 2 * CHUNK * head_dim;
    // Begins to copy a chunk, of such pages. A key's octets are neighbouring lanes', and so are a page's four of an element of the
    // values.
    macro_rules! fetch {
        ($chunk:expr, $pages:ident) => {
            let to = half($chunk);
            block.lanes(
                #[inline(always)]
                |lane| {
                    let (place, octet) = (lane / EIGHTS, lane % EIGHTS);
                    let (element, eight) = (lane / 4, lane % 4);
                    unrolled::<{ CHUNK / PAGE }>(
                        #[inline(always)]
                        |i| {
                            let (there, number) = $pages[i];
                            let page = rows.begin(a, number);
                            for j in 0..PAGE * EIGHTS / LANES {
                                let place = place + j * (LANES / EIGHTS);
                                let cell = to + swizzled(CHUNK, i * PAGE + place, octet);
                                let key = page + I::key(place, octet * 8, head_dim);
                                keys.copy_async(lane, cell, &a.key_pages, key, there);
                            }
                            for j in 0..4 * head_dim / LANES {
                                let d = element + j * (LANES / 4);
                                let cell = to + swizzled(head_dim, d, i * 4 + eight);
                                let value = page + I::value(eight * 8, d, head_dim);
                                values.copy_async(lane, cell, &a.value_pages, value, there);
                            }
                        },
                    );
                },
            );
            block.warps(|_, warp| warp.copies_commit());
        };
    }
    let mut next = pages(first);
    fetch!(first, next);
    next = pages(first + 1);
    for chunk in first..end {
        let (from, at) = (chunk * CHUNK, half(chunk));
        block.warps(|_, warp| warp.copies_wait::<0>());
        if from < first_seen || seen < from + CHUNK {
            // Values that no row sees are replaced by zeros.
            block.barrier();
            block.each(a.head_dim as usize * OCTETS, |lane, i| {
                let (d, octet) = (i / OCTETS, i % OCTETS);
                for token in octet * 8..octet * 8 + 8 {
                    if from + token < first_seen || seen <= from + token {
                        values.set(lane, at + swizzled(head_dim, d, octet) + token % 8, 0);
                    }
                }
            });
        }
        // The chunk's keys and values are there, of all warps, and all are done with those before.
        block.warps(|_, warp| warp.show());
        block.barrier();
        let mut scores = block.per_warp::<_, WARPS>(|_, warp| [warp.zero(); OCTETS]);
        block.warps(
            #[inline(always)]
            |index, warp| {
                let query = |step: usize| {
                    warp.load_a(&queries, |row, octet| (index * STEP + row) * stride + step * 16 + octet * 8)
                };
                let mut q = [query(0); SIXTEENS];
                unrolled::<SIXTEENS>(|step| {
                    if step > 0 {
                        q[step] = query(step);
                    }
                });
                warp.mma_group::<I, SIXTEENS, OCTETS, _>(
                    &q,
                    &keys,
                    |token, octet| at + swizzled(CHUNK, token, octet),
                    &mut scores[index],
                );
            },
        );
        // Nothing here may branch, or the tensor core would wait for each step by itself.
        fetch!(chunk + 1, next);
        block.warps(
            #[inline(always)]
            |index, warp| warp.wait_group(&mut scores[index]),
        );
        next = pages(chunk + 2);
        block.warps(
            #[inline(always)]
            |index, warp| {
                let State { seen, first_sees, last_sees, merge, sums } = &mut state[index];
                let scores = &mut scores[index];
                unrolled::<OCTETS>(|o| {
                    let score = scores[o];
                    warp.zip_c(&mut scores[o], &score, |_, _, score, _| score * scale);
                });
                // Most chunks are seen whole, by every row.
                let whole = from + CHUNK <= *first_sees && *last_sees - from <= window as usize;
                if !whole {
                    unrolled::<OCTETS>(|o| {
                        let score = scores[o];
                        warp.zip_c(&mut scores[o], &score, |row, column, score, _| {
                            let at = (from + o * 8 + column) as u32;
                            let sees = at < seen[row] && seen[row] - at <= window;
                            if sees { score } else { f32::NEG_INFINITY }
                        });
                    });
                }
                let top = warp.max_rows(scores);
                // Where a row sees nothing all scores are minus infinity, and weights zeros.
                let mut less = top;
                warp.each_row(|_, row| {
                    less[row] = if top[row] == f32::NEG_INFINITY { 0.0 } else { top[row] }
                });
                let mut ordinary = true;
                unrolled::<OCTETS>(|o| {
                    let score = scores[o];
                    warp.zip_c(&mut scores[o], &score, |row, _, score, _| {
                        let logarithm = score - less[row];
                        ordinary &= logarithm >= ORDINARY;
                        logarithm
                    });
                });
                macro_rules! weights {
                    ($exp:ident) => {
                        unrolled::<OCTETS>(|o| {
                            let score = scores[o];
                            warp.zip_c(&mut scores[o], &score, |_, _, score, _| $exp(score));
                        })
                    };
                }
                if ordinary {
                    weights!(exp_ordinary);
                } else {
                    weights!(exp_negative);
                }
                let total = warp.sum_rows(scores);
                let mut weights = [warp.round_to_a::<I>(&scores[0], &scores[1]); STEPS];
                unrolled::<STEPS>(|step| {
                    weights[step] = warp.round_to_a::<I>(&scores[2 * step], &scores[2 * step + 1]);
                });

                let mut adds = true;
                warp.each_row(|_, row| {
                    merge[row] = merge[row].chunk(top[row], total[row]);
                    adds &= merge[row].add != 0.0;
                });
                let mut chunk = [warp.zero(); EIGHTS];
                warp.mma_group::<I, STEPS, EIGHTS, _>(
                    &weights,
                    &values,
                    |d, octet| at + swizzled(head_dim, d, octet),
                    &mut chunk,
                );
                warp.wait_group(&mut chunk);
                if adds {
                    unrolled::<EIGHTS>(|i| {
                        warp.zip_c(&mut sums[i], &chunk[i], |row, _, sum, chunk| {
                            mul_add(chunk, merge[row].add, sum * merge[row].keep)
                        });
                    });
                } else {
                    unrolled::<EIGHTS>(|i| {
                        warp.zip_c(&mut sums[i], &chunk[i], |row, _, sum, chunk| merge[row].sum(sum, chunk));
                    });
                }
            },
        );
    }
    block.warps(|index, warp| {
        let State { merge, sums, .. } = &state[index];
        let mut divisors = warp.rows(Divisor::ONE);
        warp.each_row(|_, row| divisors[row] = Divisor::new(merge[row].total));
        unrolled::<EIGHTS>(|i| {
            warp.each_pair(&sums[i], |row, column, sums| {
                let at = index * STEP + row;
                if rows.exists(at) {
                    let values = mapped(sums, |sum| divisors[row].divides(sum));
                    a.out.put_pair(rows.output(a, at) * head_dim + i * 8 + column, values);
                }
            });
        });
    });
}

/// A kernel for each type and size of heads.
macro_rules! kernels {
    ($($NAME:ident = $entry:ident, $input:ident, $eights:literal;)*) => {
        $(kernel! {
            /// See the module; the name tells the type and a head's elements.
            pub $NAME = $entry(Flash), lanes: LANES, geometry: geometry, body: prompt::<_, $input, $eights, { $eights / 2 }>
        })*
    };
}

kernels! {
    F16_64 = prompt_group__f16_64, F16, 8;
    F16_128 = prompt_group__f16_128, F16, 16;
    BF16_64 = prompt_group__bf16_64, Bf16, 8;
    BF16_128 = prompt_group__bf16_128, Bf16, 16;
}

/// The kernel for heads of so many elements, if there is one.
#[cfg(not(target_arch = "nvptx64"))]
pub fn of(bf16: bool, head_dim: usize) -> Option<&'static cuda_std::Kernel<Flash>> {
    match (bf16, head_dim) {
        (false, 64) => Some(&F16_64),
        (false, 128) => Some(&F16_128),
        (true, 64) => Some(&BF16_64),
        (true, 128) => Some(&BF16_128),
        _ => None,
    }
}
