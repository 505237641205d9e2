//! A submission server as delivery sees one, without a network: it answers as it was told to,
//! takes its time by the test's clock, and keeps a book.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use postrider_delivery::{Limits, Route, RouteFailure};
use postrider_schedule::{Clock as _, ManualClock};
use postrider_smtp::{
    Address, EnhancedStatus, Outgoing, Receipt, Reply, SendError, SendErrorKind, Source, Stage,
    Verdict,
};
use postrider_spool::Pace;
use tokio::sync::watch;

/// What the server does about a message, or about one recipient of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    /// `250 2.0.0 OK`.
    Yes,
    /// This reply to the message, or to `RCPT`.
    No(&'static str),
    /// The connection is lost before the message's last octet has left.
    LoseBefore,
    /// It takes the message, and its reply is lost.
    TakeAndLose,
    /// It does not take the message, and its reply is lost.
    DropAndLose,
    /// The body cannot be read.
    Unreadable,
}

/// One message that came to its end at the server.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Timestamp,
    pub(crate) message_id: String,
    /// Those for whom the server took it.
    pub(crate) recipients: Vec<String>,
    pub(crate) said: Say,
}

type Script = Box<dyn FnMut(&Outgoing) -> Say + Send>;
type PerRecipient = Box<dyn FnMut(&Outgoing, &str) -> Say + Send>;

pub(crate) struct Server {
    clock: ManualClock,
    limits: Mutex<Limits>,
    book: Mutex<Book>,
    /// Whether a token is to be had.
    token: watch::Sender<bool>,
}

struct Book {
    script: Script,
    per_recipient: PerRecipient,
    /// Why no session comes about, by name of the trouble.
    closed: Option<Closed>,
    /// How long a message takes.
    takes: Duration,
    /// How long a connection that fails takes to fail.
    fails_after: Duration,
    open: usize,
    most_open: usize,
    connections: u64,
    arrivals: Vec<Arrival>,
    /// Connections beyond these are turned away.
    room: usize,
    /// What a session ends after, unless it is drained first.
    session_messages: usize,
    /// How many a session asks for at once, a window at most.
    asks_for: usize,
    envelopes: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum Closed {
    Away,
    NoToken,
    Password,
    Busy,
}

impl Server {
    pub(crate) fn new(clock: &ManualClock) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            limits: Mutex::new(Limits {
                sessions: 3,
                window: 10,
                recipients_per_message: 500,
                pace: Pace::default(),
                linger: Duration::ZERO,
            }),
            book: Mutex::new(Book {
                script: Box::new(|_| Say::Yes),
                per_recipient: Box::new(|_, _| Say::Yes),
                closed: None,
                takes: Duration::from_secs(1),
                fails_after: Duration::from_secs(30),
                open: 0,
                most_open: 0,
                connections: 0,
                arrivals: Vec::new(),
                room: usize::MAX,
                session_messages: usize::MAX,
                asks_for: usize::MAX,
                envelopes: Vec::new(),
            }),
            token: watch::Sender::new(true),
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    pub(crate) fn limit(&self, change: impl FnOnce(&mut Limits)) {
        change(&mut self.limits.lock().unwrap());
    }

    /// Answers each message so.
    pub(crate) fn say(&self, script: impl FnMut(&Outgoing) -> Say + Send + 'static) {
        self.book().script = Box::new(script);
    }

    /// Answers messages so, in order, then takes everything.
    pub(crate) fn say_once(&self, answers: impl IntoIterator<Item = Say>) {
        let mut answers: VecDeque<Say> = answers.into_iter().collect();
        self.say(move |_| answers.pop_front().unwrap_or(Say::Yes));
    }

    /// Answers each `RCPT` so.
    pub(crate) fn say_to(&self, script: impl FnMut(&Outgoing, &str) -> Say + Send + 'static) {
        self.book().per_recipient = Box::new(script);
    }

    pub(crate) fn close(&self, why: Closed) {
        self.token.send_replace(!matches!(why, Closed::NoToken));
        self.book().closed = Some(why);
    }

    pub(crate) fn open(&self) {
        self.book().closed = None;
    }

