//! A whole session with the server half: any octets, cut anywhere, are served within limits,
//! and no message comes out whose end was not sent.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use postrider_smtp::server::{
    BodySink, BodyType, EnvelopeSoFar, Exchange, ExchangeEnd, Handler, Limits, MailCommand, Quirks,
    RcptCommand, ServerReply, Submission, TlsPolicy, serve,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const MESSAGE_OCTETS: usize = 300;
const RECIPIENTS: usize = 3;
/// Replies to one session: what 200 commands can ask for.
const SAID_OCTETS: usize = 200 * 200;

/// The first octet chooses quirks, the second how the input is cut, the rest is the client.
pub(crate) fn run(data: &[u8]) {
    let [switches, cut, input @ ..] = data else {
        return;
    };
    let switch = |bit: u8| switches & (1 << bit) != 0;
    let quirks = Quirks {
        bare_lf: switch(0),
        mail_from_space: switch(1),
        login_nul: switch(2),
        helo_only: switch(3),
        no_brackets: switch(5),
        any_sender: switch(6),
    };
    let desk = Desk {
        offers_binary: switch(4),
        ..Desk::default()
    };
    let (said, messages) = session(&desk, quirks, [input]);
    let again = session(&desk, quirks, input.chunks(usize::from(*cut).max(1)));
    assert_eq!(
        (&said, &messages),
        (&again.0, &again.1),
        "cut into pieces of {cut} it is served differently"
    );

    assert!(said.starts_with("220 ") && said.ends_with("\r\n"));
    assert!(said.len() <= SAID_OCTETS, "{} octets were said", said.len());
    for line in said.split_terminator("\r\n") {
        let (code, rest) = line.split_at(3);
        assert!(code.bytes().all(|b| b.is_ascii_digit()), "{line:?}");
        assert!(rest.starts_with([' ', '-']), "{line:?}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    assert!(
        messages.len() <= ends(input, quirks),
        "{} messages of {} ends",
        messages.len(),
        ends(input, quirks)
    );
    for message in &messages {
        message.check(&desk);
    }
}

/// How often a message could end: at most once for each end of data, and for each last chunk.
fn ends(input: &[u8], quirks: Quirks) -> usize {
    let count = |text: &[u8]| input.windows(text.len()).filter(|w| *w == text).count();
    let dots = if quirks.bare_lf {
        count(b"\n.\n") + count(b"\r\n.\r\n")
    } else {
        count(b"\r\n.\r\n")
    };
    let lasts = input.split(|b| *b == b'\n').filter(|line| {
        let line = line.to_ascii_uppercase();
        let line = line.trim_ascii_end();
        line.windows(5).any(|w| w == b"BDAT ") && line.ends_with(b" LAST")
    });
    dots + lasts.count()
}

fn session<'a>(
    desk: &Desk,
    quirks: Quirks,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (String, Vec<Message>) {
    let limits = Limits {
        line_octets: 200,
        auth_line_octets: 400,
        message_octets: MESSAGE_OCTETS,
        discard_octets: 500,
        recipients: RECIPIENTS,
        commands: 50,
        bad_commands: 20,
        ..Limits::default()
    };
    let said = Arc::default();
    let client = Client {
        pieces: pieces.into_iter().map(<[u8]>::to_vec).collect(),
        said: Arc::clone(&said),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime needs nothing of the system");
    let policy = TlsPolicy::DangerPlaintext;
    let serving = serve(client, None, policy, desk.clone(), limits, quirks);
    runtime
        .block_on(serving)
        .expect("such a client is no error");
    let said = std::mem::take(&mut *said.lock().expect("one thread"));
    let said = String::from_utf8(said).expect("replies are text");
    let messages = std::mem::take(&mut *desk.messages.lock().expect("one thread"));
    (said, messages)
}

/// A client that has sent everything already.
struct Client {
    pieces: VecDeque<Vec<u8>>,
    said: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.pieces.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut said = self.said.lock().expect("one thread");
        said.extend_from_slice(octets);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Takes everything.
#[derive(Clone, Default)]
struct Desk {
    offers_binary: bool,
    messages: Arc<Mutex<Vec<Message>>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Message {
    mail: MailCommand,
    recipients: Vec<RcptCommand>,
    body: Vec<u8>,
}

impl Message {
    fn check(&self, desk: &Desk) {
        assert!((1..=RECIPIENTS).contains(&self.recipients.len()));
        assert!(self.body.len() <= MESSAGE_OCTETS);
        let paths = self.recipients.iter().map(|rcpt| &rcpt.forward_path);
        for path in paths.chain([&self.mail.reverse_path]) {
            assert!(!path.contains(char::is_control), "{path:?}");
        }
        if self.mail.body == BodyType::BinaryMime {
            assert!(desk.offers_binary, "nobody offered that");
            return;
        }
        assert!(!self.body.contains(&0));
        for (at, octet) in self.body.iter().enumerate() {
            match octet {
                b'\r' => assert_eq!(self.body.get(at + 1), Some(&b'\n')),
                b'\n' => assert_eq!(self.body[..at].last(), Some(&b'\r')),
                _ => {}
            }
        }
    }
}

/// Keeps octets, and minds how they come.
#[derive(Default)]
struct Pile(Vec<u8>);

impl BodySink for Pile {
    async fn write(&mut self, octets: &[u8]) -> Result<(), ServerReply> {
        assert!(!octets.is_empty());
        self.0.extend_from_slice(octets);
        assert!(self.0.len() <= MESSAGE_OCTETS);
        Ok(())
    }
}

impl Handler for Desk {
    type Body = Pile;

    async fn greeting(&mut self) -> ServerReply {
        ServerReply::new(220, "mx.example ESMTP")
    }

    fn hello(&mut self, name: &str) -> String {
        format!("mx.example greets {name}")
    }

    fn capabilities(&mut self, _: bool) -> Vec<String> {
        let binary = self.offers_binary.then(|| "BINARYMIME".to_owned());
        binary.into_iter().collect()
    }

    async fn auth(
        &mut self,
        mechanism: &str,
        initial: Option<Vec<u8>>,
        exchange: &mut Exchange<'_>,
    ) -> Result<ServerReply, ExchangeEnd> {
        let answer = match initial {
            Some(answer) => answer,
            None => exchange.ask(b"?").await?,
        };
        assert!(mechanism != "LOGIN" || !answer.contains(&0));
        Ok(if answer.is_empty() {
            ServerReply::new(535, "5.7.8 no")
        } else {
            ServerReply::new(235, "2.7.0 yes")
        })
    }

    async fn mail(&mut self, _: &MailCommand) -> ServerReply {
        ServerReply::new(250, "2.1.0 sender")
    }

    async fn rcpt(&mut self, _: &RcptCommand) -> ServerReply {
        ServerReply::new(250, "2.1.5 recipient")
    }

    async fn body(&mut self, envelope: &EnvelopeSoFar<'_>) -> Result<Pile, ServerReply> {
        assert!(!envelope.recipients.is_empty());
        Ok(Pile::default())
    }

    async fn message(&mut self, submission: Submission<Pile>) -> ServerReply {
        let body = submission.body.0;
        assert_eq!(submission.octets, body.len() as u64);
        self.messages.lock().expect("one thread").push(Message {
            mail: submission.mail,
            recipients: submission.recipients,
            body,
        });
        ServerReply::new(250, "2.0.0 stored")
    }
}
