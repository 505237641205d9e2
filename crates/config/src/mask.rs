//! Which octets of a settings file may be a secret.
//!
//! Worked out from tokens, not from the parsed tree: a file that does not parse is shown in
//! an error too, and a password with a missing quote is a password. What follows a key that
//! looks like a secret's ([`looks_secret`]) is masked up to where its value ends, and so are
//! what stands before the `@` of a URL, and what a gateway has under keys that it does not know:
//! its devices' passwords, perhaps, as other servers keep them. Only the names inside a reference
//! (`{ env = "NAME" }`) and a gateway's `certificate`, a file's name, stay readable. In doubt it
//! masks.

use std::ops::Range;

use toml_parser::{
    Source,
    lexer::{Token, TokenKind},
};

use crate::keys::{is_of_gateway, is_setting_of_gateway, looks_secret};

/// Keys of a reference whose value is a name or a date, not a secret. (A command's arguments may be one.)
const NAMES: [&str; 5] = ["env", "file", "credential", "vault", "expires"];

/// Keys of nothing, under which somebody may write a device's password or its hash.
const MISTAKEN: [&str; 4] = ["credential", "hash", "passwords", "secrets"];

/// Tables of devices: `users` is none here, and elsewhere one of names and passwords.
const DEVICES: [&str; 2] = ["gateway", "users"];

/// A key is not longer than so many tokens; whatever is, is masked.
const KEY_TOKENS: usize = 16;

/// The ranges to mask, ascending and apart.
pub(crate) fn secret_ranges(text: &str) -> Vec<Range<usize>> {
    let tokens: Vec<Token> = Source::new(text).lex().collect();
    let mut scan = Scan {
        text,
        tokens: &tokens,
        ranges: Vec::new(),
    };
    scan.run();
    let mut ranges = scan.ranges;
    ranges.extend(userinfo(text));
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let touch = next.start <= last.end;
        if touch {
            last.end = last.end.max(next.end);
        }
        touch
    });
    ranges
}

/// User names and passwords in URLs (RFC 3986 §3.2.1), ascending and apart.
pub(crate) fn userinfo(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("://").filter_map(|(at, mark)| {
        let start = at + mark.len();
        let rest = &text[start..];
        let ends = |c: char| matches!(c, '/' | '?' | '#' | '"' | '\'') || c.is_whitespace();
        let authority = &rest[..rest.find(ends).unwrap_or(rest.len())];
        let length = authority.rfind('@')?;
        (length > 0).then_some(start..start + length)
    })
}

struct Scan<'a> {
    text: &'a str,
    tokens: &'a [Token],
    ranges: Vec<Range<usize>>,
}

