//! Text with names in it that others gave, fit for a terminal.

/// The most of a text that is shown, in characters.
const LONGEST: usize = 1000;

/// `text` on one line, without what a terminal obeys: control characters, and the marks that turn
/// the direction of text or hide it.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .take(LONGEST)
        .map(|c| if is_obeyed(c) { '\u{fffd}' } else { c })
        .collect()
}

fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_move_the_cursor_or_turn_the_text() {
        assert_eq!(
            shown("a\u{1b}[2J\nb\u{202e}c"),
            "a\u{fffd}[2J\u{fffd}b\u{fffd}c"
        );
        assert_eq!(shown("Zoë’s mailer"), "Zoë’s mailer");
        assert_eq!(shown(&"x".repeat(2000)).len(), LONGEST);
    }
}
