//! Text of unknown origin, made harmless for a terminal.

use std::fmt::Write as _;

/// One line of text: what is no printable character (a control, a change of the writing's direction, a line's end) is written
/// as an escape, as Rust does.
pub(crate) fn line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => safe.push(c),
            // Only what is not printable, or joins what is before it.
            c => safe.extend(c.escape_debug()),
        }
    }
    safe
}

/// JSON in which everything but printable ASCII and lines' ends is written as an escape.
pub(crate) fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ' '..='~' | '\n') {
            safe.push(c);
            continue;
        }
        // Outside of strings JSON has no other characters.
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(safe, "\\u{unit:04x}");
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_directions_are_escaped_and_letters_are_not() {
        assert_eq!(line("plain \"x\" 'y' \\ é漢"), "plain \"x\" 'y' \\ é漢");
        assert_eq!(
            line("\u{1b}[2J\r\n\u{7f}\u{9b}31m\u{202e}\u{2028}\0"),
            r"\u{1b}[2J\r\n\u{7f}\u{9b}31m\u{202e}\u{2028}\0"
        );
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"a\u{9b}": ["\u{202e}\u{7f}", "é😀", "\u{1b}\n\"\\"]});
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.chars().all(|c| matches!(c, ' '..='~' | '\n')), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
