//! Addresses of the host, which no kernel may be given. On this GPU they would work.

use crate::memory::{Kind, Memory};

/// Where a process of Linux on x86-64 or AArch64 has its code, heap, libraries and stack.
const HOST: std::ops::Range<u64> = 0x5000_0000_0000..0x8000_0000_0000;

/// More than there are rows or tokens.
const SMALL: u32 = 1 << 16;
/// Of an f32; none of a power of two has one.
const FRACTION: u32 = (1 << 23) - 1;

/// Whether one of the words of a kernel's arguments is the address of memory that the process has and the GPU has not.
/// Two numbers side by side may look like an address; only what is mapped is one, and not what a small number before padding
/// or a power of two in f32 makes of the half of an address that was left there.
pub(crate) fn is_among(args: &[u128], memory: &Memory) -> bool {
    let words = args.iter().flat_map(|&pair| [pair as u64, (pair >> 64) as u64]);
    let is_number = |low: u32| low < SMALL || low & FRACTION == 0;
    words.filter(|&word| HOST.contains(&word) && !is_number(word as u32)).any(|word| {
        match memory.find(word as usize) {
            Some(block) => block.kind == Kind::Pinned,
            None => is_mapped(word),
        }
    })
}

fn is_mapped(address: u64) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    maps.lines().any(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let range = range.and_then(|(start, end)| Some(number(start)?..number(end)?));
        range.is_some_and(|range| range.contains(&address))
    })
}
