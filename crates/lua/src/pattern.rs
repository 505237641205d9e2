//! Lua patterns with an end: the matcher of the Lua 5.4 manual §6.4.1, counting its steps.
//!
//! Lua's own matcher is C code that no hook interrupts, and a pattern such as `a*a*a*b` can
//! keep it busy for years. This one gives the same answers; a long search is made in stretches,
//! and a match that takes more than [`STEPS`] is refused.

use std::fmt;

/// What one match may cost, where it is tried: some tens of milliseconds.
pub(crate) const STEPS: u64 = 5_000_000;
/// After how many steps a search that found nothing yet says where it goes on: a millisecond.
const STRETCH: u64 = 100_000;
/// The same in octets of a text that is looked through for one.
const STRETCH_OCTETS: usize = 1_000_000;

/// `LUA_MAXCAPTURES`.
const CAPTURES: usize = 32;
/// `MAXCCALLS`: how deep one match may recurse.
const DEPTH: u32 = 200;

const ESCAPE: u8 = b'%';

/// Why a match has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The pattern is not one.
    Malformed(&'static str),
    /// A `%1` in the pattern, with nothing behind it.
    CaptureIndex(usize),
    /// It nests deeper than [`DEPTH`].
    TooComplex,
    /// It takes more than [`STEPS`].
    TooLong,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "malformed pattern ({why})"),
            Self::CaptureIndex(index) => write!(f, "invalid capture index %{index} in pattern"),
            Self::TooComplex => f.write_str("pattern too complex"),
            Self::TooLong => write!(
                f,
                "the match takes more than {STEPS} steps: a shorter text or fewer repetitions in the pattern help"
            ),
        }
    }
}

/// What a capture captured, in offsets from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Captured {
    /// Text, from and to.
    Text(usize, usize),
    /// `()`: a position.
    Position(usize),
}

/// A match, in offsets from 0.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) captures: Vec<Captured>,
}

/// How far a search came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress<T> {
    /// This far: it is there.
    Found(T),
    /// To the end: it is not there.
    Nowhere,
    /// It is to be taken up again here.
    Onward(usize),
}

/// Where a search goes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Search {
    /// Where to begin.
    pub(crate) from: usize,
    /// An end that does not count: of the match before this one, in `gmatch` and `gsub`.
    pub(crate) not_ending_at: Option<usize>,
    /// `^` means itself, as in `gmatch`.
    pub(crate) literal_caret: bool,
}

/// The first match of `pattern` in `text`, or one stretch on the way there.
pub(crate) fn search(
    text: &[u8],
    pattern: &[u8],
    search: Search,
) -> Result<Progress<Match>, Trouble> {
    let anchored = !search.literal_caret && pattern.first() == Some(&b'^');
    let pattern = if anchored { &pattern[1..] } else { pattern };
    let mut spent = 0;
    for start in search.from..=text.len() {
        if spent > STRETCH {
            return Ok(Progress::Onward(start));
        }
        let mut matcher = Matcher {
            text,
            pattern,
            captures: Vec::new(),
            depth: DEPTH,
            steps: STEPS,
        };
        let end = matcher.run(start, 0)?;
        if let Some(end) = end.filter(|end| search.not_ending_at != Some(*end)) {
            let captures = matcher.captured()?;
            return Ok(Progress::Found(Match {
                start,
                end,
                captures,
            }));
        }
        if anchored {
            break;
        }
        spent += STEPS - matcher.steps;
    }
    Ok(Progress::Nowhere)
}

/// Where `needle` stands in `text`, compared as it is, or one stretch on the way there.
pub(crate) fn find_plain(
    text: &[u8],
    needle: &[u8],
    from: usize,
) -> Result<Progress<usize>, Trouble> {
    let Some(first) = needle.first() else {
        return Ok(if from <= text.len() {
            Progress::Found(from)
        } else {
            Progress::Nowhere
        });
    };
    let (mut spent, mut at) = (0, from);
    while at + needle.len() <= text.len() {
        if spent > STRETCH {
            return Ok(Progress::Onward(at));
        }
        let last_start = text.len() - needle.len();
        let stretch = &text[at..=last_start.min(at + STRETCH_OCTETS)];
        let Some(skip) = stretch.iter().position(|octet| octet == first) else {
            at += stretch.len();
            spent += stretch.len() as u64;
            continue;
        };
        at += skip;
        let same = text[at..]
            .iter()
            .zip(needle)
            .take_while(|(a, b)| a == b)
            .count();
        if same == needle.len() {
            return Ok(Progress::Found(at));
        }
        if same as u64 > STEPS {
            return Err(Trouble::TooLong);
        }
        spent += (skip + same) as u64;
        at += 1;
    }
    Ok(Progress::Nowhere)
}

