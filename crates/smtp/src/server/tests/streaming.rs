//! Bodies that pass through: back-pressure, memory, and refusals on the way.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;

/// What a sink does with octets, shared with the test that watches it.
#[derive(Clone)]
struct Drain(Arc<State>);

struct State {
    taken: AtomicUsize,
    largest: AtomicUsize,
    /// Sinks that were dropped before their message was whole.
    dropped: AtomicUsize,
    whole: AtomicUsize,
    /// A permit lets one write pass.
    gate: Semaphore,
    /// Refuses the write that goes beyond so many octets.
    refuses_beyond: usize,
    refuses_at_once: bool,
    /// How long each write takes.
    takes: Duration,
}

impl Drain {
    fn new(set: impl FnOnce(&mut State)) -> Self {
        let mut state = State {
            taken: AtomicUsize::new(0),
            largest: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
            whole: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            refuses_beyond: usize::MAX,
            refuses_at_once: false,
            takes: Duration::ZERO,
        };
        set(&mut state);
        Self(Arc::new(state))
    }

    fn count(&self, of: impl Fn(&State) -> &AtomicUsize) -> usize {
        of(&self.0).load(Ordering::SeqCst)
    }

    fn serve(
        &self,
        stream: DuplexStream,
        limits: Limits,
    ) -> tokio::task::JoinHandle<std::io::Result<()>> {
        let (policy, quirks) = (TlsPolicy::DangerPlaintext, Quirks::default());
        tokio::spawn(serve(stream, None, policy, self.clone(), limits, quirks))
    }

    /// The codes in answer to all of `input`.
    async fn codes(&self, limits: Limits, input: &[u8]) -> Vec<u16> {
        let (client, server) = duplex(64 * 1024);
        let serving = self.serve(server, limits);
        let (mut reading, mut writing) = tokio::io::split(client);
        let input = input.to_vec();
        let writing = tokio::spawn(async move {
            // The server may close before all of it is written.
            let _ = writing.write_all(&input).await;
            let _ = writing.shutdown().await;
        });
        let mut said = String::new();
        reading.read_to_string(&mut said).await.unwrap();
        drop(reading);
        writing.await.unwrap();
        serving.await.unwrap().unwrap();
        codes(&said)
    }
}

/// One message on its way.
struct Pipe(Arc<State>);

