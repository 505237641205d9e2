//! Exchange Online: SMTP client submission, as an authenticated client meets it.
//!
//! The wording is Exchange's. Where no first-hand source gives a reply's text, the comment
//! beside it says "unconfirmed". On the wire a refused token is `535 5.7.3` and nothing
//! more; the real reason goes to [`State::log`].
//!
//! Not here: framing and order of commands (the server half of `postrider-smtp`), what
//! becomes of an accepted message (the [`Inbox`]).

mod ledger;
mod session;
mod sign_in;
mod submission;
mod wording;

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider_smtp::server::{self, Limits, Quirks, TlsPolicy};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::inbox::Inbox;
use crate::state::State;
use ledger::Ledger;
use session::Session;
pub(crate) use submission::may_send_as;

/// Connections at once, from everyone together; more are closed unanswered.
const CONNECTIONS: usize = 4096;

/// The submission service; a cheap handle.
#[derive(Clone, Debug)]
pub struct Exchange {
    state: State,
    inbox: Inbox,
    ledger: Arc<Ledger>,
}

impl Exchange {
    /// A service that accepts by `state` and delivers into `inbox`.
    pub fn new(state: State, inbox: Inbox) -> Self {
        Self {
            state,
            inbox,
            ledger: Arc::default(),
        }
    }

    /// Nobody has sent anything yet.
    pub(crate) fn forget(&self) {
        self.ledger.clear();
    }

    /// Serves everyone who connects. Never returns; dropping the future closes all
    /// connections.
    pub async fn serve(self, listener: TcpListener, acceptor: TlsAcceptor) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, peer)) if connections.len() < CONNECTIONS => {
                    // A reply must not wait for the client's acknowledgement of the last.
                    let _ = stream.set_nodelay(true);
                    let (service, acceptor) = (self.clone(), acceptor.clone());
                    connections.spawn(async move {
                        if let Err(error) = service.connection(stream, acceptor, peer.ip()).await {
                            tracing::debug!(%peer, %error, "an SMTP connection failed");
                        }
                    });
                }
                Ok(_) => {}
                // Out of descriptors: those that close make room.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Serves one connection to its end.
    ///
    /// # Errors
    /// The connection or its TLS handshake failed.
    pub async fn connection<S>(
        &self,
        stream: S,
        acceptor: TlsAcceptor,
        client: IpAddr,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let scenario = self.state.scenario();
        let limits = &scenario.limits;
        let limits = Limits {
            message_octets: usize::try_from(limits.message_octets).unwrap_or(usize::MAX),
            recipients: limits.recipients_per_message as usize,
            idle_time: limits.idle_timeout.duration(),
            command_time: limits.idle_timeout.duration(),
            ..Limits::default()
        };
        // No source says that Exchange wants EHLO before AUTH.
        let quirks = Quirks {
            helo_only: true,
            ..Quirks::default()
        };
        let session = Session::new(self, client);
        let policy = TlsPolicy::Starttls;
        server::serve(stream, Some(acceptor), policy, session, limits, quirks).await
    }
}
