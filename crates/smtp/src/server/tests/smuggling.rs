//! One message in, one message out: every way to write the end of data wrongly, against a
//! model that knows nothing of states and splits.

use super::*;
use crate::body::Body;
use crate::flight::{Flight, Form};

/// The octets that have a meaning near the end of data, and one that has none.
const ALPHABET: [u8; 5] = *b"\r\n.\0a";
/// What a session looks like, in whose lines `\n` stands for the line end.
const HEAD: &str = "EHLO a\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\n";
const SECOND: &str = "MAIL FROM:<evil@b>\nRCPT TO:<c@d>\nDATA\nsmuggled\n.\nQUIT\n";

/// How lines end, as the model sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    /// Without the quirk.
    Crlf,
    /// With it, in a session that began with CRLF.
    Normalized,
    /// With it, in a session that began with LF.
    LineFeed,
}

impl Ends {
    const ALL: [Self; 3] = [Self::Crlf, Self::Normalized, Self::LineFeed];

    fn quirks(self) -> Quirks {
        Quirks {
            bare_lf: self != Self::Crlf,
            ..Quirks::default()
        }
    }

    fn text(self, lines: &str) -> Vec<u8> {
        match self {
            Self::LineFeed => lines.as_bytes().to_vec(),
            Self::Crlf | Self::Normalized => lines.replace('\n', "\r\n").into_bytes(),
        }
    }

    /// The only sequence that ends data; its first line end belongs to the content.
    fn end_of_data(self) -> &'static [u8] {
        match self {
            Self::LineFeed => b"\n.\n",
            Self::Crlf | Self::Normalized => b"\r\n.\r\n",
        }
    }

    /// The content as the handler gets it; `None`: it is refused.
    fn content(self, octets: &[u8], stuffed: bool) -> Option<Vec<u8>> {
        let bare_cr = |at: usize| octets[at] == b'\r' && octets.get(at + 1) != Some(&b'\n');
        let bare_lf = |at: usize| octets[at] == b'\n' && (at == 0 || octets[at - 1] != b'\r');
        let flawed = octets.contains(&0)
            || (0..octets.len()).any(|at| match self {
                Self::Crlf => bare_cr(at) || bare_lf(at),
                Self::Normalized => bare_cr(at),
                Self::LineFeed => octets[at] == b'\r',
            });
        if flawed {
            return None;
        }
        let lines = octets.split(|b| *b == b'\n').map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match line.strip_prefix(b".") {
                Some(rest) if stuffed => rest,
                _ => line,
            }
        });
        Some(lines.collect::<Vec<_>>().join(&b"\r\n"[..]))
    }

    /// What `DATA` makes of these octets: the content, and what follows it.
    fn data(self, octets: &[u8]) -> Option<(Option<Vec<u8>>, &[u8])> {
        let end = self.end_of_data();
        let line_end = end.iter().position(|b| *b == b'.').unwrap();
        if let Some(rest) = octets.strip_prefix(&end[line_end..]) {
            return Some((Some(Vec::new()), rest));
        }
        let at = octets.windows(end.len()).position(|there| there == end)?;
        let content = self.content(&octets[..at + line_end], true);
        Some((content, &octets[at + end.len()..]))
    }
}

/// The messages that come of these octets once `DATA` was said, [`SECOND`] among them or not.
fn model(ends: Ends, octets: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let Some((content, mut rest)) = ends.data(octets) else {
        return messages;
    };
    messages.extend(content);
    let (mut sender, mut recipient) = (false, false);
    while let Some(feed) = rest.iter().position(|b| *b == b'\n') {
        let line = &rest[..feed];
        rest = &rest[feed + 1..];
        let line = match (line.strip_suffix(b"\r"), ends) {
            (None, Ends::LineFeed) => line,
            (Some(line), Ends::Crlf | Ends::Normalized) => line,
            // The connection closes.
            _ => return messages,
        };
        match line {
            b"MAIL FROM:<evil@b>" => sender = true,
            b"RCPT TO:<c@d>" => recipient = sender,
            b"DATA" if recipient => {
                let Some((content, behind)) = ends.data(rest) else {
                    return messages;
                };
                messages.extend(content);
                (sender, recipient, rest) = (false, false, behind);
            }
            b"QUIT" => return messages,
            _ => {}
        }
    }
    messages
}

