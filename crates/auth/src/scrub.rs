//! What plugins and providers say, made fit to be shown: no known secret, one line, bounded.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use url::form_urlencoded;
use zeroize::Zeroizing;

/// Length bound of messages and log lines, in characters.
pub(crate) const MESSAGE_CHARS: usize = 500;

/// What stands where a secret stood.
const MASK: &str = "[secret]";

/// A secret's beginning of so many octets, at the end of a text, is masked too.
const PARTIAL: usize = 8;

/// How many secrets are remembered. A grant's old tokens age out: they are dead by then.
const REMEMBERED: usize = 64;

/// The secrets one account has handed out or received, to be taken out of what it says.
#[derive(Default)]
pub(crate) struct Scrubber {
    known: Mutex<VecDeque<Known>>,
}

/// A secret and the ways it may be written, itself first.
struct Known(Vec<Zeroizing<String>>);

impl Known {
    fn new(secret: &str) -> Self {
        let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let json = serde_json::Value::from(secret).to_string();
        let mut ways = vec![
            secret.to_owned(),
            form.replace('+', "%20"),
            form,
            json[1..json.len() - 1].to_owned(),
            STANDARD_NO_PAD.encode(secret),
            URL_SAFE_NO_PAD.encode(secret),
        ];
        ways.extend((0..3).flat_map(|before| inside_base64(secret, before)));
        ways.sort_unstable();
        ways.dedup();
        // `learn` finds it by its first way.
        let own = ways.iter().position(|way| way == secret);
        ways.swap(0, own.unwrap_or_default());
        Self(ways.into_iter().map(Zeroizing::new).collect())
    }
}

/// How `secret` looks inside longer base64, as in HTTP Basic, where `before` octets more than a
/// multiple of three stand before it: the characters which depend on it alone. None where those
/// are so few that they could mean anything.
fn inside_base64(secret: &str, before: usize) -> Vec<String> {
    let longer = Zeroizing::new([&[0; 2][..before], secret.as_bytes()].concat());
    let (first, end) = ((before * 8).div_ceil(6), longer.len() * 8 / 6);
    if end - first < PARTIAL {
        return Vec::new();
    }
    [STANDARD_NO_PAD, URL_SAFE_NO_PAD]
        .map(|engine| Zeroizing::new(engine.encode(&*longer))[first..end].to_owned())
        .into()
}

impl Scrubber {
    /// Remembers `secret` as the one used last.
    pub(crate) fn learn(&self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let old = known.iter().position(|old| *old.0[0] == *secret);
        let this = old.and_then(|at| known.remove(at));
        known.push_front(this.unwrap_or_else(|| Known::new(secret)));
        known.truncate(REMEMBERED);
    }

    /// `text` without known secrets and control characters, cut to `chars` characters.
    pub(crate) fn clean(&self, text: &str, chars: usize) -> String {
        // Secrets go first: a cut, or a line break taken out, could hide the rest of one.
        one_line(&self.mask(text), chars)
    }

    /// `text` without known secrets.
    pub(crate) fn mask(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ways: Vec<&str> = known
            .iter()
            .flat_map(|known| known.0.iter().map(|way| way.as_str()))
            .collect();
        // Longest first: a secret inside another must not leave the rest of it standing.
        ways.sort_unstable_by_key(|way| Reverse(way.len()));
        for way in &ways {
            if text.contains(way) {
                text = text.replace(way, MASK);
            }
        }
        // Whoever cut the text before us may have cut a secret at its end.
        let cut = |text: &str, way: &str| {
            let from = text.ceil_char_boundary(text.len().saturating_sub(way.len()));
            let starts = text[from..].char_indices().map(|(at, _)| from + at);
            starts
                .take_while(|at| text.len() - at >= PARTIAL)
                .find(|at| way.starts_with(&text[*at..]))
        };
        if let Some(at) = ways.iter().filter_map(|way| cut(&text, way)).min() {
            text.truncate(at);
            text.push_str(MASK);
        }
        text
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber").finish_non_exhaustive()
    }
}

