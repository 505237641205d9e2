//! Why a call failed.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::transport::{TransportError, TransportErrorKind};

/// Why a call failed, with what Graph said about it.
#[derive(Debug)]
pub struct GraphError {
    /// What the caller can act on.
    pub kind: GraphErrorKind,
    /// What was being done, as in "creating the application".
    pub doing: &'static str,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// Graph's code, as in `Authorization_RequestDenied`; its most detailed one is in
    /// `detail`.
    pub code: Option<String>,
    /// The innermost code of `innerError`, where Graph gave one.
    pub detail: Option<String>,
    /// Graph's message, or ours: one line, bounded, without control characters.
    pub message: String,
    /// The id of the request, for Microsoft's support.
    pub request_id: Option<String>,
    /// How long the server asked to be left alone, when it was too long to wait here.
    pub retry_after: Option<Duration>,
    /// Whether the request may have been carried out although it failed: it creates something,
    /// was sent, and its answer is not a refusal.
    pub may_have_happened: bool,
    /// What the transport said.
    pub source: Option<TransportError>,
}

/// The outcomes that call for different actions.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphErrorKind {
    /// 401: the token is not one for this Graph, or is no longer.
    Unauthenticated,
    /// 403: the token or the person behind it may not do this.
    Denied {
        /// The least permission which the call is documented to need, in Graph's words.
        needs: Option<&'static str>,
    },
    /// 404, 410: there is no such object.
    NotFound,
    /// 409, or a 400 that says the same: it exists already, or was changed at the same time.
    Conflict,
    /// 429: too many requests, or too many at the same time, also after waiting.
    Throttled,
    /// 5xx: the service does not do it now.
    Unavailable,
    /// Any other refusal of the request as it stands.
    Rejected,
    /// No answer.
    Transport,
    /// An answer that is not what Graph answers.
    Malformed,
    /// A value that must not be sent, such as an id that is none. Nothing was sent.
    Invalid,
}

impl GraphError {
    /// An error of our own making, before or after the wire.
    pub(crate) fn ours(
        kind: GraphErrorKind,
        doing: &'static str,
        message: impl AsRef<str>,
    ) -> Self {
        Self {
            kind,
            doing,
            status: None,
            code: None,
            detail: None,
            message: one_line(message.as_ref(), MESSAGE_CHARS),
            request_id: None,
            retry_after: None,
            may_have_happened: false,
            source: None,
        }
    }

    pub(crate) fn transport(doing: &'static str, creates: bool, source: TransportError) -> Self {
        Self {
            may_have_happened: creates && source.kind != TransportErrorKind::NotSent,
            message: one_line(&source.message, MESSAGE_CHARS),
            source: Some(source),
            ..Self::ours(GraphErrorKind::Transport, doing, "")
        }
    }

    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.kind,
            GraphErrorKind::Throttled | GraphErrorKind::Unavailable | GraphErrorKind::Transport
        )
    }
}

/// What was being done, the status and code, and the message.
impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.doing)?;
        if self.kind == GraphErrorKind::Transport {
            f.write_str("no answer")?;
        } else {
            f.write_str(&self.message)?;
        }
        match (self.status, &self.code) {
            (Some(status), Some(code)) => write!(f, " ({status} {code})")?,
            (Some(status), None) => write!(f, " ({status})")?,
            (None, _) => {}
        }
        if let Some(id) = &self.request_id {
            write!(f, ", request-id {id}")?;
        }
        Ok(())
    }
}

impl Error for GraphError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

/// The most of a message that is kept, in characters.
pub(crate) const MESSAGE_CHARS: usize = 500;

/// `text` as one line of at most `chars` characters: control characters are spaces, spaces do not
/// follow each other, and what looks like a token or a client secret is masked: an answer may
/// repeat what it was asked.
pub(crate) fn one_line(text: &str, chars: usize) -> String {
    let mut line = String::new();
    let mut kept = 0;
    for c in masked(text.trim()).chars() {
        let c = if c.is_control() || c.is_whitespace() || is_invisible(c) {
            ' '
        } else {
            c
        };
        if c == ' ' && line.ends_with(' ') {
            continue;
        }
        if kept == chars {
            line.push('…');
            break;
        }
        line.push(c);
        kept += 1;
    }
    line
}

/// `text` without JSON Web Tokens and client secrets of Entra ID.
fn masked(text: &str) -> String {
    let in_secrets = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let is_word = in_secrets(c);
        let end = rest
            .find(|c| in_secrets(c) != is_word)
            .unwrap_or(rest.len());
        let (piece, next) = rest.split_at(end);
        // A client secret has 40 characters, `Q~` after the first few.
        let token = piece.starts_with("eyJ") && piece.len() >= 20;
        let secret = piece.contains("Q~") && piece.len() >= 30;
        shown.push_str(if token || secret { "[masked]" } else { piece });
        rest = next;
    }
    shown
}

/// Marks that turn the direction of text, which a terminal obeys.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_repeats_of_a_token_or_a_secret_is_masked() {
        let secret = "cAn8Q~a.client.secret.0123456789-_aBcDeF";
        let token = "eyJhbGciOiJub25lIn0.eyJhIjoiYiJ9.c2ln";
        for (text, shown) in [
            (
                format!("Bearer {token} is no token."),
                "Bearer [masked] is no token.",
            ),
            (format!("not '{secret}', but"), "not '[masked]', but"),
            (format!("a\n{token}{}", "x".repeat(600)), "a [masked]"),
            (
                "Insufficient privileges, eyJ Q~ “ü”".to_owned(),
                "Insufficient privileges, eyJ Q~ “ü”",
            ),
        ] {
            assert_eq!(one_line(&text, MESSAGE_CHARS), shown);
        }
    }
}