    /// Somebody signed in.
    pub(crate) fn sign_in(&self) {
        self.open();
        self.token.send_replace(true);
    }

    /// Turns connections away beyond so many.
    pub(crate) fn has_room_for(&self, connections: usize) {
        self.book().room = connections;
    }

    pub(crate) fn takes(&self, span: Duration) {
        self.book().takes = span;
    }

    /// Ends each session after so many messages.
    pub(crate) fn ends_sessions_after(&self, messages: usize) {
        self.book().session_messages = messages;
    }

    pub(crate) fn asks_for(&self, messages: usize) {
        self.book().asks_for = messages;
    }

    pub(crate) fn connections(&self) -> u64 {
        self.book().connections
    }

    /// Connections that are open now.
    pub(crate) fn sessions(&self) -> usize {
        self.book().open
    }

    pub(crate) fn most_open(&self) -> usize {
        self.book().most_open
    }

    /// All that came, also what was refused.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.book().arrivals.clone()
    }

    /// Sizes of the envelopes that came.
    pub(crate) fn envelopes(&self) -> Vec<usize> {
        self.book().envelopes.clone()
    }

    /// What it took, in order.
    pub(crate) fn taken(&self) -> Vec<Arrival> {
        let taken = |arrival: &Arrival| !arrival.recipients.is_empty();
        self.arrivals().into_iter().filter(taken).collect()
    }

    /// The most messages that it saw in any 60 seconds.
    pub(crate) fn busiest_minute(&self) -> usize {
        let mut times: Vec<_> = self.arrivals().iter().map(|arrival| arrival.at).collect();
        times.sort_unstable();
        let minute = |first: usize| {
            let end = times[first] + Duration::from_mins(1);
            times[first..].iter().take_while(|at| **at < end).count()
        };
        (0..times.len()).map(minute).max().unwrap_or(0)
    }

    /// One message's dialogue; whether the connection is still there.
    async fn take(&self, outgoing: &Outgoing) -> (Result<Receipt, SendError>, bool) {
        let span = self.book().takes;
        self.clock.sleep(span).await;
        let mut book = self.book();
        let said = (book.script)(outgoing);
        let recipients = outgoing.envelope().recipients.clone();
        book.envelopes.push(recipients.len());
        let mut verdicts = Vec::new();
        let mut taken = Vec::new();
        let ok = reply("250 2.0.0 OK queued");
        for recipient in recipients {
            if let Say::No(line) = (book.per_recipient)(outgoing, recipient.as_ref()) {
                verdicts.push((recipient, refused(line)));
            } else {
                taken.push(recipient.to_string());
                verdicts.push((recipient, Verdict::Accepted(ok.clone())));
            }
        }
        let nobody = taken.is_empty();
        let has_it = matches!(said, Say::Yes | Say::TakeAndLose) && !nobody;
        book.arrivals.push(Arrival {
            at: self.clock.now(),
            message_id: outgoing.message_id().to_owned(),
            recipients: if has_it { taken } else { Vec::new() },
            said: said.clone(),
        });
        let refusals = |verdicts: Vec<(Address, Verdict)>| {
            let refused = |(_, verdict): &(_, Verdict)| !verdict.is_accepted();
            verdicts.into_iter().filter(refused).collect::<Vec<_>>()
        };
        let lost = || io::Error::from(io::ErrorKind::ConnectionReset);
        let kind = match said {
            Say::Yes if !nobody => {
                let receipt = Receipt {
                    message_id: outgoing.message_id().to_owned(),
                    recipients: verdicts,
                    reply: ok,
                };
                return (Ok(receipt), true);
            }
            Say::Yes => {
                let first = verdicts.first().and_then(|(_, verdict)| verdict.reply());
                SendErrorKind::Refused(first.cloned().unwrap_or(ok))
            }
            Say::No(line) => SendErrorKind::Refused(reply(line)),
            Say::LoseBefore => SendErrorKind::Lost(lost()),
            Say::TakeAndLose | Say::DropAndLose => SendErrorKind::Unknown("lost".to_owned()),
            Say::Unreadable => SendErrorKind::Body(lost()),
        };
        let stays = matches!(kind, SendErrorKind::Refused(_)) && !line_is_421(&kind);
        let mut error = error(Stage::Message, kind);
        error.recipients = refusals(verdicts);
        (Err(error), stays)
    }
}