/// Every sequence of the alphabet, up to so many octets.
fn sequences(longest: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..=longest).flat_map(|length| {
        let count = ALPHABET.len().pow(u32::try_from(length).unwrap());
        (0..count).map(move |mut number| {
            let mut digit = || {
                let octet = ALPHABET[number % ALPHABET.len()];
                number /= ALPHABET.len();
                octet
            };
            (0..length).map(|_| digit()).collect()
        })
    })
}

async fn bodies(ends: Ends, pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let (_, messages) = play(Limits::default(), ends.quirks(), pieces).await;
    messages.into_iter().map(|message| message.body).collect()
}

fn no_sequence_smuggles_by_data(ends: Ends) {
    in_paused_time(async {
        for sequence in sequences(7) {
            let body = [&sequence[..], &ends.text(SECOND)].concat();
            let input = [&ends.text(HEAD), &ends.text("DATA\n"), &body[..]].concat();
            assert_eq!(
                bodies(ends, [input]).await,
                model(ends, &body),
                "{ends:?}: {}",
                sequence.escape_ascii()
            );
        }
    });
}

#[test]
fn no_sequence_smuggles_by_data_where_lines_are_strict() {
    no_sequence_smuggles_by_data(Ends::Crlf);
}

#[test]
fn no_sequence_smuggles_by_data_where_line_feeds_are_mended() {
    no_sequence_smuggles_by_data(Ends::Normalized);
}

#[test]
fn no_sequence_smuggles_by_data_where_lines_are_line_feeds() {
    no_sequence_smuggles_by_data(Ends::LineFeed);
}

#[test]
fn without_the_quirk_nothing_but_crlf_dot_crlf_ends_data() {
    // The same, said without the model.
    in_paused_time(async {
        let mut second = 0;
        for sequence in sequences(6) {
            let ends = Ends::Crlf;
            let body = [b"a", &sequence[..], &ends.text(SECOND)].concat();
            let input = [&ends.text(HEAD), &ends.text("DATA\n"), &body[..]].concat();
            let all = bodies(ends, [input]).await;
            let smuggled = all.iter().any(|body| body == b"smuggled\r\n");
            if smuggled {
                second += 1;
                assert!(
                    sequence.windows(5).any(|there| there == b"\r\n.\r\n"),
                    "{}",
                    sequence.escape_ascii()
                );
            }
        }
        assert!(
            second > 0,
            "a second transaction behind the real end is one"
        );
    });
}

#[test]
fn a_chunk_is_as_long_as_it_says_whatever_it_holds() {
    in_paused_time(async {
        for ends in Ends::ALL {
            for sequence in sequences(5) {
                let mut wanted = Vec::from_iter(ends.content(&sequence, false));
                wanted.push(b"smuggled\r\n".to_vec());
                for cut in 0..=sequence.len() {
                    let (first, last) = sequence.split_at(cut);
                    let input = [
                        &ends.text(HEAD),
                        &ends.text(&format!("BDAT {}\n", first.len())),
                        first,
                        &ends.text(&format!("BDAT {} LAST\n", last.len())),
                        last,
                        &ends.text(SECOND),
                    ];
                    assert_eq!(
                        bodies(ends, [input.concat()]).await,
                        wanted,
                        "{ends:?}: {} cut at {cut}",
                        sequence.escape_ascii()
                    );
                }
            }
        }
    });
}

