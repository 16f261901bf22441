//! MXFP4 as the library stores it, and as GGUF does: the same numbers in another order.
//!
//! A block is 32 values along a row, each a code of 4 bits, and a scale, a power of two in a byte. The library has values `2j` and
//! `2j + 1` below and above in byte `j`, and scales in a tensor of their own; GGUF has the scale first, then values `j` and
//! `j + 16` in byte `j`.

/// Values of a block.
pub(super) const VALUES: usize = 32;
/// Bytes of a block's codes.
pub(super) const CODES: usize = VALUES / 2;

/// GGUF's blocks of the codes and scales of as many blocks.
pub(super) fn blocks(codes: &[u8], scales: &[u8], into: &mut [u8]) {
    let codes = codes.as_chunks::<CODES>().0;
    for ((block, codes), scale) in into.as_chunks_mut::<{ 1 + CODES }>().0.iter_mut().zip(codes).zip(scales) {
        block[0] = *scale;
        block[1..].copy_from_slice(&halves(codes));
    }
}

/// Codes by halves of the block, of codes by pairs.
fn halves(pairs: &[u8; CODES]) -> [u8; CODES] {
    let mut halves = [0; CODES];
    for i in 0..CODES / 2 {
        // Values 2i and 2i + 1 of the first half are in byte i, those of the second in byte i + 8.
        let (low, high) = (pairs[i], pairs[i + CODES / 2]);
        halves[2 * i] = low & 15 | high << 4;
        halves[2 * i + 1] = low >> 4 | high & 0xf0;
    }
    halves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_its_scale_first_and_its_halves_side_by_side() {
        // Value i has the code i % 16, but the second half counts down.
        let code = |i: usize| if i < 16 { i as u8 } else { 31 - i as u8 };
        let pairs: Vec<u8> = (0..16).map(|j| code(2 * j) | code(2 * j + 1) << 4).collect();
        let mut made = [0; 34];
        blocks(&[&pairs[..], &[0x21; 16]].concat(), &[127, 200], &mut made);
        assert_eq!(made[0], 127);
        for j in 0..16 {
            assert_eq!(made[1 + j], code(j) | code(j + 16) << 4, "byte {j}");
        }
        assert_eq!(made[17], 200);
        assert_eq!(made[18..], [0x11, 0x22].repeat(8));
    }
}
