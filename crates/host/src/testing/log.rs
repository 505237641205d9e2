//! What a case logs and prints, kept to be shown if it fails.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines of one case; older ones go where it says more.
const LINES: usize = 1_000;
const LINE_OCTETS: usize = 2_000;

/// What is logged and printed. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    whole: Vec<String>,
    left_out: usize,
    begun: Vec<u8>,
}

impl Log {
    /// The lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.lock();
        let mut told = Vec::with_capacity(lines.whole.len() + 1);
        if lines.left_out > 0 {
            told.push(format!("… and before: {}", lines.left_out));
        }
        told.extend(lines.whole.iter().cloned());
        if !lines.begun.is_empty() {
            told.push(String::from_utf8_lossy(&lines.begun).into_owned());
        }
        told
    }

    /// Forgets them.
    pub(super) fn clear(&self) {
        *self.lock() = Lines::default();
    }

    /// Writes here what is logged on this thread, for as long as the answer lives.
    pub(super) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let filter = EnvFilter::new("warn,postrider::script=debug");
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(self.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut lines = self.lock();
        for octet in octets {
            if *octet == b'\n' {
                let line = std::mem::take(&mut lines.begun);
                lines
                    .whole
                    .push(String::from_utf8_lossy(&line).trim_end().to_owned());
            } else if lines.begun.len() < LINE_OCTETS {
                lines.begun.push(*octet);
            }
        }
        let over = lines.whole.len().saturating_sub(LINES);
        lines.whole.drain(..over);
        lines.left_out += over;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_are_whole_and_the_oldest_go_first() {
        let mut log = Log::default();
        write!(log, "a\nb").unwrap();
        assert_eq!(log.lines(), ["a", "b"]);
        for n in 0..LINES {
            writeln!(log, "{n}").unwrap();
        }
        let lines = log.lines();
        assert_eq!(lines[0], "… and before: 1");
        assert_eq!(lines[1], "b0");
        assert_eq!(lines.last().map(String::as_str), Some("999"));
    }
}
