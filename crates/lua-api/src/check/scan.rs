//! What is to be known of a text before it is parsed: that the parser, which recurs, will not
//! run out of stack, and which lines are not to be spoken of.
//!
//! It reads octets and allows for anything: what is no Lua is for the parser to say.

use std::collections::BTreeSet;

/// How deep blocks, brackets and functions may be in one another; what Lua itself takes.
const NESTED_AT_MOST: usize = 200;

/// How many operators one expression may have.
const OPERATORS_AT_MOST: usize = 2000;

/// The words of the comment that keeps a line from being spoken of.
const IGNORE: &str = "postrider: ignore";

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The line at which it is too deep to be parsed.
    pub(super) too_deep: Option<usize>,
    /// The line and column of a character that the parser cannot bear.
    pub(super) stray: Option<(usize, usize)>,
    /// Lines with the comment, and those below one that has nothing else.
    pub(super) ignored: BTreeSet<usize>,
}

/// Looks over `source`.
pub(super) fn scan(source: &str) -> Scan {
    let mut scanner = Scanner {
        octets: source.as_bytes(),
        at: 0,
        line: 1,
        blank: true,
        open: vec![(b' ', 0)],
        operators: 0,
        scan: Scan::default(),
    };
    scanner.run(source);
    scanner.scan
}

struct Scanner<'a> {
    octets: &'a [u8],
    at: usize,
    line: usize,
    /// Nothing but white space on this line so far.
    blank: bool,
    /// What is open, and the operators of the expression in it. Only what fits closes: a parser
    /// that met something else may still be inside.
    open: Vec<(u8, usize)>,
    operators: usize,
    scan: Scan,
}

