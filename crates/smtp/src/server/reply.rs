//! What a server says: a code, one line or more, and whether the connection lives on.

/// One reply, RFC 5321 §4.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReply {
    code: u16,
    lines: Vec<String>,
    injected: Vec<u8>,
    after: After,
}

/// What becomes of the connection once a reply is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The next command is read.
    Continue,
    /// The reply is delivered, then the connection is closed.
    Close,
    /// The connection is closed and this reply, like any not yet sent, never leaves.
    Vanish,
}

impl ServerReply {
    /// A reply of one line. `text` follows the code and a space, so it starts with the
    /// enhanced status where there is one: `ServerReply::new(250, "2.1.0 Sender OK")`.
    ///
    /// Control characters in `text` are sent as `?`: what a client wrote may be quoted
    /// in a reply without becoming a reply of its own. A code outside 200 to 599 is
    /// sent as 451.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self::lines(code, [text.into()])
    }

    /// A reply of several lines, all under one code. None at all is one empty line.
    pub fn lines<T: Into<String>>(code: u16, lines: impl IntoIterator<Item = T>) -> Self {
        let mut lines: Vec<String> = lines
            .into_iter()
            .map(|line| printable(line.into()))
            .collect();
        if lines.is_empty() {
            lines.push(String::new());
        }
        Self {
            code: if (200..600).contains(&code) {
                code
            } else {
                451
            },
            lines,
            injected: Vec::new(),
            after: After::Continue,
        }
    }

    /// The connection is cut without a word.
    pub fn vanish() -> Self {
        Self {
            after: After::Vanish,
            ..Self::new(421, "4.3.0 Closing connection")
        }
    }

    /// The same reply, with the connection closed behind it.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.after = After::Close;
        self
    }

    /// Writes these octets behind the reply, as they are: what an attacker on the path
    /// would do. Only for servers that put clients to the test.
    #[must_use]
    pub fn danger_followed_by(mut self, octets: impl Into<Vec<u8>>) -> Self {
        self.injected = octets.into();
        self
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The lines without code and CRLF.
    pub fn text(&self) -> &[String] {
        &self.lines
    }

    /// What becomes of the connection.
    pub fn after(&self) -> After {
        self.after
    }

    /// Whether this is a positive completion, 2xx.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let last = self.lines.len() - 1;
        for (index, line) in self.lines.iter().enumerate() {
            let mark = if index == last { ' ' } else { '-' };
            out.extend_from_slice(format!("{}{mark}{line}\r\n", self.code).as_bytes());
        }
        out.extend_from_slice(&self.injected);
    }
}

fn printable(line: String) -> String {
    if line.contains(char::is_control) {
        line.replace(char::is_control, "?")
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_line_break_cannot_start_a_second_reply() {
        let mut out = Vec::new();
        ServerReply::new(500, "5.5.2 what is 'X\r\n250 OK'").write_to(&mut out);
        assert_eq!(out, b"500 5.5.2 what is 'X??250 OK'\r\n");
    }

    #[test]
    fn every_line_but_the_last_has_a_hyphen() {
        let mut out = Vec::new();
        ServerReply::lines(250, ["a", "b", "c"]).write_to(&mut out);
        assert_eq!(out, b"250-a\r\n250-b\r\n250 c\r\n");
    }

    #[test]
    fn an_impossible_code_and_an_empty_reply_stay_well_formed() {
        let mut out = Vec::new();
        ServerReply::lines::<String>(42, []).write_to(&mut out);
        assert_eq!(out, b"451 \r\n");
    }
}