fn line_is_421(kind: &SendErrorKind) -> bool {
    matches!(kind, SendErrorKind::Refused(reply) if reply.code == 421)
}

/// A session that is open, also when the future that holds it is dropped.
struct Open<'a>(&'a Server);

impl<'a> Open<'a> {
    fn new(server: &'a Server) -> Self {
        let mut book = server.book();
        book.open += 1;
        book.connections += 1;
        book.most_open = book.most_open.max(book.open);
        Self(server)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.book().open -= 1;
    }
}

impl Route for Server {
    fn limits(&self) -> Limits {
        *self.limits.lock().unwrap()
    }

    fn run<'a>(&'a self, source: &'a mut dyn Source) -> BoxFuture<'a, Result<(), RouteFailure>> {
        async move {
            let _open = Open::new(self);
            let closed = {
                let book = self.book();
                let full = (book.open > book.room).then_some(Closed::Away);
                book.closed.clone().or(full)
            };
            if let Some(closed) = closed {
                let wait = self.book().fails_after;
                self.clock.sleep(wait).await;
                return Err(match closed {
                    Closed::Away => {
                        let timeout = io::Error::from(io::ErrorKind::TimedOut);
                        error(Stage::Connect, SendErrorKind::Connect(timeout)).into()
                    }
                    Closed::Busy => RouteFailure::Busy("others have them".to_owned()),
                    Closed::NoToken => RouteFailure::Token("nobody has signed in".to_owned()),
                    Closed::Password => {
                        let auth = SendErrorKind::Auth {
                            reply: reply("535 5.7.139 Authentication unsuccessful, the user credentials were incorrect."),
                            mechanism: "LOGIN".to_owned(),
                            challenge: None,
                        };
                        error(Stage::Auth, auth).into()
                    }
                });
            }
            let most = self.book().session_messages;
            let window = self.limits().window.min(self.book().asks_for);
            let mut index = 0;
            let mut waiting: VecDeque<Outgoing> = VecDeque::new();
            let mut lost = false;
            for _ in 0..most {
                if waiting.is_empty() {
                    waiting.extend(source.next(window).await);
                }
                let Some(outgoing) = waiting.pop_front() else { break };
                let (outcome, stays) = self.take(&outgoing).await;
                source.ended(index, outcome);
                index += 1;
                if !stays {
                    lost = true;
                    break;
                }
            }
            // What was in flight behind the last one has not wholly left.
            for _ in waiting {
                let kind = if lost { SendErrorKind::Lost(io::Error::other("gone")) } else {
                    SendErrorKind::Refused(reply("421 4.4.1 Connection timed out."))
                };
                source.ended(index, Err(error(Stage::Message, kind)));
                index += 1;
            }
            Ok(())
        }
        .boxed()
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        let mut token = self.token.subscribe();
        async move {
            let _ = token.wait_for(|there| *there).await;
        }
        .boxed()
    }

    fn reporter(&self) -> Option<String> {
        Some("mail@contoso.com".to_owned())
    }
}

fn error(stage: Stage, kind: SendErrorKind) -> SendError {
    SendError {
        stage,
        server: "smtp.example.net:587".to_owned(),
        kind: Box::new(kind),
        recipients: Vec::new(),
    }
}

fn refused(line: &str) -> Verdict {
    let reply = reply(line);
    if reply.code < 500 {
        Verdict::Retry(reply)
    } else {
        Verdict::Rejected(reply)
    }
}

/// `550 5.1.1 No such user`.
fn reply(line: &str) -> Reply {
    let mut words = line.splitn(3, ' ');
    let code = words.next().unwrap().parse().unwrap();
    let status = words.next().unwrap();
    let numbers: Vec<u16> = status
        .split('.')
        .map(|number| number.parse().unwrap())
        .collect();
    Reply {
        code,
        enhanced: Some(EnhancedStatus {
            class: u8::try_from(numbers[0]).unwrap(),
            subject: numbers[1],
            detail: numbers[2],
        }),
        lines: vec![words.next().unwrap_or_default().to_owned()],
    }
}