impl<'a> Scan<'a> {
    fn run(&mut self) {
        let mut at = 0;
        let mut open = 0_usize;
        let mut line_start = true;
        let mut secret_table = false;
        let mut header: Option<Vec<&str>> = None;
        let mut of_devices = false;
        while let Some(token) = self.tokens.get(at) {
            let kind = token.kind();
            match kind {
                TokenKind::LeftSquareBracket if line_start && open == 0 => {
                    let end = self.line_end(at);
                    let keys = self.tokens[at..end].iter().filter(|it| is_key(it.kind()));
                    secret_table = keys.clone().any(|it| self.is_secret_key(*it));
                    header = Some(keys.map(|it| self.key(*it)).collect());
                    at = end;
                    continue;
                }
                TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => open += 1,
                TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                    open = open.saturating_sub(1);
                }
                TokenKind::Equals => {
                    let mut is_setting = false;
                    if open == 0 {
                        let mut own: Vec<_> = self.key_before(at).map(|it| self.key(it)).collect();
                        own.reverse();
                        let above = header.as_deref().unwrap_or_default();
                        let path = [above, &own[..]].concat();
                        let first = header.as_ref().unwrap_or(&own).first();
                        of_devices = first.is_some_and(|key| DEVICES.contains(key));
                        is_setting = is_setting_of_gateway(&path) && self.is_plain_text(at);
                    }
                    if secret_table
                        || !is_setting && self.key_before(at).any(|k| self.is_secret_key(k))
                        || of_devices && self.is_unknown_text(at)
                    {
                        let named = secret_table && self.is_name(at);
                        at = self.value(at + 1, open > 0, named);
                        line_start = false;
                        continue;
                    }
                }
                _ => {}
            }
            line_start = match kind {
                TokenKind::Newline => true,
                TokenKind::Whitespace => line_start,
                _ => false,
            };
            at += 1;
        }
    }

    /// Masks the value that begins at token `at`, and returns the token after it.
    ///
    /// `nested`: inside an inline table, where a comma or a brace ends the value.
    /// `named`: the value itself is a name that may be read.
    fn value(&mut self, mut at: usize, nested: bool, named: bool) -> usize {
        let mut depth = 0_usize;
        let mut readable = named;
        let mut unfinished = false;
        while let Some(token) = self.tokens.get(at) {
            match token.kind() {
                TokenKind::Eof => break,
                // A quote that its line does not close may have been meant to close later.
                TokenKind::Newline if depth == 0 && !(unfinished && self.text_follows(at + 1)) => {
                    break;
                }
                TokenKind::Comma if depth == 0 && nested && self.key_follows(at + 1) => break,
                TokenKind::RightCurlyBracket if depth == 0 && nested => break,
                TokenKind::LeftCurlyBracket | TokenKind::LeftSquareBracket => depth += 1,
                TokenKind::RightCurlyBracket | TokenKind::RightSquareBracket => {
                    depth = depth.saturating_sub(1);
                }
                TokenKind::Equals => readable = depth == 1 && self.is_name(at),
                TokenKind::Whitespace | TokenKind::Newline | TokenKind::Comma | TokenKind::Dot => {}
                TokenKind::BasicString | TokenKind::LiteralString if readable => readable = false,
                _ if depth > 0 && self.equals_follows(at + 1) => {}
                _ => {
                    let span = token.span();
                    self.mask(span.start()..span.end());
                    unfinished |= self.is_unfinished(*token);
                }
            }
            at += 1;
        }
        at
    }

    /// Adds a range, joined with the one before it when only blanks or dots lie between.
    fn mask(&mut self, range: Range<usize>) {
        match self.ranges.last_mut() {
            Some(last)
                if self.text[last.end..range.start]
                    .chars()
                    .all(|c| matches!(c, ' ' | '\t' | '.' | ',')) =>
            {
                last.end = range.end;
            }
            _ => self.ranges.push(range),
        }
    }

    /// The first token of the next line.
    fn line_end(&self, at: usize) -> usize {
        let length = self.tokens[at..]
            .iter()
            .position(|token| token.kind() == TokenKind::Newline)
            .unwrap_or(self.tokens.len() - at);
        at + length
    }

    /// The parts of the dotted key before the `=` at `at`.
    fn key_before(&self, at: usize) -> impl Iterator<Item = Token> {
        self.tokens[..at]
            .iter()
            .rev()
            .take_while(|token| is_key(token.kind()) || is_between(token.kind()))
            .filter(|token| is_key(token.kind()))
            .copied()
    }

    /// Whether the key before the `=` at `at` is a reference's whose value is a name.
    fn is_name(&self, at: usize) -> bool {
        let mut parts = self.key_before(at);
        let last = parts.next().map(|token| self.key(token));
        last.is_some_and(|key| NAMES.contains(&key))
    }

    /// Whether one string, closed on its line, is all that follows the `=` at `at`.
    fn is_plain_text(&self, at: usize) -> bool {
        let rest = self.tokens[at + 1..].iter();
        let mut rest = rest.filter(|token| token.kind() != TokenKind::Whitespace);
        let is_text = |kind| matches!(kind, TokenKind::BasicString | TokenKind::LiteralString);
        let value = rest.next();
        value.is_some_and(|token| is_text(token.kind()) && !self.is_unfinished(*token))
            && rest.next().is_none_or(|token| {
                let end = [TokenKind::Newline, TokenKind::Comment, TokenKind::Eof];
                end.contains(&token.kind())
            })
    }

    /// Whether the `=` at `at` follows a key that no gateway has, and no table does: a table's own
    /// keys are looked at one by one.
    fn is_unknown_text(&self, at: usize) -> bool {
        let mut rest = self.tokens[at + 1..].iter();
        let value = rest.find(|token| token.kind() != TokenKind::Whitespace);
        let is_table = value.is_some_and(|token| token.kind() == TokenKind::LeftCurlyBracket);
        let mut parts = self.key_before(at);
        let key = parts.next().map(|token| self.key(token));
        // Whatever a device is called, what follows its name is no setting.
        let is_device = parts
            .next()
            .is_some_and(|token| self.key(token) == "device");
        !is_table && (is_device || !key.is_some_and(is_of_gateway))
    }

    /// Whether the next entry of an inline table comes next, or its end.
    fn key_follows(&self, at: usize) -> bool {
        let blank = |kind| {
            matches!(
                kind,
                TokenKind::Whitespace | TokenKind::Newline | TokenKind::Comment
            )
        };
        let rest = self.tokens.get(at..).unwrap_or_default();
        let blanks = rest.iter().take_while(|token| blank(token.kind())).count();
        match rest.get(blanks).map(Token::kind) {
            None | Some(TokenKind::Eof | TokenKind::RightCurlyBracket) => true,
            Some(_) => self.equals_follows(at + blanks),
        }
    }

    /// Whether an `=` comes next, past the parts of a dotted key.
    fn equals_follows(&self, at: usize) -> bool {
        self.tokens
            .iter()
            .skip(at)
            .take(KEY_TOKENS)
            .find(|token| !is_between(token.kind()) && !is_key(token.kind()))
            .is_some_and(|token| token.kind() == TokenKind::Equals)
    }

    /// Whether the line at `at` is neither a header nor a key with a value: more of a text
    /// that began before.
    fn text_follows(&self, at: usize) -> bool {
        let line: Vec<TokenKind> = self
            .tokens
            .iter()
            .skip(at)
            .map(Token::kind)
            .filter(|kind| *kind != TokenKind::Whitespace)
            .take(KEY_TOKENS)
            .take_while(|kind| !matches!(kind, TokenKind::Newline | TokenKind::Eof))
            .collect();
        let equals = line.iter().position(|kind| *kind == TokenKind::Equals);
        let is_entry = equals.is_some_and(|equals| {
            let key = &line[..equals];
            let value = line.get(equals + 1);
            !key.is_empty()
                && key.iter().all(|kind| is_key(*kind) || is_between(*kind))
                && value.is_some_and(|kind| *kind != TokenKind::Equals)
        });
        let is_header = line.first() == Some(&TokenKind::LeftSquareBracket);
        let is_end = line.is_empty() && at >= self.tokens.len();
        !(is_entry || is_header || is_end)
    }

    fn is_unfinished(&self, token: Token) -> bool {
        let span = token.span();
        let text = &self.text[span.start()..span.end()];
        match token.kind() {
            TokenKind::BasicString => text.len() < 2 || !text.ends_with('"'),
            TokenKind::LiteralString => text.len() < 2 || !text.ends_with('\''),
            _ => false,
        }
    }

    fn is_secret_key(&self, token: Token) -> bool {
        let key = self.key(token);
        is_key(token.kind()) && (looks_secret(key) || MISTAKEN.contains(&key))
    }

    /// A key's text without its quotes.
    fn key(&self, token: Token) -> &'a str {
        let span = token.span();
        self.text[span.start()..span.end()].trim_matches(['"', '\''])
    }
}

