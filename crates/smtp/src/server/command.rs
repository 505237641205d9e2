//! One command line into a [`Command`]: strict, and total over arbitrary octets.
//!
//! `smtp-proto` parses requests too, but unquotes local parts, folds every mechanism
//! name into a bit and takes a bare LF for a line end; a server that must be able to
//! repeat what it was told needs the words as they were sent.

use std::fmt;

use secrecy::SecretString;

use super::arguments::{after_keyword, number, parameters, xtext};
use super::path;
use super::quirks::Quirks;

/// One command, RFC 5321 §4.1.1 and its extensions.
#[derive(Debug, Clone)]
pub enum Command {
    /// `EHLO`, with the name the client gives itself.
    Ehlo(String),
    /// `HELO`. The name is empty where [`Quirks::helo_only`] lets that pass.
    Helo(String),
    /// `STARTTLS`, RFC 3207.
    Starttls,
    /// `AUTH`, RFC 4954.
    Auth {
        /// The mechanism's name, in capitals.
        mechanism: String,
        /// The initial response as sent, in base64; `=` is an empty one.
        initial: Option<SecretString>,
    },
    /// `MAIL`.
    Mail(MailCommand),
    /// `RCPT`.
    Rcpt(RcptCommand),
    /// `DATA`.
    Data,
    /// `BDAT`, RFC 3030.
    Bdat {
        /// Octets that follow the line.
        octets: u64,
        /// Whether the message ends with them.
        last: bool,
    },
    /// `RSET`.
    Rset,
    /// `NOOP`.
    Noop,
    /// `HELP`.
    Help,
    /// `VRFY`, with its argument.
    Vrfy(String),
    /// `EXPN`, with its argument.
    Expn(String),
    /// `QUIT`.
    Quit,
}

/// The commands' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each name is the command it names")]
pub enum Verb {
    Ehlo,
    Helo,
    Starttls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Help,
    Vrfy,
    Expn,
    Quit,
}

/// `MAIL FROM:<…>` and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailCommand {
    /// The reverse path as written, without brackets; empty for the null path.
    pub reverse_path: String,
    /// `SIZE=`, RFC 1870.
    pub size: Option<u64>,
    /// `BODY=`, RFC 6152 and 3030.
    pub body: BodyType,
    /// `SMTPUTF8`, RFC 6531.
    pub smtputf8: bool,
    /// `RET=`, RFC 3461 §4.3.
    pub ret: Option<Ret>,
    /// `ENVID=`, RFC 3461 §4.4, decoded.
    pub envid: Option<String>,
    /// `AUTH=`, RFC 4954 §5, decoded; empty for `<>`.
    pub auth: Option<String>,
}

/// `BODY=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyType {
    /// `7BIT`, also when nothing is said.
    #[default]
    SevenBit,
    /// `8BITMIME`
    EightBitMime,
    /// `BINARYMIME`
    BinaryMime,
}

/// `RET=`: how much of the message a failure report repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// `FULL`
    Full,
    /// `HDRS`
    Headers,
}

/// `RCPT TO:<…>` and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RcptCommand {
    /// The forward path as written, without brackets and source route.
    pub forward_path: String,
    /// `NOTIFY=`, RFC 3461 §4.1.
    pub notify: Option<Notify>,
    /// `ORCPT=`, RFC 3461 §4.2, as written: `type;xtext`.
    pub orcpt: Option<String>,
}

/// `NOTIFY=`: `NEVER` is all three false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notify {
    /// `SUCCESS`
    pub success: bool,
    /// `FAILURE`
    pub failure: bool,
    /// `DELAY`
    pub delay: bool,
}

