//! Text for terminals, and bytes as text.

use std::fmt::Write as _;

/// The bytes in hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Whether a terminal may interpret the character, or shows nothing for it: the control characters C0,
/// DEL and C1, the line and paragraph separators, and those that Unicode calls
/// `Default_Ignorable_Code_Point`, such as those that change the direction of text, and letters such
/// as the Hangul fillers. With them, two texts look the same.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The escape sequence of a character in JSON.
#[must_use]
pub fn json_escape(c: char) -> String {
    let mut text = String::new();
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a string does not fail.
        let _ = write!(text, "\\u{unit:04x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_letters_are_hidden() {
        assert!(
            "\u{3164}\u{ffa0}\u{115f}\u{1160}\u{e0041}\u{200b}\n"
                .chars()
                .all(is_hidden)
        );
        assert!(!"aé한가ﾡ✗ \u{10ffff}".chars().any(is_hidden));
        let escaped = [json_escape('\u{3164}'), json_escape('\u{e0041}')].concat();
        let parsed: String = serde_json::from_str(&format!("\"{escaped}\"")).unwrap();
        assert_eq!(parsed, "\u{3164}\u{e0041}");
    }
}
