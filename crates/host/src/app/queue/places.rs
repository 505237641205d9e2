//! Each connection of an account has a place among those of all processes: no server sees more of
//! them than the account may have.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_smtp::{Connector, Stream, TcpConnector};
use postrider_spool::{HolderId, Slot, SpoolError, SpoolErrorKind, Store};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};

use super::Desk;
use crate::failure::Failure;

/// How long a connection waits for a place: less than a connection may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks whether one is free.
const AGAIN: Duration = Duration::from_millis(200);
/// How often this process gives a sign of life: a few times in the [`SILENCE`] that it may keep.
///
/// [`SILENCE`]: postrider_spool::SILENCE
const BEAT: Duration = Duration::from_secs(20);

/// Connects an account, in its place.
pub(in crate::app) struct Places {
    desk: Arc<Desk>,
    account: String,
    at_most: u32,
}

impl Places {
    pub(in crate::app) fn new(desk: &Arc<Desk>, account: &str, at_most: u16) -> Self {
        Self {
            desk: Arc::clone(desk),
            account: account.to_owned(),
            at_most: at_most.into(),
        }
    }

    /// A place; none where nobody knows of other processes.
    async fn take(&self) -> io::Result<Option<Slot>> {
        let desk = Arc::downgrade(&self.desk);
        let beat = || drop(tokio::spawn(Desk::keep_alive(desk)));
        self.desk.beating.call_once(beat);
        let since = Instant::now();
        loop {
            match self.desk.slot(&self.account, self.at_most).await {
                Ok(Some(slot)) => return Ok(Some(slot)),
                Ok(None) if since.elapsed() < PATIENCE => sleep(AGAIN).await,
                Ok(None) => {
                    // By its kind it is told from a server that is away.
                    let why = format!(
                        "other processes have the {} sessions of account {} (connections)",
                        self.at_most, self.account
                    );
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
                }
                // Mail that could go is worth more than knowing of others.
                Err(error) => {
                    let account = &self.account;
                    tracing::warn!(
                        account,
                        "sessions of other processes are not known: {error}"
                    );
                    return Ok(None);
                }
            }
        }
    }
}

impl Connector for Places {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        async move {
            let place = self.take().await?;
            let stream = TcpConnector.connect(address).await?;
            Ok(Box::new(Placed {
                stream,
                _place: place,
            }) as Box<dyn Stream>)
        }
        .boxed()
    }
}

/// Why there was no place.
pub(in crate::app) fn no_place(account: &str, why: &io::Error) -> Failure {
    Failure::new("queue.no_session", why.to_string())
        .with_account(account)
        .with_remedy(
            "send again when they are done, or queue the message (send --queue); raise connections, if the provider allows more",
        )
        .retryable()
}

impl Desk {
    async fn slot(&self, account: &str, at_most: u32) -> Result<Option<Slot>, SpoolError> {
        let queue = self.queue().await;
        let queue =
            queue.map_err(|failure| SpoolError::new(SpoolErrorKind::Io, &failure.message))?;
        let (store, now) = (&*queue.store, self.clock.now());
        let ask = |holder: HolderId| store.slot(account, holder, at_most, now);
        self.as_holder(store, ask).await
    }

    /// Asks as this process. One that was silent for long is taken for dead, and joins anew.
    pub(super) async fn as_holder<'a, T>(
        &self,
        store: &'a dyn Store,
        ask: impl Fn(HolderId) -> BoxFuture<'a, Result<T, SpoolError>>,
    ) -> Result<T, SpoolError> {
        let known = self.holder.lock().await.clone();
        if let Some(holder) = &known {
            let answer = ask(holder.id()).await;
            let is_fenced = |error: &SpoolError| error.kind == SpoolErrorKind::Fenced;
            if !answer.as_ref().is_err_and(is_fenced) {
                return answer;
            }
        }
        let mut place = self.holder.lock().await;
        let dead = known.map(|holder| holder.id());
        let joined = match &*place {
            Some(holder) if Some(holder.id()) != dead => holder.clone(),
            _ => {
                let name = format!("pid {}", std::process::id());
                let joined = store.join(&name, self.clock.now()).await?;
                place.insert(joined).clone()
            }
        };
        drop(place);
        ask(joined.id()).await
    }

    /// Takes leave: nothing of this process is left among those at work.
    pub(in crate::app) async fn leave(&self) {
        let holder = self.holder.lock().await.take();
        if let (Some(holder), Some(queue)) = (holder, self.opened.get())
            && let Err(error) = queue.store.leave(holder.id()).await
        {
            // Others find that it has ended.
            tracing::debug!("the queue is left without a word: {error}");
        }
    }

    /// Gives signs of life for as long as there is something to hold.
    async fn keep_alive(desk: Weak<Self>) {
        loop {
            sleep(BEAT).await;
            let Some(desk) = desk.upgrade() else { return };
            let holder = desk
                .holder
                .lock()
                .await
                .as_ref()
                .map(postrider_spool::Holder::id);
            if let (Some(holder), Some(queue)) = (holder, desk.opened.get()) {
                // Whoever is taken for dead joins anew when it needs to.
                let _ = queue.store.heartbeat(holder, desk.clock.now()).await;
            }
        }
    }
}

/// A connection with its place.
struct Placed {
    stream: Box<dyn Stream>,
    _place: Option<Slot>,
}

impl Stream for Placed {
    fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer()
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
