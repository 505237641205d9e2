//! Where a message ends that is typed: at a line with nothing but a dot.

/// Finds that line in octets that come in pieces, however they are cut.
#[derive(Debug)]
pub(crate) struct UntilDot {
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    InLine,
    /// A dot began the line; it is kept back.
    Dot,
    /// A CR followed it; both are kept back.
    DotCr,
    /// Nothing more belongs to the message.
    End,
    /// There is no such line: dots mean nothing.
    Never,
}

impl UntilDot {
    /// With `dot_ends` false everything is the message.
    pub(crate) fn new(dot_ends: bool) -> Self {
        Self {
            at: if dot_ends { At::LineStart } else { At::Never },
        }
    }

    /// Whether the message has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.at == At::End
    }

    /// What of `octets`, and of what was kept back, belongs to the message.
    ///
    /// What is kept back at the end of all octets is the dot of a line without an end: no part of
    /// the message either.
    pub(crate) fn take(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        if self.at == At::Never {
            out.extend_from_slice(octets);
            return;
        }
        let mut rest = octets;
        while let Some((&octet, behind)) = rest.split_first() {
            match (self.at, octet) {
                (At::End | At::Never, _) => return,
                (At::LineStart, b'.') => self.at = At::Dot,
                (At::Dot, b'\r') => self.at = At::DotCr,
                (At::Dot | At::DotCr, b'\n') => {
                    self.at = At::End;
                    return;
                }
                (kept @ (At::Dot | At::DotCr), _) => {
                    let kept: &[u8] = if kept == At::Dot { b"." } else { b".\r" };
                    out.extend_from_slice(kept);
                    self.at = At::InLine;
                    // The octet itself is looked at again.
                    continue;
                }
                (At::LineStart | At::InLine, _) => {
                    let end = rest.iter().position(|&octet| octet == b'\n');
                    let line = end.map_or(rest, |end| &rest[..=end]);
                    out.extend_from_slice(line);
                    rest = &rest[line.len()..];
                    self.at = if end.is_some() {
                        At::LineStart
                    } else {
                        At::InLine
                    };
                    continue;
                }
            }
            rest = behind;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until_dot(input: &[u8], cuts: &[usize]) -> (Vec<u8>, bool) {
        let mut filter = UntilDot::new(true);
        let mut out = Vec::new();
        let mut start = 0;
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        cuts.sort_unstable();
        for cut in cuts.into_iter().chain([input.len()]) {
            filter.take(&input[start..cut], &mut out);
            start = cut;
        }
        (out, filter.has_ended())
    }

    #[test]
    fn only_a_lone_dot_ends_the_message() {
        for (input, message, ended) in [
            ("a\n.\nb\n", "a\n", true),
            ("a\r\n.\r\nb\n", "a\r\n", true),
            (".\n", "", true),
            ("a\n..\n.b\n. \nc", "a\n..\n.b\n. \nc", false),
            ("a\n.\rb\n", "a\n.\rb\n", false),
            ("a.\nb", "a.\nb", false),
            // The end of the input ends the line, too.
            ("a\n.", "a\n", false),
            ("a\n.\r", "a\n", false),
        ] {
            let found = until_dot(input.as_bytes(), &[]);
            assert_eq!(found, (message.as_bytes().to_vec(), ended), "{input:?}");
        }
    }

    #[test]
    fn with_i_dots_mean_nothing() {
        let mut filter = UntilDot::new(false);
        let mut out = Vec::new();
        filter.take(b"a\n.\nb", &mut out);
        assert_eq!(out, b"a\n.\nb");
        assert!(!filter.has_ended());
    }

    proptest::proptest! {
        #[test]
        fn it_does_not_matter_how_the_octets_come(
            input in "[.\\r\\nab]{0,24}",
            cuts in proptest::collection::vec(proptest::prelude::any::<usize>(), 0..8),
        ) {
            proptest::prop_assert_eq!(until_dot(input.as_bytes(), &cuts), until_dot(input.as_bytes(), &[]));
        }
    }
}
