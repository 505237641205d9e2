//! A program's message, whole before it is handed in.
//!
//! A job's output may take hours to come (cron hands it on as it is written), and nobody is to be
//! kept waiting for it; and what is whole can be handed in again where an answer was lost. Beyond
//! [`IN_MEMORY`] octets it lies in an unnamed temporary file.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt as _};
use hyper::body::Bytes;

use super::dot::UntilDot;
use crate::failure::Failure;

/// What is held in memory of one message.
const IN_MEMORY: usize = 256 * 1024;
/// What is read at a time.
const CHUNK: usize = 64 * 1024;

/// One message, as the program wrote it.
#[derive(Clone, Debug)]
pub(crate) enum Gathered {
    /// A small one.
    Memory(Bytes),
    /// A large one: the file is read from its beginning, by one at a time.
    File(Arc<File>),
}

impl Gathered {
    /// Reads to the end, or to the line with a lone dot where that ends it. Blocks.
    ///
    /// # Errors
    /// `input` cannot be read, or a temporary file not be written; there is more than `limit`.
    pub(crate) fn from_reader(
        mut input: impl Read,
        dot_ends: bool,
        limit: u64,
    ) -> Result<Self, Failure> {
        let mut until_dot = UntilDot::new(dot_ends);
        let mut chunk = vec![0; CHUNK];
        let mut held = Vec::new();
        let mut file: Option<File> = None;
        let mut total = 0_u64;
        while !until_dot.has_ended() {
            let octets = match input.read(&mut chunk) {
                Ok(0) => break,
                Ok(octets) => octets,
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => continue,
                Err(problem) => {
                    return Err(Failure::new(
                        "io.input",
                        format!("the message cannot be read from standard input: {problem}"),
                    ));
                }
            };
            let before = held.len();
            until_dot.take(&chunk[..octets], &mut held);
            total += (held.len() - before) as u64;
            if total > limit {
                return Err(too_large(limit));
            }
            if held.len() > IN_MEMORY {
                let file = match &mut file {
                    Some(file) => file,
                    None => file.insert(tempfile::tempfile().map_err(unwritable)?),
                };
                file.write_all(&held).map_err(unwritable)?;
                held.clear();
            }
        }
        let Some(mut file) = file else {
            return Ok(Self::Memory(held.into()));
        };
        file.write_all(&held).map_err(unwritable)?;
        Ok(Self::File(Arc::new(file)))
    }

    /// How many octets.
    ///
    /// # Errors
    /// The temporary file cannot be asked.
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Memory(octets) => Ok(octets.len() as u64),
            Self::File(file) => file.metadata().map(|file| file.len()),
        }
    }

    /// Its octets from the beginning.
    pub(crate) fn octets(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        match self {
            Self::Memory(octets) => stream::iter([Ok(octets.clone())]).boxed(),
            Self::File(file) => {
                let file = Arc::clone(file);
                let start = Some(SeekFrom::Start(0));
                stream::try_unfold((file, start), async |(file, start)| {
                    let reading = tokio::task::spawn_blocking(move || {
                        let mut reader = &*file;
                        if let Some(start) = start {
                            reader.seek(start)?;
                        }
                        let mut chunk = Vec::with_capacity(CHUNK);
                        reader.take(CHUNK as u64).read_to_end(&mut chunk)?;
                        Ok::<_, io::Error>((Bytes::from(chunk), file))
                    });
                    let (chunk, file) = reading.await.map_err(io::Error::other)??;
                    Ok((!chunk.is_empty()).then_some((chunk, (file, None))))
                })
                .boxed()
            }
        }
    }
}

/// More than is taken.
pub(super) fn too_large(limit: u64) -> Failure {
    Failure::new(
        "message.too_large",
        format!("the message has more than {limit} octets"),
    )
    .with_remedy("send a link instead, or raise max_message under [queue]")
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn unwritable(problem: io::Error) -> Failure {
    Failure::new(
        "io.temporary",
        format!("a large message needs a temporary file, which cannot be written: {problem}"),
    )
    .with_remedy("make room, or set TMPDIR to a directory that has some")
    .retryable()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(gathered: &Gathered) -> Vec<u8> {
        let chunks: Vec<io::Result<Bytes>> = gathered.octets().collect().await;
        let chunks = chunks.into_iter().map(Result::unwrap);
        chunks.flat_map(|chunk| chunk.to_vec()).collect()
    }

    #[tokio::test]
    async fn a_message_can_be_read_again_and_again_whatever_its_length() {
        for length in [0, 1, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY + 7] {
            let message: Vec<u8> = (0..length)
                .map(|at| u8::try_from(at % 251).unwrap())
                .collect();
            let limit = length as u64;
            let gathered = Gathered::from_reader(&message[..], false, limit).unwrap();
            assert_eq!(
                matches!(gathered, Gathered::File(_)),
                length > IN_MEMORY,
                "{length}"
            );
            assert!(read(&gathered).await == message);
            assert!(read(&gathered).await == message);
            if length > 0 {
                let refused = Gathered::from_reader(&message[..], false, limit - 1);
                assert_eq!(refused.unwrap_err().code, "message.too_large");
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_read_behind_the_dot() {
        /// A program that goes on waiting, as a terminal does.
        struct Terminal(&'static [u8]);
        impl Read for Terminal {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                assert!(!self.0.is_empty(), "it would wait for ever");
                self.0.read(into)
            }
        }
        let gathered = Gathered::from_reader(Terminal(b"a\n.\n"), true, 10).unwrap();
        assert_eq!(read(&gathered).await, b"a\n");
    }
}
