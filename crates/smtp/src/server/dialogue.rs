//! The `AUTH` exchange on a connection, RFC 4954 §4.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Connection, Line};
use super::handler::{Ask, ExchangeEnd, Problem};
use super::limits::Limits;
use super::reply::ServerReply;

pub(super) struct Dialogue<'a, 'l, S> {
    pub(super) io: &'a mut Connection<'l, S>,
    pub(super) limits: &'a Limits,
    /// The mechanism is `LOGIN`, and whether its answers may end in NUL.
    pub(super) login_nul: Option<bool>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Ask for Dialogue<'_, '_, S> {
    fn ask<'a>(&'a mut self, challenge: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, ExchangeEnd>> {
        async move {
            self.io
                .say(&ServerReply::new(334, STANDARD.encode(challenge)));
            let line = self.io.line(|_| self.limits.auth_line_octets).await;
            let answer = match line.map_err(ExchangeEnd::Lost)? {
                Line::TooLong => Err(Problem::LineTooLong),
                Line::BareLineFeed => Err(Problem::BareLineFeed),
                Line::Mixed => Err(Problem::MixedLineEnds),
                Line::Tls => Err(Problem::TlsUnasked),
                Line::Complete(line) if line == b"*" => Err(Problem::AuthCancelled),
                Line::Complete(line) => STANDARD
                    .decode(line)
                    .map_err(|_| Problem::AuthEncoding)
                    .and_then(|answer| login_answer(answer, self.login_nul)),
            };
            answer.map_err(ExchangeEnd::Refused)
        }
        .boxed()
    }
}

/// A name or password as `AUTH LOGIN` means it. `login_nul` is `None` for other mechanisms,
/// whose answers are passed on as they are.
pub(super) fn login_answer(
    mut answer: Vec<u8>,
    login_nul: Option<bool>,
) -> Result<Vec<u8>, Problem> {
    if login_nul == Some(true) {
        answer.pop_if(|last| *last == 0);
    }
    if login_nul.is_some() && answer.contains(&0) {
        return Err(Problem::AuthNul);
    }
    Ok(answer)
}
