//! The alphabet in which byte-level vocabularies are written down: a printable character for every byte.
//!
//! Bytes that are printable characters of Latin-1 stand for themselves; the 68 others, in order, for the characters
//! from U+0100 on. It is GPT-2's (`bytes_to_unicode` in its encoder.py).

/// The character that stands for a byte.
pub(crate) fn character(wanted: u8) -> char {
    let mut alphabet = '\0'..='\u{143}';
    alphabet.find(|&character| byte(character) == Some(wanted)).expect("every byte has a character")
}

/// The byte that a character of the alphabet stands for.
pub(super) fn byte(character: char) -> Option<u8> {
    match character {
        '!'..='~' | '¡'..='¬' | '®'..='ÿ' => Some(character as u8),
        '\u{100}'..='\u{120}' => Some((character as u32 - 0x100) as u8),
        '\u{121}'..='\u{142}' => Some((character as u32 - 0x121 + 0x7f) as u8),
        '\u{143}' => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::byte;

    #[test]
    fn every_byte_has_exactly_one_character() {
        let mut bytes: Vec<u8> = ('\0'..='\u{200}').filter_map(byte).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn space_newline_and_del_are_where_gpt2_puts_them() {
        assert_eq!(['Ġ', 'Ċ', 'ġ', 'ł', 'Ń', 'é'].map(byte), [b' ', b'\n', 0x7f, 0xa0, 0xad, 0xe9].map(Some));
        assert_eq!([' ', '\n', '\u{ad}', '€'].map(byte), [None; 4]);
    }
}