/// Why a line is not a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadCommand {
    /// The first word, printable and bounded, names no command.
    Unrecognized(String),
    /// The command's arguments are malformed.
    Arguments(Verb),
    /// The command has an unknown parameter with this keyword, in capitals.
    Parameter(Verb, String),
    /// Spaces stand behind the colon of `MAIL FROM:` or `RCPT TO:`; otherwise its path is
    /// well-formed.
    SpaceBehindColon(Verb),
    /// The mailbox of `MAIL FROM:` or `RCPT TO:` stands there without angle brackets.
    NoBrackets(Verb),
    /// This, printable and bounded, stands between the brackets of `MAIL FROM:` or `RCPT TO:`,
    /// and is no mailbox. Empty where there is no `@` in it: it may be a password that was typed
    /// into the wrong field.
    Address(Verb, String),
}

impl Command {
    /// Parses one line without its CRLF.
    ///
    /// # Errors
    /// Any octets are allowed; those that are no command are told apart by what to say.
    pub fn parse(line: &[u8]) -> Result<Self, BadCommand> {
        Self::parse_with(line, Quirks::default())
    }

    /// Parses one line without its line end, as these quirks allow.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with(line: &[u8], quirks: Quirks) -> Result<Self, BadCommand> {
        let end = line
            .iter()
            .rposition(|b| !b" \t".contains(b))
            .map_or(0, |last| last + 1);
        let line = &line[..end];
        let (word, rest) = match line.iter().position(|b| *b == b' ') {
            Some(space) => (&line[..space], Some(&line[space + 1..])),
            None => (line, None),
        };
        let verb = Verb::parse(word).ok_or_else(|| BadCommand::Unrecognized(shown(word, 32)))?;
        let malformed = BadCommand::Arguments(verb);
        let rest = match rest.map(std::str::from_utf8) {
            None => None,
            Some(Ok(text)) if !text.contains(char::is_control) => Some(text),
            Some(_) => return Err(malformed),
        };
        let bare = |command| {
            if rest.is_none() {
                Ok(command)
            } else {
                Err(malformed.clone())
            }
        };
        // Whatever a client calls itself: some have blanks in their names.
        let name = || {
            rest.map(|text| text.trim_start_matches(' ').to_owned())
                .ok_or(malformed.clone())
        };
        match verb {
            Verb::Ehlo => Ok(Self::Ehlo(name()?)),
            Verb::Helo if quirks.helo_only && rest.is_none() => Ok(Self::Helo(String::new())),
            Verb::Helo => Ok(Self::Helo(name()?)),
            Verb::Starttls => bare(Self::Starttls),
            Verb::Auth => auth(rest.unwrap_or_default()).ok_or(malformed),
            Verb::Mail => MailCommand::parse(rest.unwrap_or_default(), quirks).map(Self::Mail),
            Verb::Rcpt => RcptCommand::parse(rest.unwrap_or_default(), quirks).map(Self::Rcpt),
            Verb::Data => bare(Self::Data),
            Verb::Bdat => bdat(rest.unwrap_or_default()).ok_or(malformed),
            Verb::Rset => bare(Self::Rset),
            Verb::Noop => Ok(Self::Noop),
            Verb::Help => Ok(Self::Help),
            Verb::Vrfy => rest
                .map(|text| Self::Vrfy(text.to_owned()))
                .ok_or(malformed),
            Verb::Expn => rest
                .map(|text| Self::Expn(text.to_owned()))
                .ok_or(malformed),
            Verb::Quit => bare(Self::Quit),
        }
    }

    /// The command's name.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Ehlo(_) => Verb::Ehlo,
            Self::Helo(_) => Verb::Helo,
            Self::Starttls => Verb::Starttls,
            Self::Auth { .. } => Verb::Auth,
            Self::Mail(_) => Verb::Mail,
            Self::Rcpt(_) => Verb::Rcpt,
            Self::Data => Verb::Data,
            Self::Bdat { .. } => Verb::Bdat,
            Self::Rset => Verb::Rset,
            Self::Noop => Verb::Noop,
            Self::Help => Verb::Help,
            Self::Vrfy(_) => Verb::Vrfy,
            Self::Expn(_) => Verb::Expn,
            Self::Quit => Verb::Quit,
        }
    }
}