impl BodySink for Pipe {
    async fn write(&mut self, octets: &[u8]) -> Result<(), ServerReply> {
        assert!(!octets.is_empty());
        self.0.gate.acquire().await.unwrap().forget();
        tokio::time::sleep(self.0.takes).await;
        self.0.largest.fetch_max(octets.len(), Ordering::SeqCst);
        let before = self.0.taken.fetch_add(octets.len(), Ordering::SeqCst);
        if before + octets.len() > self.0.refuses_beyond {
            return Err(ServerReply::new(451, "4.3.1 full"));
        }
        Ok(())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handler for Drain {
    type Body = Pipe;

    async fn greeting(&mut self) -> ServerReply {
        ServerReply::new(220, "mx.example ESMTP")
    }

    fn hello(&mut self, _: &str) -> String {
        "mx.example".to_owned()
    }

    fn capabilities(&mut self, _: bool) -> Vec<String> {
        Vec::new()
    }

    async fn auth(
        &mut self,
        _: &str,
        _: Option<Vec<u8>>,
        _: &mut Exchange<'_>,
    ) -> Result<ServerReply, ExchangeEnd> {
        Ok(ServerReply::new(235, "2.7.0 yes"))
    }

    async fn mail(&mut self, _: &MailCommand) -> ServerReply {
        ServerReply::new(250, "2.1.0 sender")
    }

    async fn rcpt(&mut self, _: &RcptCommand) -> ServerReply {
        ServerReply::new(250, "2.1.5 recipient")
    }

    async fn body(&mut self, envelope: &EnvelopeSoFar<'_>) -> Result<Pipe, ServerReply> {
        assert_eq!(envelope.mail.reverse_path, "a@b");
        assert_eq!(envelope.recipients[0].forward_path, "c@d");
        if self.0.refuses_at_once {
            return Err(ServerReply::new(452, "4.3.1 no room"));
        }
        Ok(Pipe(Arc::clone(&self.0)))
    }

    async fn message(&mut self, submission: Submission<Pipe>) -> ServerReply {
        assert_eq!(
            submission.octets,
            self.count(|state| &state.taken) as u64,
            "what the sink took is what is counted"
        );
        self.0.whole.fetch_add(1, Ordering::SeqCst);
        ServerReply::new(250, "2.0.0 stored")
    }
}

fn lines(octets: usize) -> Vec<u8> {
    let line = [b"x".repeat(62), b"\r\n".to_vec()].concat();
    line.repeat(octets / line.len())
}

fn by_data(body: &[u8]) -> Vec<u8> {
    [OPEN.as_bytes(), b"DATA\r\n", body, b".\r\nNOOP\r\n"].concat()
}

fn by_bdat(body: &[u8]) -> Vec<u8> {
    let size = format!("BDAT {} LAST\r\n", body.len());
    [OPEN.as_bytes(), size.as_bytes(), body, b"NOOP\r\n"].concat()
}

#[tokio::test(start_paused = true)]
async fn a_large_message_passes_through_in_small_pieces() {
    let body = lines(8 << 20);
    for (input, wanted) in [
        (by_data(&body), &[354, 250, 250][..]),
        (by_bdat(&body), &[250, 250]),
    ] {
        let drain = Drain::new(|_| {});
        assert_eq!(drain.codes(Limits::default(), &input).await[4..], *wanted);
        assert_eq!(drain.count(|state| &state.taken), body.len());
        assert!(drain.count(|state| &state.largest) <= 64 * 1024);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_stops_stops_the_client() {
    // Octets that leave the client but not the sink are what a connection costs.
    for head in ["DATA\r\n", "BDAT 8388608 LAST\r\n"] {
        let drain = Drain::new(|state| state.gate = Semaphore::new(3));
        let (mut client, server) = duplex(1024);
        let serving = drain.serve(server, Limits::default());
        client.write_all(OPEN.as_bytes()).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        let (_reading, mut writing) = tokio::io::split(client);
        let mut sent = 0;
        let line = lines(64);
        while tokio::time::timeout(Duration::from_secs(1), writing.write_all(&line))
            .await
            .is_ok()
        {
            sent += line.len();
            tokio::task::yield_now().await;
        }
        let held = sent - drain.count(|state| &state.taken);
        assert!(held <= 40 * 1024, "{held} octets are held");
        serving.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_is_not_the_clients_fault() {
    let drain = Drain::new(|state| state.takes = Duration::from_mins(20));
    let body = lines(256 * 1024);
    assert_eq!(
        drain.codes(Limits::default(), &by_data(&body)).await[4..],
        [354, 250, 250]
    );
}

#[tokio::test(start_paused = true)]
async fn a_sinks_refusal_is_heard_behind_the_message_and_the_session_lives() {
    let body = lines(200_000);
    let chunks = [
        OPEN.as_bytes(),
        b"BDAT 100000\r\n",
        &lines(100_000)[..],
        &b"x".repeat(100_000 - lines(100_000).len()),
        b"BDAT 4\r\nQUITBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
    ]
    .concat();
    for (input, wanted) in [
        (by_data(&body), &[354, 451, 250][..]),
        (by_bdat(&body), &[451, 250]),
        (chunks, &[451, 503, 503, 250]),
    ] {
        let drain = Drain::new(|state| state.refuses_beyond = 50_000);
        assert_eq!(drain.codes(Limits::default(), &input).await[4..], *wanted);
        assert_eq!(drain.count(|state| &state.dropped), 1);
        assert_eq!(drain.count(|state| &state.whole), 0);
        assert!(
            drain.count(|state| &state.taken) <= 50_000 + 64 * 1024,
            "nothing more reaches the sink"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_thrown_away_is_bounded_and_the_reason_is_still_said() {
    let limits = || Limits {
        discard_octets: 100_000,
        ..Limits::default()
    };
    let body = lines(1 << 20);
    let nul = [b"\0", &body[..]].concat();
    for (refuses_beyond, body, reason) in [(10_000, &body, 451), (usize::MAX, &nul, 550)] {
        for (input, wanted) in [
            (by_data(body), &[354, reason][..]),
            (by_bdat(body), &[reason]),
        ] {
            let drain = Drain::new(|state| state.refuses_beyond = refuses_beyond);
            assert_eq!(drain.codes(limits(), &input).await[4..], *wanted);
            assert_eq!(drain.count(|state| &state.whole), 0);
        }
    }
    // Message by message, too.
    let drain = Drain::new(|state| state.refuses_beyond = 0);
    let said = drain
        .codes(limits(), &by_data(&lines(40_000)).repeat(4))
        .await;
    let refused = said.iter().filter(|code| **code == 451).count();
    assert!((2..5).contains(&refused), "{said:?}");
    assert_eq!(
        said.last(),
        Some(&451),
        "the last is one too many: {said:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_without_room_is_refused_before_it_is_sent() {
    for (input, wanted) in [
        ("DATA\r\nRSET\r\nNOOP\r\n", &[452, 250, 250][..]),
        (
            "BDAT 4\r\nQUITBDAT 4 LAST\r\nQUITNOOP\r\n",
            &[452, 503, 250],
        ),
    ] {
        let drain = Drain::new(|state| state.refuses_at_once = true);
        let input = format!("{OPEN}{input}");
        assert_eq!(
            drain.codes(Limits::default(), input.as_bytes()).await[4..],
            *wanted
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_arrive_whole_is_dropped() {
    for input in [
        "DATA\r\nhalf\r\n",
        "DATA\r\nhalf\r\n.",
        "DATA\r\nhalf\r\n.\r",
        "BDAT 6\r\nhalf\r\n",
        "BDAT 10 LAST\r\nhalf\r\n",
        "BDAT 6\r\nhalf\r\nRSET\r\n",
        "BDAT 6\r\nhalf\r\nEHLO b\r\n",
        "BDAT 6\r\nhalf\r\nQUIT\r\n",
    ] {
        let drain = Drain::new(|_| {});
        let input = format!("{OPEN}{input}");
        drain.codes(Limits::default(), input.as_bytes()).await;
        assert_eq!(drain.count(|state| &state.whole), 0, "{input:?}");
        assert_eq!(drain.count(|state| &state.dropped), 1, "{input:?}");
    }
}