impl Scanner<'_> {
    fn run(&mut self, source: &str) {
        while let Some(&octet) = self.octets.get(self.at) {
            let start = self.at;
            match octet {
                b'\n' => {
                    self.line += 1;
                    self.blank = true;
                    self.at += 1;
                    continue;
                }
                b' ' | b'\t' | b'\r' => {
                    self.at += 1;
                    continue;
                }
                b'-' if self.octets.get(start + 1) == Some(&b'-') => self.comment(source),
                b'\'' | b'"' => self.string(octet),
                b'[' if self.long_bracket(start).is_some() => self.long(start),
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.word(),
                _ => self.symbol(octet),
            }
            self.blank = false;
            if self.scan.too_deep.is_none()
                && (self.open.len() > NESTED_AT_MOST || self.operators > OPERATORS_AT_MOST)
            {
                self.scan.too_deep = Some(self.line);
            }
        }
    }

    fn comment(&mut self, source: &str) {
        let (line, start, alone) = (self.line, self.at, self.blank);
        self.at += 2;
        if self.long_bracket(self.at).is_some() {
            self.long(self.at);
        } else {
            self.at = self.octets[self.at..]
                .iter()
                .position(|&octet| octet == b'\n')
                .map_or(self.octets.len(), |length| self.at + length);
        }
        let text = source.get(start..self.at).unwrap_or_default();
        if text.contains(IGNORE) {
            self.scan.ignored.insert(line);
            if alone {
                self.scan.ignored.insert(self.line + 1);
            }
        }
    }

    fn string(&mut self, quote: u8) {
        self.at += 1;
        while let Some(&octet) = self.octets.get(self.at) {
            self.at += 1;
            match octet {
                b'\\' => {
                    if self.octets.get(self.at) == Some(&b'\n') {
                        self.line += 1;
                    }
                    self.at += 1;
                }
                // The end, or a string that is not closed: the line is counted outside.
                b'\n' => {
                    self.at -= 1;
                    return;
                }
                octet if octet == quote => return,
                _ => {}
            }
        }
        self.at = self.at.min(self.octets.len());
    }

    /// How many `=` a long bracket at `from` has, if there is one.
    fn long_bracket(&self, from: usize) -> Option<usize> {
        if self.octets.get(from) != Some(&b'[') {
            return None;
        }
        let level = self.octets[from + 1..]
            .iter()
            .take_while(|&&octet| octet == b'=')
            .count();
        (self.octets.get(from + 1 + level) == Some(&b'[')).then_some(level)
    }

    /// Goes behind the long bracket at `from`.
    fn long(&mut self, from: usize) {
        let level = self.long_bracket(from).unwrap_or_default();
        self.at = from + level + 2;
        while let Some(&octet) = self.octets.get(self.at) {
            self.at += 1;
            if octet == b'\n' {
                self.line += 1;
            }
            if octet == b']' {
                let rest = &self.octets[self.at..];
                let closes = rest.len() > level
                    && rest[..level].iter().all(|&octet| octet == b'=')
                    && rest[level] == b']';
                if closes {
                    self.at += level + 1;
                    return;
                }
            }
        }
    }

    fn word(&mut self) {
        let length = self.octets[self.at..]
            .iter()
            .take_while(|octet| octet.is_ascii_alphanumeric() || **octet == b'_')
            .count();
        let word = &self.octets[self.at..self.at + length];
        self.at += length;
        match word {
            b"function" | b"if" | b"do" => self.opens(b'e'),
            b"repeat" => self.opens(b'u'),
            b"end" => self.closes(b'e'),
            b"until" => {
                self.closes(b'u');
                self.fresh();
            }
            b"and" | b"or" | b"not" => self.operator(),
            b"local" | b"return" | b"then" | b"else" | b"elseif" | b"while" | b"for" | b"in"
            | b"goto" | b"break" => self.fresh(),
            _ => {}
        }
    }

    fn symbol(&mut self, octet: u8) {
        self.at += 1;
        match octet {
            b'(' | b'{' | b'[' => self.opens(octet),
            b')' => self.closes(b'('),
            b'}' => self.closes(b'{'),
            b']' => self.closes(b'['),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'#' | b'&' | b'|' | b'<' | b'>' => {
                self.operator();
            }
            // One `.` is an index, which does not nest.
            b'.' if self.octets.get(self.at) == Some(&b'.') => {
                self.at += 1;
                self.operator();
            }
            // `~=` and `==` are operators, `=` begins an expression.
            b'~' | b'=' => {
                if self.octets.get(self.at) == Some(&b'=') {
                    self.at += 1;
                    self.operator();
                } else if octet == b'~' {
                    self.operator();
                } else {
                    self.fresh();
                }
            }
            b',' | b';' => self.fresh(),
            b'`' if self.scan.stray.is_none() => self.scan.stray = Some((self.line, self.column())),
            _ => {}
        }
    }

    /// Where the character just read stands in its line.
    fn column(&self) -> usize {
        let before = &self.octets[..self.at];
        let start = before
            .iter()
            .rposition(|&octet| octet == b'\n')
            .map_or(0, |at| at + 1);
        String::from_utf8_lossy(&before[start..]).chars().count()
    }

    fn opens(&mut self, what: u8) {
        self.open.push((what, 0));
    }

    fn closes(&mut self, what: u8) {
        if self.open.last().is_some_and(|(open, _)| *open == what)
            && let Some((_, operators)) = self.open.pop()
        {
            self.operators -= operators;
        }
    }

    fn operator(&mut self) {
        if let Some((_, operators)) = self.open.last_mut() {
            *operators += 1;
            self.operators += 1;
        }
    }

    /// Another expression begins.
    fn fresh(&mut self) {
        if let Some((_, operators)) = self.open.last_mut() {
            self.operators -= *operators;
            *operators = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lua_takes_is_not_too_deep() {
        assert_eq!(
            scan(&"local x = { a = f(1) + 2 .. 'y' }\n".repeat(5000)).too_deep,
            None
        );
        assert_eq!(scan(&"print(a.b.c.d:e())\n".repeat(5000)).too_deep, None);
        assert_eq!(
            scan(&"if x then y() elseif z then w() end\n".repeat(5000)).too_deep,
            None
        );
        assert_eq!(
            scan(&format!("x = 1{}", " + 1".repeat(1000))).too_deep,
            None
        );
    }

    #[test]
    fn what_would_exhaust_the_stack_is_too_deep() {
        for open in [
            "(",
            "{",
            "do ",
            "function() ",
            "not ",
            "-- \n- ",
            "if a then ",
            "f(",
        ] {
            let source = format!("x =\n{}", open.repeat(5000));
            assert!(scan(&source).too_deep.is_some(), "{open}");
        }
        assert!(
            scan(&format!("x = 1{}", "..1".repeat(5000)))
                .too_deep
                .is_some()
        );
        assert!(scan(&"( end ".repeat(5000)).too_deep.is_some());
    }

    #[test]
    fn brackets_in_strings_and_comments_are_none() {
        let source = "-- ((((\nx = '((((' y = [==[ (((( ]] ]==] --[[ {{{{\n]] z = \"\\\"((((\"";
        let mut scanned = String::new();
        for _ in 0..300 {
            scanned.push_str(source);
            scanned.push('\n');
        }
        assert_eq!(scan(&scanned).too_deep, None);
    }

    #[test]
    fn a_comment_keeps_its_line_quiet_and_alone_the_next() {
        let source = "foo() -- postrider: ignore\nbar()\n-- postrider: ignore, since …\nbaz()\n";
        assert_eq!(scan(source).ignored, BTreeSet::from([1, 3, 4]));
    }
}
