//! Who listens to everything that a run says, for secrets.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;

use super::history::MARK;

/// Hears logs at trace level, and what [`Listener::hear`] is told.
#[derive(Clone, Default)]
pub(super) struct Listener {
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Listener {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .without_time()
            .with_writer(self.clone())
            .finish()
    }

    /// Something that could be printed.
    pub(super) fn hear(&self, text: &str) {
        let mut heard = self.heard.lock().unwrap();
        heard.extend_from_slice(text.as_bytes());
        heard.push(b'\n');
    }

    /// The lines with a secret in them: plain, in base64 or in hex.
    pub(super) fn leaks(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let heard = String::from_utf8_lossy(&heard);
        let disguises = disguises(MARK);
        let leaking = |line: &&str| disguises.iter().any(|disguise| line.contains(disguise));
        heard.lines().filter(leaking).map(str::to_owned).collect()
    }
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, octet| {
        let _ = write!(hex, "{octet:02x}");
        hex
    })
}

/// What to look for, to find `mark` inside of something encoded.
fn disguises(mark: &str) -> Vec<String> {
    let hex = hex(mark);
    let mut disguises = vec![mark.to_owned(), hex.to_uppercase(), hex];
    // Base64 shifts with what comes before; its ends depend on the neighbours.
    for before in 0..3 {
        let encoded = STANDARD_NO_PAD.encode(format!("{}{mark}", "x".repeat(before)));
        disguises.push(encoded[[0, 2, 3][before]..encoded.len() - 2].to_owned());
    }
    disguises
}

impl<'a> MakeWriter<'a> for Listener {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Listener {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.heard.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_disguise() {
        let secret = format!("tail.{MARK}.Refresh.1.2");
        let hex = hex(&secret);
        let mut said = vec![secret.clone(), hex.to_uppercase(), hex];
        for before in 0..3 {
            said.push(STANDARD_NO_PAD.encode(format!("{}{secret}", "-".repeat(before))));
        }
        for said in said {
            let listener = Listener::new();
            listener.hear("nothing of note");
            listener.hear(&said);
            assert_eq!(listener.leaks(), [said]);
        }
    }

    #[test]
    fn logs_are_heard_at_trace_level() {
        let listener = Listener::new();
        tracing::subscriber::with_default(listener.subscriber(), || {
            tracing::trace!(token = MARK, "obtained");
        });
        assert_eq!(listener.leaks().len(), 1);
    }
}