fn is_key(kind: TokenKind) -> bool {
    matches!(
        kind,
        TokenKind::Atom | TokenKind::BasicString | TokenKind::LiteralString
    )
}

fn is_between(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Dot | TokenKind::Whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let mut shown = String::new();
        let mut from = 0;
        for range in secret_ranges(text) {
            shown.push_str(&text[from..range.start]);
            shown.push('…');
            from = range.end;
        }
        shown + &text[from..]
    }

    #[test]
    fn values_of_secret_keys_are_masked() {
        for (text, shown) in [
            ("password = \"hunter2\"", "password = …"),
            (
                "username = \"a@b\"\npassword = 'hunter2' # old: hunter1\nx = 1",
                "username = \"a@b\"\npassword = …\nx = 1",
            ),
            (
                "auth = { plugin = \"basic\", password = \"hunter2\" }",
                "auth = { plugin = \"basic\", password = … }",
            ),
            (
                "auth = { password = \"hunter2\", plugin = \"basic\" }",
                "auth = { password = …, plugin = \"basic\" }",
            ),
            ("auth.pasword = \"hunter2\"", "auth.pasword = …"),
            (
                "\"client_secret\" = \"\"\"\nhunter2\n\"\"\"\n[x]",
                "\"client_secret\" = …\n[x]",
            ),
            ("password = [\"hunter2\", \"hunter3\"]", "password = […]"),
            ("password = 1234", "password = …"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    #[test]
    fn names_in_references_stay_readable() {
        for text in [
            "password = { env = \"PRINTER_PASSWORD\" }",
            "client_secret = { vault = 'alerts/client_secret' }",
            "[account.x.auth.client_secret]\nfile = \"/run/secrets/x\"",
            "auth.client_secret.credential = \"x\"",
            "username = \"a@b\"\ntoken_endpoint = \"https://x\"",
        ] {
            assert_eq!(
                masked(text).replace(
                    "client_secret.credential = …",
                    "client_secret.credential = \"x\""
                ),
                text
            );
        }
        assert_eq!(
            masked("password = { command = [\"pass\", \"hunter2\"] }"),
            "password = { command = […] }"
        );
        assert_eq!(
            masked("password = { value = \"hunter2\", env = \"N\" }"),
            "password = { value = …, env = \"N\" }"
        );
        assert_eq!(
            masked(
                "[account.x.auth.client_secret]\nvalue = \"hunter2\"\n[account.y]\nusername = \"u\""
            ),
            "[account.x.auth.client_secret]\nvalue = …\n[account.y]\nusername = \"u\""
        );
    }

    #[test]
    fn a_devices_password_in_the_wrong_place_is_masked() {
        for text in [
            "[gateway.office]\npassword = \"hunter2\"",
            "[gateway.office]\npasword = 'hunter2'",
            "[gateway.office]\npasswords = [\"hunter2\"]",
            "[gateway.office]\nsecrets = { a = \"hunter2\" }",
            "[gateway.office.credential]\nprinter-2 = \"hunter2\"",
            "[gateway.office.device]\nprinter-2 = \"hunter2\"",
            "[gateway.office.device]\nprinter-2 = hunter2",
            "[gateway.office]\ndevice.printer-2 = \"hunter2\"",
            "[gateway.office]\ndevice = { a = { account = \"x\" }, printer-2 = \"hunter2\" }",
            "gateway.office.device.printer-2 = \"hunter2\"",
            "[gateway.office.device.printer-2]\nhash = \"hunter2\"",
            "[gateway.office.device.printer-2]\ncredential = \"hunter2\"",
            "[gateway.office.device.printer-2]\npassword = \"hunter2",
            "[gateway.office.device.printer-2]\nauth = \"hunter2\"",
            "[gateway.office.device.printer-2]\ncertificate = \"hunter2\"",
            "[gateway.office]\ncertificate = \"\"\"\nhunter2\"\"\"",
            "[gateway.office]\ncertificate = \"hunter2",
            "[gateway.office]\ncertificate = \"a\" \"hunter2\"",
            "[gateway.office]\ncertificate.private_key = \"hunter2\"",
            "[account.office.auth]\ncertificate = \"hunter2\"",
            "[gateway.office]\nusers = { printer-2 = \"hunter2\" }",
            "[gateway.office]\nusers = [\"printer-2:hunter2\"]",
            "[gateway.office]\nauth = { printer-2 = { pin = 'hunter2' } }",
            "[gateway.office]\nlogin.printer-2 = \"hunter2\"",
            "[gateway.office.users]\nprinter-2 = \"hunter2\"",
            "gateway.office.users.printer-2 = \"hunter2\"",
            "gateway = { office = { users = { printer-2 = \"hunter2\" } } }",
            "users = { printer-2 = \"hunter2\" }",
            "[users]\nprinter-2 = hunter2",
        ] {
            let shown = masked(text);
            assert!(!shown.contains("hunter2"), "{text:?} -> {shown:?}");
        }
        for text in [
            "[gateway.office.device.printer-2]\naccount = \"scans\"",
            "[gateway.office.device]\nprinter-2 = { account = \"scans\" }",
            "[gateway.office]\ndevice.printer-2.account = \"scans\"",
            "[account.device]\nusername = \"a@b\"",
            "[gateway.office]\nlisten = \"127.0.0.1:25\"\nrehearse = { devices = [\"x\"] }",
            "[gateway.office]\nquirks = []\n[account.x]\nnote = \"y\"",
            "gateway.office.account = \"x\"\nx = 1",
            "[gateway.office]\ncertificate = 'tls/a.pem' # ours\nkey = 'tls/a.key'",
            "[gateway]\noffice.certificate = \"/etc/tls/a.pem\"",
            "gateway.office.certificate = \"/etc/tls/a.pem\"",
            "[sendmail]\nusers = [\"www-data\"]",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn an_unfinished_secret_ends_where_other_settings_begin() {
        assert_eq!(
            masked("password = \"hunter2\nx\n[a]\nb = 1"),
            "password = …\n…\n[a]\nb = 1"
        );
        assert_eq!(
            masked("password = \"hunter2\nusername = \"u\""),
            "password = …\nusername = \"u\""
        );
    }

    #[test]
    fn broken_files_leak_nothing_either() {
        for text in [
            "password = \"hunter2",
            "password = hunter2",
            "password = hun ter2.hunter2",
            "password = \"hun\"ter2\"",
            "password = hun#ter2",
            "password = \"\"\"hunter2\n\nhunter2",
            "password = {hunter2",
            "password = [\n\"hunter2\",\n\n'hunter2",
            "a = [\npassword = \"hunter2\"",
            "auth = { password = hunter2",
            "auth = { password = ter,hunter2 }",
            "auth = { x = \"1\", password = = \"hunter2\"",
            "[auth.password]\nhunter = hunter2",
            "password =\thunter2",
            "password = \"\nhunter2\"\n",
            "private_key = \"-----BEGIN KEY-----\nhunter2==\n\nhunter2 =\n-----END KEY-----\"\n",
            "password = 'a\nb'\nhunter2\n",
        ] {
            assert!(
                !masked(text).contains("ter2"),
                "{text:?} -> {:?}",
                masked(text)
            );
        }
    }
}