impl Verb {
    const ALL: [Self; 14] = [
        Self::Ehlo,
        Self::Helo,
        Self::Starttls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Bdat,
        Self::Rset,
        Self::Noop,
        Self::Help,
        Self::Vrfy,
        Self::Expn,
        Self::Quit,
    ];

    /// As on the wire, in capitals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::Starttls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Bdat => "BDAT",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Help => "HELP",
            Self::Vrfy => "VRFY",
            Self::Expn => "EXPN",
            Self::Quit => "QUIT",
        }
    }

    fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|verb| word.eq_ignore_ascii_case(verb.as_str().as_bytes()))
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for BadCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrecognized(word) => write!(f, "unrecognized command '{word}'"),
            Self::Arguments(verb) => write!(f, "malformed arguments of {verb}"),
            Self::SpaceBehindColon(verb) => write!(f, "a space behind the colon of {verb}"),
            Self::NoBrackets(verb) => write!(f, "no angle brackets around the address of {verb}"),
            Self::Address(verb, text) if text.is_empty() => {
                write!(f, "no @ in the address of {verb}")
            }
            Self::Address(verb, text) => write!(f, "<{text}> of {verb} is no address"),
            Self::Parameter(verb, keyword) => {
                write!(f, "unsupported parameter {keyword} of {verb}")
            }
        }
    }
}

impl std::error::Error for BadCommand {}

impl MailCommand {
    fn parse(arguments: &str, quirks: Quirks) -> Result<Self, BadCommand> {
        let malformed = || BadCommand::Arguments(Verb::Mail);
        let path = after_keyword(arguments, "FROM:").ok_or_else(malformed)?;
        let (reverse_path, rest) = path_argument(Verb::Mail, path, quirks)?;
        let mut mail = Self {
            reverse_path: reverse_path.to_owned(),
            ..Self::default()
        };
        for (keyword, value) in parameters(rest).ok_or_else(malformed)? {
            mail.set(&keyword, value).ok_or_else(malformed)??;
        }
        Ok(mail)
    }

    /// `None`: a known parameter with a bad value.
    fn set(&mut self, keyword: &str, value: Option<&str>) -> Option<Result<(), BadCommand>> {
        match keyword {
            "SIZE" => self.size = Some(number(value?)?),
            "BODY" => {
                self.body = match value?.to_ascii_uppercase().as_str() {
                    "7BIT" => BodyType::SevenBit,
                    "8BITMIME" => BodyType::EightBitMime,
                    "BINARYMIME" => BodyType::BinaryMime,
                    _ => return None,
                }
            }
            "SMTPUTF8" if value.is_none() => self.smtputf8 = true,
            "SMTPUTF8" => return None,
            "RET" => {
                self.ret = match value?.to_ascii_uppercase().as_str() {
                    "FULL" => Some(Ret::Full),
                    "HDRS" => Some(Ret::Headers),
                    _ => return None,
                }
            }
            // RFC 3461 §4.4: at most 100 characters, encoded.
            "ENVID" => self.envid = Some(xtext(value.filter(|text| text.len() <= 100)?)?),
            "AUTH" => {
                self.auth = Some(match value? {
                    "<>" => String::new(),
                    encoded => xtext(encoded).filter(|text| path::is_mailbox(text))?,
                });
            }
            _ => return Some(Err(BadCommand::Parameter(Verb::Mail, keyword.to_owned()))),
        }
        Some(Ok(()))
    }
}

