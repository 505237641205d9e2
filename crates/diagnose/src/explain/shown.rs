//! A piece of foreign text, fit to be shown: one line, bounded, no control characters, no secrets.

/// As much is shown.
const MAX_SHOWN_CHARS: usize = 500;

/// As much is looked at; of what is longer, the last word is left out, for half a secret does
/// not look like one.
const MAX_READ_OCTETS: usize = 4096;

/// What stands in a secret's place.
const MASK: &str = "[masked]";

/// Names whose values are secrets, in lower case.
const SECRET_NAMES: &[&str] = &[
    "access_token",
    "refresh_token",
    "id_token",
    "client_secret",
    "client_assertion",
    "assertion",
    "code_verifier",
    "device_code",
    "password",
    "passwd",
    "passwort",
    "pass",
    "secret",
    "token",
    "apikey",
    "api_key",
    "authorization",
    "code",
];

/// Words that the next word of is a secret, in lower case.
const SECRET_AFTER: &[&str] = &[
    "bearer",
    "basic",
    "plain",
    "login",
    "xoauth2",
    "oauthbearer",
];

/// What a client says in SMTP that is no answer to a challenge.
const COMMANDS: &[&str] = &[
    "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT",
];

/// `text` on one line of at most 500 characters.
pub(super) fn line(text: &str) -> String {
    let read = &text[..text.floor_char_boundary(MAX_READ_OCTETS)];
    let whole = read.len() == text.len();
    let masked = masked(if whole {
        read
    } else {
        read.trim_end_matches(is_token)
    });
    let mut shown = String::new();
    for (count, c) in masked
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .enumerate()
    {
        if count == MAX_SHOWN_CHARS {
            shown.push('…');
            break;
        }
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// `text` without what is, or looks like, a secret.
fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut before = Before::default();
    for piece in Pieces(text) {
        let secret =
            piece.is_token && (before.names_secret(text, piece.text) || looks_secret(piece.text));
        if secret {
            // What trails a value is punctuation.
            let value = piece.text.trim_end_matches(['.', ',']);
            shown.push_str(MASK);
            shown.push_str(&piece.text[value.len()..]);
        } else {
            shown.push_str(piece.text);
        }
        before.note(&piece, secret);
    }
    shown
}

/// Words and what is between them.
struct Pieces<'t>(&'t str);

struct Piece<'t> {
    text: &'t str,
    is_token: bool,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = Piece<'t>;

    fn next(&mut self) -> Option<Piece<'t>> {
        let is_token = is_token(self.0.chars().next()?);
        let end = self
            .0
            .find(|c| is_token != self::is_token(c))
            .unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(Piece { text, is_token })
    }
}

/// What Base64, JWTs, opaque tokens and passwords are made of.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/_~.-!*$%".contains(c)
}

/// What was read last: the word, and what stands between it and the next.
#[derive(Default)]
struct Before {
    word: String,
    between: String,
}

impl Before {
    fn note(&mut self, piece: &Piece<'_>, secret: bool) {
        if piece.is_token {
            let short = if secret || piece.text.len() > 64 {
                ""
            } else {
                piece.text
            };
            self.word = short.to_ascii_lowercase();
            self.between.clear();
        } else {
            self.between = piece.text.chars().take(16).collect();
        }
    }

    /// Whether what was read last says that `next` is a secret.
    fn names_secret(&self, whole: &str, next: &str) -> bool {
        let between = self.between.trim();
        let word = self.word.trim_start_matches(['-', '.']);
        let word = word.rsplit(['.', '/']).next().unwrap_or(word);
        let is_value = matches!(
            between,
            "=" | ":"
                | "\":\""
                | "\":"
                | "\": \""
                | "=\""
                | "='"
                | "':'"
                | "': '"
                | "=>"
                | ":\""
                | ": \""
        );
        if is_value && SECRET_NAMES.contains(&word) {
            // `code: 535`, `error code: 4.7.1`, `code=EAUTH` name no secret.
            return word != "code" || next.len() >= 24;
        }
        if between.is_empty() && SECRET_AFTER.contains(&word) {
            return next.len() >= 8 && !next.bytes().all(|octet| octet.is_ascii_lowercase());
        }
        // An answer to a challenge, in a transcript.
        let transcript = matches!(between, ":" | ">" | ">>>" | ": >>>");
        transcript
            && matches!(word, "c" | "server" | "client")
            && whole.contains("334")
            && next.len() >= 8
            && !COMMANDS.contains(&next)
    }
}

/// Whether a word is long and mixed enough to be a token, a key or an encoded password.
fn looks_secret(word: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
    let mixed =
        has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    let jwt = word.starts_with("eyJ") && word.len() >= 20;
    // Entra's client secrets: 40 characters, `Q~` after the fourth.
    let entra = word.contains("Q~") && word.len() >= 30;
    jwt || entra || (mixed && word.len() >= 60 && !word.starts_with("//"))
}