#[test]
fn how_the_input_is_cut_changes_nothing() {
    in_paused_time(async {
        for ends in Ends::ALL {
            for sequence in sequences(5) {
                let body = [&sequence[..], &ends.text(SECOND)].concat();
                let head = [ends.text(HEAD), ends.text("DATA\n")].concat();
                let wanted = model(ends, &body);
                for cut in 0..=sequence.len() + 1 {
                    let (first, last) = body.split_at(cut);
                    let pieces = [head.clone(), first.to_vec(), last.to_vec()];
                    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
                    assert_eq!(
                        bodies(ends, pieces).await,
                        wanted,
                        "{ends:?}: {} cut at {cut}",
                        sequence.escape_ascii()
                    );
                }
            }
        }
    });
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_goes_out_as_one_message() {
    // All content that may come in, sent on by DATA as this crate's client does it.
    for ends in Ends::ALL {
        for sequence in sequences(6) {
            let Some(mut content) = ends.content(&sequence, false) else {
                continue;
            };
            if !content.ends_with(b"\r\n") {
                content.extend_from_slice(b"\r\n");
            }
            let mut flight = Flight::new();
            flight.add_message(0, Body::Memory(content.clone().into()), Form::Stuffed);
            let mut wire = Vec::new();
            while flight.needs_filling() {
                flight.fill().await.unwrap();
                wire.extend_from_slice(flight.unwritten());
                flight.wrote(flight.unwritten().len());
            }
            let arrived = Ends::Crlf.data(&wire);
            assert_eq!(
                arrived,
                Some((Some(content), &b""[..])),
                "{}",
                sequence.escape_ascii()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_envelope_carries_a_control_character() {
    let places = [
        "MAIL FROM:<a?@b>",
        "MAIL FROM:<\"a?\"@b>",
        "MAIL FROM:<\"a\\?\"@b>",
        "MAIL FROM:<a@b?>",
        "MAIL FROM:<a@[1.2.3.4?]>",
        "MAIL FROM:<@hop?:a@b>",
        "MAIL FROM:<a@b>?",
        "MAIL FROM:<a@b> ENVID=a?b",
        "MAIL FROM:<a@b> SIZE=1?",
        "MAIL FROM:<a@b> AUTH=a?@b",
        "MAIL FROM:<a@b> BODY=8BITMIME?",
        "MAIL FROM:<a@b> X?=1",
    ];
    for octet in (0..=31).chain([127]) {
        // Tabs and blanks behind a line are nobody's argument.
        let ends_line = |text: &str| text.ends_with('?') && octet == 9;
        for place in places.iter().filter(|place| !ends_line(place)) {
            for place in [(*place).to_owned(), place.replace("MAIL FROM", "RCPT TO")] {
                let sent = place.replace('?', &char::from(octet).to_string());
                let sender = "MAIL FROM:<a@b>\r\n";
                let head = if place.starts_with("RCPT") {
                    sender
                } else {
                    ""
                };
                let input = format!("EHLO a\r\n{head}{sent}\r\nRCPT TO:<c@d>\r\nBDAT 0 LAST\r\n");
                let (said, messages) = play(Limits::default(), Quirks::default(), [input]).await;
                let clean = |text: &str| !text.contains(char::is_control);
                for message in messages {
                    assert!(clean(&message.mail.reverse_path), "{sent:?}");
                    assert!(message.mail.envid.as_deref().is_none_or(clean), "{sent:?}");
                    assert!(message.mail.auth.as_deref().is_none_or(clean), "{sent:?}");
                    for rcpt in message.recipients {
                        assert_eq!(rcpt.forward_path, "c@d", "{sent:?}");
                    }
                }
                assert!(
                    said.contains("\r\n501 ")
                        || said.contains("\r\n500 ")
                        || said.contains("\r\n555 "),
                    "{sent:?}: {said}"
                );
            }
        }
    }
    // Written as xtext, they are refused no less.
    for hidden in ["ENVID=a+0D+0Ab", "ENVID=a+00", "AUTH=a+0A@b", "ENVID=a+7F"] {
        let input = format!("EHLO a\r\nMAIL FROM:<a@b> {hidden}\r\n");
        let (said, _) = play(Limits::default(), Quirks::default(), [input]).await;
        assert_eq!(codes(&said), [220, 250, 501], "{hidden}");
    }
    for hidden in ["rfc822;a+0D+0Ab", "rfc822;a+00", "utf-8;a\u{85}"] {
        let input = format!("{OPEN}RCPT TO:<e@f> ORCPT={hidden}\r\n");
        let (said, _) = play(Limits::default(), Quirks::default(), [input]).await;
        assert_eq!(codes(&said)[4..], [501], "{hidden}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_cannot_become_a_line_of_its_own() {
    for name in ["a\rb", "a\0b", "a\tb", "\u{85}"] {
        let input = format!("EHLO {name}\r\n");
        let (said, _) = play(Limits::default(), Quirks::default(), [input]).await;
        assert_eq!(codes(&said), [220, 501], "{name:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn longer_bodies_agree_with_the_model_however_cut(
        ends in proptest::sample::select(&Ends::ALL[..]),
        parts in proptest::collection::vec(
            proptest::sample::select(&["\r\n", "\n", "\r", ".", "..", "\0", "abc", "\r\n.\r\n", "\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r"][..]),
            0..16,
        ),
        cuts in proptest::collection::vec(0usize..200, 0..6),
    ) {
        let body = [parts.concat().into_bytes(), ends.text(SECOND)].concat();
        let input = [ends.text(HEAD), ends.text("DATA\n"), body.clone()].concat();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < input.len()).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let pieces = cuts.windows(2).map(|cut| input[cut[0]..cut[1]].to_vec());
        prop_assert_eq!(in_paused_time(bodies(ends, pieces)), model(ends, &body));
    }
}