/// `text` with runs of white space and control characters made one space, cut to `chars`
/// characters.
pub(crate) fn one_line(text: &str, chars: usize) -> String {
    let mut line = String::with_capacity(text.len().min(4 * chars));
    let mut gap = false;
    let mut count = 0;
    for c in text.chars() {
        if c.is_control() || c.is_whitespace() || is_format(c) {
            gap = count > 0;
            continue;
        }
        if count + usize::from(gap) >= chars {
            line.push('…');
            break;
        }
        if std::mem::take(&mut gap) {
            line.push(' ');
            count += 1;
        }
        line.push(c);
        count += 1;
    }
    line
}

/// Characters that reorder or hide what stands around them.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_secret_is_masked_however_it_is_written() {
        let scrubber = Scrubber::default();
        scrubber.learn("p\"ss w+rd/1");

        for text in [
            "refused p\"ss w+rd/1",
            "refused p%22ss+w%2Brd%2F1",
            "refused p%22ss%20w%2Brd%2F1",
            r#"refused p\"ss w+rd/1"#,
            "refused cCJzcyB3K3JkLzE=",
        ] {
            let clean = scrubber.clean(text, 100);
            assert!(clean.starts_with("refused [secret]"), "{clean}");
        }
    }

    #[test]
    fn a_secret_inside_longer_base64_is_masked_wherever_it_begins() {
        let scrubber = Scrubber::default();
        scrubber.learn("the-client-secret?>");

        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            for user in ["", "a", "ab", "abc"] {
                let shown = engine.encode(format!("{user}:the-client-secret?>;and more"));
                let clean = scrubber.clean(&format!("Basic {shown}"), 200);
                assert!(clean.contains(MASK), "{clean}");
                for before in 0..3 {
                    for way in inside_base64("client-secret", before) {
                        assert!(!clean.contains(&way), "{clean}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_secret_that_is_still_in_use_does_not_age_out() {
        let scrubber = Scrubber::default();
        scrubber.learn("client-secret");
        for n in 1..REMEMBERED {
            scrubber.learn(&format!("old-token-{n}"));
        }
        scrubber.learn("client-secret");
        scrubber.learn("new-token");

        assert_eq!(
            scrubber.clean("client-secret, new-token", 100),
            "[secret], [secret]"
        );
    }

    #[test]
    fn the_longer_of_two_overlapping_secrets_goes_whole() {
        let scrubber = Scrubber::default();
        scrubber.learn("abcdef");
        scrubber.learn("abc");

        assert_eq!(scrubber.clean("abcdef abc", 100), "[secret] [secret]");
    }

    #[test]
    fn a_cut_never_shows_the_start_of_a_secret() {
        let scrubber = Scrubber::default();
        scrubber.learn("0123456789");

        assert_eq!(scrubber.clean("ab 0123456789", 6), "ab [se…");
    }

    #[test]
    fn a_secret_that_was_cut_before_is_masked_as_far_as_it_goes() {
        let scrubber = Scrubber::default();
        scrubber.learn("0123456789abcdef");

        assert_eq!(scrubber.clean("at 0123456789", 100), "at [secret]");
        assert_eq!(
            scrubber.clean("at 01234", 100),
            "at 01234",
            "could be anything"
        );
    }

    #[test]
    fn a_line_stays_one_line_without_control_characters() {
        assert_eq!(
            one_line(" a\r\n\tb\u{1b}[31mc\0\u{202e} ", 100),
            "a b [31mc"
        );
        assert_eq!(one_line("abcdef", 6), "abcdef");
        assert_eq!(one_line("abcdefg", 6), "abcdef…");
        assert_eq!(one_line("", 6), "");
    }

    #[test]
    fn debug_shows_nothing() {
        let scrubber = Scrubber::default();
        scrubber.learn("hunter2");
        assert!(!format!("{scrubber:?}").contains("hunter2"));
    }
}