impl RcptCommand {
    fn parse(arguments: &str, quirks: Quirks) -> Result<Self, BadCommand> {
        let malformed = || BadCommand::Arguments(Verb::Rcpt);
        let path = after_keyword(arguments, "TO:").ok_or_else(malformed)?;
        let (forward_path, rest) = path_argument(Verb::Rcpt, path, quirks)?;
        let mut rcpt = Self {
            forward_path: forward_path.to_owned(),
            ..Self::default()
        };
        for (keyword, value) in parameters(rest).ok_or_else(malformed)? {
            match keyword.as_str() {
                "NOTIFY" => {
                    rcpt.notify = Some(value.and_then(Notify::parse).ok_or_else(malformed)?);
                }
                // RFC 3461 §4.2: at most 500 characters.
                "ORCPT" => {
                    let whole = value
                        .filter(|text| text.len() <= 500)
                        .ok_or_else(malformed)?;
                    let (kind, address) = whole.split_once(';').ok_or_else(malformed)?;
                    // The utf-8 type has its own escapes (RFC 6533 §3).
                    let readable = kind.eq_ignore_ascii_case("utf-8") || xtext(address).is_some();
                    if kind.is_empty() || address.is_empty() || !readable {
                        return Err(malformed());
                    }
                    rcpt.orcpt = Some(whole.to_owned());
                }
                _ => return Err(BadCommand::Parameter(Verb::Rcpt, keyword)),
            }
        }
        Ok(rcpt)
    }
}

impl Notify {
    fn parse(value: &str) -> Option<Self> {
        let mut notify = Self::default();
        if value.eq_ignore_ascii_case("NEVER") {
            return Some(notify);
        }
        for word in value.split(',') {
            let flag = match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => &mut notify.success,
                "FAILURE" => &mut notify.failure,
                "DELAY" => &mut notify.delay,
                _ => return None,
            };
            if std::mem::replace(flag, true) {
                return None;
            }
        }
        Some(notify)
    }
}

fn auth(arguments: &str) -> Option<Command> {
    let (mechanism, initial) = match arguments.split_once(' ') {
        Some((mechanism, initial)) => (mechanism, Some(initial)),
        None => (arguments, None),
    };
    // RFC 4422 §3.1: 1 to 20 letters, digits, hyphens, underscores.
    let named = (1..=20).contains(&mechanism.len())
        && mechanism
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    (named && initial.is_none_or(is_word)).then(|| Command::Auth {
        mechanism: mechanism.to_ascii_uppercase(),
        initial: initial.map(SecretString::from),
    })
}

fn bdat(arguments: &str) -> Option<Command> {
    let (octets, last) = match arguments.split_once(' ') {
        Some((octets, mark)) if mark.eq_ignore_ascii_case("LAST") => (octets, true),
        Some(_) => return None,
        None => (arguments, false),
    };
    Some(Command::Bdat {
        octets: number(octets)?,
        last,
    })
}

/// The path behind the colon of `MAIL FROM:` or `RCPT TO:`, and what follows it.
fn path_argument(verb: Verb, text: &str, quirks: Quirks) -> Result<(&str, &str), BadCommand> {
    let is_reverse = verb == Verb::Mail;
    let written = text.trim_start_matches(' ');
    let wellformed = path::bracketed(written).filter(|(path, _)| is_reverse || !path.is_empty());
    let found = if let Some(found) = wellformed {
        found
    } else if let Some(found) = postmaster(written).filter(|_| !is_reverse) {
        found
    } else if let Some(found) = path::bare(written) {
        if !quirks.no_brackets {
            return Err(BadCommand::NoBrackets(verb));
        }
        found
    } else if let Some(found) = path::any(written) {
        if !(is_reverse && quirks.any_sender) {
            let named = if found.0.contains('@') {
                shown(found.0.as_bytes(), 100)
            } else {
                String::new()
            };
            return Err(BadCommand::Address(verb, named));
        }
        found
    } else {
        return Err(BadCommand::Arguments(verb));
    };
    if written.len() < text.len() && !quirks.mail_from_space {
        return Err(BadCommand::SpaceBehindColon(verb));
    }
    Ok(found)
}

/// RFC 5321 §4.1.1.3: `<Postmaster>` needs no domain.
fn postmaster(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
    name.eq_ignore_ascii_case("postmaster")
        .then_some((name, rest))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(' ')
}

/// The word of an unknown command, fit to be repeated: 32 characters, no controls.
fn shown(word: &[u8], characters: usize) -> String {
    String::from_utf8_lossy(&word[..word.len().min(4 * characters)])
        .chars()
        .take(characters)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