/// Whether `pattern` is plain text.
pub(crate) fn is_plain(pattern: &[u8]) -> bool {
    !pattern.iter().any(|octet| b"^$*+?.([%-".contains(octet))
}

#[derive(Clone, Copy)]
enum Extent {
    Open,
    Position,
    Length(usize),
}

#[derive(Clone, Copy)]
struct Capture {
    start: usize,
    extent: Extent,
}

struct Matcher<'a> {
    text: &'a [u8],
    pattern: &'a [u8],
    captures: Vec<Capture>,
    depth: u32,
    steps: u64,
}

impl Matcher<'_> {
    /// Matches the pattern from `p` at `s`; answers where the match ends.
    fn run(&mut self, s: usize, p: usize) -> Result<Option<usize>, Trouble> {
        if self.depth == 0 {
            return Err(Trouble::TooComplex);
        }
        self.depth -= 1;
        let end = self.step(s, p);
        self.depth += 1;
        end
    }

    fn step(&mut self, mut s: usize, mut p: usize) -> Result<Option<usize>, Trouble> {
        loop {
            self.spend()?;
            let Some(&token) = self.pattern.get(p) else {
                return Ok(Some(s));
            };
            let next = self.pattern.get(p + 1).copied();
            match (token, next) {
                (b'(', Some(b')')) => return self.open(s, p + 2, Extent::Position),
                (b'(', _) => return self.open(s, p + 1, Extent::Open),
                (b')', _) => return self.close(s, p + 1),
                (b'$', None) => return Ok((s == self.text.len()).then_some(s)),
                (ESCAPE, Some(b'b')) => match self.balanced(s, p + 2)? {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return Ok(None),
                },
                (ESCAPE, Some(b'f')) => match self.frontier(s, p + 2)? {
                    Some(after) => p = after,
                    None => return Ok(None),
                },
                (ESCAPE, Some(digit @ b'0'..=b'9')) => match self.repeated(s, digit)? {
                    Some(end) => (s, p) = (end, p + 2),
                    None => return Ok(None),
                },
                _ => {
                    let class_end = self.class_end(p)?;
                    let fits = self.fits(s, p, class_end);
                    match (self.pattern.get(class_end), fits) {
                        (Some(b'?'), true) => {
                            if let Some(end) = self.run(s + 1, class_end + 1)? {
                                return Ok(Some(end));
                            }
                            p = class_end + 1;
                        }
                        (Some(b'+'), true) => return self.greedy(s + 1, p, class_end),
                        (Some(b'*'), true) => return self.greedy(s, p, class_end),
                        (Some(b'-'), true) => return self.lazy(s, p, class_end),
                        (Some(b'*' | b'?' | b'-'), false) => p = class_end + 1,
                        (_, true) => (s, p) = (s + 1, class_end),
                        (_, false) => return Ok(None),
                    }
                }
            }
        }
    }

    fn spend(&mut self) -> Result<(), Trouble> {
        self.steps = self.steps.checked_sub(1).ok_or(Trouble::TooLong)?;
        Ok(())
    }

    /// `x*`: as many as there are, then fewer.
    fn greedy(&mut self, s: usize, p: usize, class_end: usize) -> Result<Option<usize>, Trouble> {
        let mut count = 0;
        while self.fits(s + count, p, class_end) {
            self.spend()?;
            count += 1;
        }
        loop {
            if let Some(end) = self.run(s + count, class_end + 1)? {
                return Ok(Some(end));
            }
            if count == 0 {
                return Ok(None);
            }
            count -= 1;
        }
    }

    /// `x-`: as few as possible, then more.
    fn lazy(&mut self, mut s: usize, p: usize, class_end: usize) -> Result<Option<usize>, Trouble> {
        loop {
            if let Some(end) = self.run(s, class_end + 1)? {
                return Ok(Some(end));
            }
            if !self.fits(s, p, class_end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn open(&mut self, s: usize, p: usize, extent: Extent) -> Result<Option<usize>, Trouble> {
        if self.captures.len() == CAPTURES {
            return Err(Trouble::Malformed("too many captures"));
        }
        self.captures.push(Capture { start: s, extent });
        let level = self.captures.len();
        let end = self.run(s, p)?;
        if end.is_none() {
            self.captures.truncate(level - 1);
        }
        Ok(end)
    }

    fn close(&mut self, s: usize, p: usize) -> Result<Option<usize>, Trouble> {
        let open = self
            .captures
            .iter()
            .rposition(|capture| matches!(capture.extent, Extent::Open));
        let Some(index) = open else {
            return Err(Trouble::Malformed("')' without '('"));
        };
        self.captures[index].extent = Extent::Length(s - self.captures[index].start);
        let end = self.run(s, p)?;
        if end.is_none() {
            self.captures[index].extent = Extent::Open;
        }
        Ok(end)
    }

    /// `%bxy` with `p` at `x`.
    fn balanced(&mut self, s: usize, p: usize) -> Result<Option<usize>, Trouble> {
        let (Some(&begin), Some(&end)) = (self.pattern.get(p), self.pattern.get(p + 1)) else {
            return Err(Trouble::Malformed("missing arguments to '%b'"));
        };
        if self.text.get(s) != Some(&begin) {
            return Ok(None);
        }
        let mut depth = 1_usize;
        for (offset, octet) in self.text[s + 1..].iter().enumerate() {
            self.steps = self.steps.checked_sub(1).ok_or(Trouble::TooLong)?;
            if *octet == end {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(s + offset + 2));
                }
            } else if *octet == begin {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]` with `p` at `[`; answers where the set ends.
    fn frontier(&self, s: usize, p: usize) -> Result<Option<usize>, Trouble> {
        if self.pattern.get(p) != Some(&b'[') {
            return Err(Trouble::Malformed("missing '[' after '%f'"));
        }
        let class_end = self.class_end(p)?;
        let before = s.checked_sub(1).map_or(0, |at| self.text[at]);
        let here = self.text.get(s).copied().unwrap_or(0);
        let crosses = !self.in_set(before, p, class_end) && self.in_set(here, p, class_end);
        Ok(crosses.then_some(class_end))
    }

    /// `%1`: the same text again.
    fn repeated(&mut self, s: usize, digit: u8) -> Result<Option<usize>, Trouble> {
        let index = usize::from(digit - b'0');
        let capture = index
            .checked_sub(1)
            .and_then(|index| self.captures.get(index).copied());
        let Some(Capture { start, extent }) = capture else {
            return Err(Trouble::CaptureIndex(index));
        };
        let length = match extent {
            Extent::Open => return Err(Trouble::CaptureIndex(index)),
            Extent::Position => return Ok(None),
            Extent::Length(length) => length,
        };
        self.steps = self
            .steps
            .checked_sub(length as u64)
            .ok_or(Trouble::TooLong)?;
        let again = self.text[s..].starts_with(&self.text[start..start + length]);
        Ok(again.then_some(s + length))
    }

    /// Where the single character class at `p` ends.
    fn class_end(&self, p: usize) -> Result<usize, Trouble> {
        match self.pattern.get(p) {
            Some(&ESCAPE) if p + 1 == self.pattern.len() => {
                Err(Trouble::Malformed("ends with '%'"))
            }
            Some(&ESCAPE) => Ok(p + 2),
            Some(b'[') => {
                let mut at = p + 1;
                if self.pattern.get(at) == Some(&b'^') {
                    at += 1;
                }
                loop {
                    match self.pattern.get(at) {
                        None => return Err(Trouble::Malformed("missing ']'")),
                        Some(&ESCAPE) => at += 2,
                        Some(_) => at += 1,
                    }
                    if self.pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    /// Whether the character at `s` is of the class from `p` to `class_end`.
    fn fits(&self, s: usize, p: usize, class_end: usize) -> bool {
        let Some(&octet) = self.text.get(s) else {
            return false;
        };
        match self.pattern[p] {
            b'.' => true,
            ESCAPE => in_class(octet, self.pattern[p + 1]),
            b'[' => self.in_set(octet, p, class_end),
            same => same == octet,
        }
    }

    /// Whether `octet` is in the set whose `[` stands at `p` and which ends at `class_end`.
    fn in_set(&self, octet: u8, p: usize, class_end: usize) -> bool {
        let mut set = &self.pattern[p + 1..class_end - 1];
        let mut found = true;
        if let [b'^', rest @ ..] = set {
            (set, found) = (rest, false);
        }
        loop {
            set = match set {
                [] => return !found,
                [ESCAPE, class, rest @ ..] => {
                    if in_class(octet, *class) {
                        return found;
                    }
                    rest
                }
                [low, b'-', high, rest @ ..] => {
                    if (*low..=*high).contains(&octet) {
                        return found;
                    }
                    rest
                }
                [same, rest @ ..] => {
                    if *same == octet {
                        return found;
                    }
                    rest
                }
            };
        }
    }

    fn captured(&self) -> Result<Vec<Captured>, Trouble> {
        self.captures
            .iter()
            .map(|capture| match capture.extent {
                Extent::Open => Err(Trouble::Malformed("unfinished capture")),
                Extent::Position => Ok(Captured::Position(capture.start)),
                Extent::Length(length) => Ok(Captured::Text(capture.start, capture.start + length)),
            })
            .collect()
    }
}

/// `%a` and its like, in the C locale; an upper-case letter means the complement.
fn in_class(octet: u8, class: u8) -> bool {
    let inside = match class.to_ascii_lowercase() {
        b'a' => octet.is_ascii_alphabetic(),
        b'c' => octet.is_ascii_control(),
        b'd' => octet.is_ascii_digit(),
        b'g' => octet.is_ascii_graphic(),
        b'l' => octet.is_ascii_lowercase(),
        b'p' => octet.is_ascii_punctuation(),
        b's' => matches!(octet, b' ' | b'\t'..=b'\r'),
        b'u' => octet.is_ascii_uppercase(),
        b'w' => octet.is_ascii_alphanumeric(),
        b'x' => octet.is_ascii_hexdigit(),
        _ => return class == octet,
    };
    inside != class.is_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use mlua::{Lua, MultiValue, Value};
    use proptest::prelude::*;

    use super::*;

    /// What Lua's own `string.find` answers, or that it refuses the pattern.
    fn by_lua(lua: &Lua, text: &str, pattern: &str, from: usize) -> Result<Vec<String>, ()> {
        let find: mlua::Function = lua.load("string.find").eval().unwrap();
        let found: MultiValue = find.call((text, pattern, from + 1)).map_err(|_| ())?;
        let values = found.into_iter().filter(|value| !value.is_nil());
        Ok(values
            .map(|value: Value| value.to_string().unwrap())
            .collect())
    }

    /// All stretches of a search.
    fn whole<T>(
        from: usize,
        stretch: impl Fn(usize) -> Result<Progress<T>, Trouble>,
    ) -> Result<Option<T>, Trouble> {
        let mut from = from;
        loop {
            match stretch(from)? {
                Progress::Found(found) => return Ok(Some(found)),
                Progress::Nowhere => return Ok(None),
                Progress::Onward(at) => {
                    assert!(at > from);
                    from = at;
                }
            }
        }
    }

    fn searched(text: &[u8], pattern: &[u8], from: usize) -> Result<Option<Match>, Trouble> {
        whole(from, |from| {
            let options = Search {
                from,
                ..Search::default()
            };
            search(text, pattern, options)
        })
    }

    fn by_us(text: &str, pattern: &str, from: usize) -> Result<Vec<String>, ()> {
        if is_plain(pattern.as_bytes()) {
            let found = whole(from, |from| {
                find_plain(text.as_bytes(), pattern.as_bytes(), from)
            });
            let ends = found
                .map_err(|_| ())?
                .map(|at| [at + 1, at + pattern.len()].map(|end| end.to_string()));
            return Ok(ends.into_iter().flatten().collect());
        }
        let Some(found) = searched(text.as_bytes(), pattern.as_bytes(), from).map_err(|_| ())?
        else {
            return Ok(Vec::new());
        };
        let captures = found.captures.iter().map(|capture| match *capture {
            Captured::Text(start, end) => text[start..end].to_owned(),
            Captured::Position(at) => (at + 1).to_string(),
        });
        let ends = [(found.start + 1).to_string(), found.end.to_string()];
        Ok(ends.into_iter().chain(captures).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn answers_are_those_of_lua(
            text in "[ab(1) %]{0,10}",
            pattern in "(\\^?([ab.(1)\\[\\]^$]|\\(\\)|%[abdfglpsuwx1%SD]|%b\\(\\)|%f\\[%w\\]|\\[\\^?[a-b%w1-]{1,3}\\]|\\(.[*+?-]?\\))[*+?-]?){0,6}",
            from in 0_usize..4,
        ) {
            let from = from.min(text.len());
            let lua = Lua::new();
            let expected = by_lua(&lua, &text, &pattern, from);
            prop_assert_eq!(by_us(&text, &pattern, from), expected, "{:?} in {:?}", pattern, text);
        }
    }

    fn first(text: &str, pattern: &str) -> Option<(usize, usize)> {
        searched(text.as_bytes(), pattern.as_bytes(), 0)
            .unwrap()
            .map(|found| (found.start, found.end))
    }

    #[test]
    fn a_pattern_that_would_run_for_years_ends() {
        let text = "a".repeat(200);
        let pattern = "a*".repeat(20) + "b";

        let trouble = search(text.as_bytes(), pattern.as_bytes(), Search::default());

        assert_eq!(trouble, Err(Trouble::TooLong));
    }

    #[test]
    fn a_long_search_is_made_in_stretches() {
        let text = [b"a".repeat(3_000_000), b"b".to_vec()].concat();
        let found = (3_000_000, 3_000_001);

        assert!(matches!(
            search(&text, b"[b]", Search::default()),
            Ok(Progress::Onward(100_000..100_002))
        ));
        assert_eq!(
            searched(&text, b"[b]", 0).map(|found| found.map(|at| (at.start, at.end))),
            Ok(Some(found))
        );
        let plain = |from| find_plain(&text, b"b", from);
        assert!(matches!(plain(0), Ok(Progress::Onward(_))));
        assert_eq!(whole(0, plain), Ok(Some(3_000_000)));
    }

    #[test]
    fn plain_search_in_a_worst_case_text_comes_to_an_end_of_each_stretch() {
        let text = vec![b'a'; 1 << 20];
        let mut needle = vec![b'a'; 1 << 19];
        needle.push(b'b');

        assert!(matches!(
            find_plain(&text, &needle, 0),
            Ok(Progress::Onward(1..4))
        ));
        let found = |text: &[u8], needle: &[u8], from| find_plain(text, needle, from).unwrap();
        assert_eq!(found(b"hello world", b"o w", 0), Progress::Found(4));
        assert_eq!(found(b"hello", b"lo!", 0), Progress::Nowhere);
        assert_eq!(found(b"hello", b"", 5), Progress::Found(5));
    }

    #[test]
    fn malformed_patterns_are_named() {
        for (pattern, why) in [
            ("%", "ends with '%'"),
            ("[a", "missing ']'"),
            ("[]", "missing ']'"),
            ("[%", "missing ']'"),
            ("%b(", "missing arguments to '%b'"),
            ("%fa", "missing '[' after '%f'"),
            (")", "')' without '('"),
            ("(a", "unfinished capture"),
        ] {
            let trouble = search(b"a", pattern.as_bytes(), Search::default());
            assert_eq!(trouble, Err(Trouble::Malformed(why)), "{pattern}");
        }
        assert_eq!(
            search(b"a", b"%1", Search::default()),
            Err(Trouble::CaptureIndex(1))
        );
    }

    #[test]
    fn sets_ranges_and_anchors_follow_the_manual() {
        assert_eq!(first("THE (quick) fox", "%((%a+)%)"), Some((4, 11)));
        assert_eq!(first("x]y", "[]]"), Some((1, 2)));
        assert_eq!(first("a-b", "[a%-]+"), Some((0, 2)));
        assert_eq!(first("b-", "[^a-]"), Some((0, 1)));
        assert_eq!(first("THE fox", "%f[%a]%a+%f[%A]"), Some((0, 3)));
        assert_eq!(first("f(a(b)c)d", "%b()"), Some((1, 8)));
        assert_eq!(first("say 'it'", "(['\"])(.-)%1"), Some((4, 8)));
        assert_eq!(first("ab", "^b"), None);
        assert_eq!(first("a$b", "a$b"), Some((0, 3)));
        assert_eq!(first("ab", "b$"), Some((1, 2)));
        assert_eq!(first("colour", "colou?r"), Some((0, 6)));
    }
}
