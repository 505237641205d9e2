//! Memory with a queue that is long, and with messages that are large.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use postrider_smtp::TlsMode;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{
    Options, RECIPIENT, SENDER,
    daemon::Daemon,
    message_of, number, process,
    server::{Offer, Server},
    submit, wait_until,
};

const MANY: u64 = 100_000;
const LARGE: u64 = 50;
const LARGE_OCTETS: usize = 25_000_000;
const CONNECTIONS: usize = 3;

pub(crate) fn measure(options: &Options) -> Value {
    let server = Server::start(TlsMode::Implicit);
    server.offer(Offer::Chunking);
    let many = many(options, &server);
    let large = large(options, &server);
    json!({ "many": many, "large": large })
}

fn many(options: &Options, server: &Server) -> Value {
    let messages = options.count(MANY);
    server.shut(true);
    server.forget();
    let daemon = Daemon::start(&options.postrider, server, CONNECTIONS);
    let accepting = submit::to_postrider(&daemon.socket(), 10, messages);
    let full = mib(process::peak_kib(daemon.pid()));
    let began = Instant::now();
    server.shut(false);
    wait_until("the long queue is empty", || {
        server.taken().messages >= messages
    });
    let delivering = began.elapsed();
    // The last verdicts are written down.
    std::thread::sleep(Duration::from_secs(1));
    let peak = mib(process::peak_kib(daemon.pid()));
    let rates = [accepting, delivering].map(|took| number(messages) / took.as_secs_f64());
    options.say(&format!(
        "\n{messages} messages of 2 KB: at most {full:.1} MiB while they were accepted ({:.0} a second), \
         {peak:.1} MiB in all, delivered at {:.0} a second",
        rates[0], rates[1]
    ));
    json!({
        "messages": messages, "peak_accepting_mib": full, "peak_mib": peak,
        "accepted_per_second": rates[0], "delivered_per_second": rates[1],
    })
}

fn large(options: &Options, server: &Server) -> Value {
    let messages = if options.quick { 3 } else { LARGE };
    server.shut(true);
    server.forget();
    let mut letter = NamedTempFile::new().expect("a file");
    letter.write_all(&message_of(LARGE_OCTETS)).expect("room");
    let daemon = Daemon::start(&options.postrider, server, CONNECTIONS);
    let mut client = 0;
    let began = Instant::now();
    for _ in 0..messages {
        client = client.max(send(options, &daemon, letter.path()));
    }
    let accepting = began.elapsed().as_secs_f64();
    let full = mib(process::peak_kib(daemon.pid()));
    let began = Instant::now();
    server.shut(false);
    wait_until("the large messages are gone", || {
        server.taken().messages >= messages
    });
    let delivering = began.elapsed().as_secs_f64();
    let (peak, client) = (mib(process::peak_kib(daemon.pid())), mib(client));
    options.say(&format!(
        "{messages} messages of 25 MB by sendmail: at most {full:.1} MiB while they were accepted \
         ({accepting:.1} s), {peak:.1} MiB in all (delivered in {delivering:.1} s); sendmail itself \
         {client:.1} MiB"
    ));
    json!({
        "messages": messages, "octets": LARGE_OCTETS, "peak_accepting_mib": full, "peak_mib": peak,
        "sendmail_peak_mib": client, "accepting_seconds": accepting,
        "delivering_seconds": delivering,
    })
}

/// Hands one in; the memory that it took.
fn send(options: &Options, daemon: &Daemon, letter: &Path) -> u64 {
    let mut child = daemon
        .command(&options.postrider)
        .args(["sendmail", "-i", "-f", SENDER, RECIPIENT])
        .stdin(File::open(letter).expect("the message"))
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut peak = 0;
    loop {
        peak = peak.max(process::peak_kib(child.id()));
        if let Some(ended) = child.try_wait().expect("a child") {
            assert!(ended.success(), "sendmail: {ended}\n{}", daemon.log());
            return peak;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn mib(kib: u64) -> f64 {
    number(kib) / 1_024.0
}
