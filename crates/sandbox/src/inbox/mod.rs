//! The inbox: every accepted message, kept to be looked at.
//!
//! A message is kept as it was submitted, octet for octet; what a mail server would add
//! (Return-Path, Received) is kept beside it and written before it into the `.eml` files,
//! one per recipient mailbox. Files are for the owner alone: 0600 in directories 0700.
//!
//! Memory is bounded: beyond [`KEPT_OCTETS`] the oldest messages leave the index; their
//! files stay.

mod page;
mod view;

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use postrider_smtp::server::Submission;
use tokio::sync::watch;

pub use page::router;
pub(crate) use view::Origin;
pub use view::{Attachment, Summary, View};

/// Octets of messages kept in memory.
pub const KEPT_OCTETS: usize = 512 * 1024 * 1024;

/// The messages that arrived; a cheap handle.
#[derive(Clone, Debug)]
pub struct Inbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: Option<PathBuf>,
    kept: Mutex<Kept>,
    /// Messages arrived since the start or the last [`Inbox::clear`].
    arrived: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    messages: VecDeque<Arc<StoredMessage>>,
    octets: usize,
    numbered: u64,
}

/// What is handed to the inbox.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// When it was accepted.
    pub received: Timestamp,
    /// The mailbox that authenticated; its Sent Items hold the message too.
    pub submitted_by: String,
    /// The id the accepting reply named, with its brackets.
    pub message_id: String,
    /// Header lines a server adds, each with its CRLF.
    pub trace: String,
    /// Envelope and octets.
    pub submission: Submission,
}

/// One message that arrived.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Counts up from 1.
    pub number: u64,
    /// What was delivered.
    pub delivery: Delivery,
    /// What a list shows.
    pub summary: Summary,
    /// The `.eml` files, one per recipient mailbox; none when the inbox has no directory.
    pub files: Vec<PathBuf>,
}

impl StoredMessage {
    /// The message exactly as it was submitted.
    pub fn octets(&self) -> &[u8] {
        &self.delivery.submission.body
    }

    /// The recipients' addresses, as `RCPT` named them.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        let recipients = &self.delivery.submission.recipients;
        recipients.iter().map(|rcpt| rcpt.forward_path.as_str())
    }

    /// The content of the `.eml` files: the trace, then the message.
    pub fn eml(&self) -> Vec<u8> {
        [self.delivery.trace.as_bytes(), self.octets()].concat()
    }
}

impl Inbox {
    /// An empty inbox that keeps `.eml` files under `dir`, or in memory alone.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(dir: Option<PathBuf>) -> io::Result<Self> {
        if let Some(dir) = &dir {
            make_private_dir(dir)?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                dir,
                kept: Mutex::default(),
                arrived: watch::Sender::new(0),
            }),
        })
    }

    /// Keeps a message. Once this returns, it is in its files and in the index.
    ///
    /// # Errors
    /// A file cannot be written; the message is then not kept.
    pub async fn deliver(&self, delivery: Delivery) -> io::Result<Arc<StoredMessage>> {
        let inbox = self.clone();
        tokio::task::spawn_blocking(move || inbox.store(delivery))
            .await
            .map_err(|_| io::Error::other("the task that stores a message stopped"))?
    }

    /// All messages, oldest first.
    pub fn messages(&self) -> Vec<Arc<StoredMessage>> {
        self.kept().messages.iter().cloned().collect()
    }

    /// The message with this number.
    pub fn message(&self, number: u64) -> Option<Arc<StoredMessage>> {
        let kept = self.kept();
        kept.messages
            .iter()
            .find(|message| message.number == number)
            .cloned()
    }

    /// Waits until at least `count` messages arrived since the start or the last
    /// [`Inbox::clear`], and returns all there are.
    pub async fn wait_for(&self, count: u64) -> Vec<Arc<StoredMessage>> {
        let mut arrived = self.inner.arrived.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = arrived.wait_for(|arrived| *arrived >= count).await;
        self.messages()
    }

    /// Forgets every message. Their files stay, and numbers go on counting.
    pub fn clear(&self) {
        let mut kept = self.kept();
        kept.messages.clear();
        kept.octets = 0;
        self.inner.arrived.send_replace(0);
    }

    fn store(&self, delivery: Delivery) -> io::Result<Arc<StoredMessage>> {
        let number = {
            let mut kept = self.kept();
            kept.numbered += 1;
            kept.numbered
        };
        let mut message = StoredMessage {
            number,
            summary: Summary::of(&delivery.submission.body),
            delivery,
            files: Vec::new(),
        };
        if let Some(dir) = &self.inner.dir {
            message.files = write_files(dir, &message)?;
        }
        let message = Arc::new(message);
        let mut kept = self.kept();
        kept.octets += message.octets().len();
        kept.messages.push_back(Arc::clone(&message));
        while kept.octets > KEPT_OCTETS && kept.messages.len() > 1 {
            let oldest = kept.messages.pop_front();
            kept.octets -= oldest.map_or(0, |oldest| oldest.octets().len());
        }
        self.inner.arrived.send_modify(|arrived| *arrived += 1);
        Ok(message)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.inner
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One file per recipient mailbox; all but the first are links to it where links work.
fn write_files(dir: &Path, message: &StoredMessage) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for recipient in message.recipients() {
        let mailbox = dir.join(file_name(recipient));
        let path = mailbox.join(format!("{:06}.eml", message.number));
        if files.contains(&path) {
            continue;
        }
        make_private_dir(&mailbox)?;
        // A former run may have left a file of this name; its inode may be shared.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let linked = files
            .first()
            .is_some_and(|first| fs::hard_link(first, &path).is_ok());
        if !linked {
            let mut file = private_file().create_new(true).open(&path)?;
            file.write_all(message.delivery.trace.as_bytes())?;
            file.write_all(message.octets())?;
        }
        files.push(path);
    }
    Ok(files)
}

/// The address as a directory name: lower case, harmless characters, bounded.
fn file_name(address: &str) -> String {
    let safe = |c: char| match c {
        'a'..='z' | '0'..='9' | '@' | '.' | '-' | '_' | '+' => c,
        _ => '_',
    };
    let name: String = address.to_lowercase().chars().take(100).map(safe).collect();
    match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => name,
    }
}

#[cfg(unix)]
fn make_private_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(dir)
}

#[cfg(unix)]
fn private_file() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

#[cfg(not(unix))]
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    options
}

#[cfg(test)]
pub(crate) mod tests {
    use postrider_smtp::server::{MailCommand, RcptCommand};

    use super::*;

    /// A delivery of these octets.
    pub(crate) fn delivery(recipients: &[&str], octets: &[u8]) -> Delivery {
        let rcpt = |address: &&str| RcptCommand {
            forward_path: (*address).to_owned(),
            ..RcptCommand::default()
        };
        Delivery {
            received: Timestamp::from_second(1_767_225_600).unwrap(),
            submitted_by: "svc-mail@contoso.com".to_owned(),
            message_id: "<1@contoso.com>".to_owned(),
            trace: "Return-Path: <svc-mail@contoso.com>\r\n".to_owned(),
            submission: Submission {
                mail: MailCommand {
                    reverse_path: "svc-mail@contoso.com".to_owned(),
                    ..MailCommand::default()
                },
                recipients: recipients.iter().map(rcpt).collect(),
                body: octets.to_vec(),
                octets: octets.len() as u64,
                chunked: true,
            },
        }
    }

    #[tokio::test]
    async fn each_mailbox_gets_a_private_file_with_every_octet() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::new(Some(dir.path().join("mail"))).unwrap();
        let octets = b"Subject: x\r\n\r\n.\xff\n\0";
        let stored = inbox
            .deliver(delivery(
                &["a@contoso.com", "../../B@x", "A@contoso.com"],
                octets,
            ))
            .await
            .unwrap();

        assert_eq!(stored.octets(), octets);
        let names: Vec<_> = stored
            .files
            .iter()
            .map(|f| f.strip_prefix(dir.path()).unwrap().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                Path::new("mail/a@contoso.com/000001.eml"),
                Path::new("mail/_._.._b@x/000001.eml")
            ]
        );
        for file in &stored.files {
            let wanted = [
                b"Return-Path: <svc-mail@contoso.com>\r\n".as_slice(),
                octets,
            ]
            .concat();
            assert_eq!(fs::read(file).unwrap(), wanted);
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
                assert_eq!((mode(file), mode(file.parent().unwrap())), (0o600, 0o700));
            }
        }
    }

    #[tokio::test]
    async fn waiting_ends_with_the_message_it_waits_for() {
        let inbox = Inbox::new(None).unwrap();
        let waiting = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.wait_for(2).await.len() }
        });
        inbox.deliver(delivery(&["a@b"], b"1")).await.unwrap();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        inbox.deliver(delivery(&["a@b"], b"2")).await.unwrap();
        assert_eq!(waiting.await.unwrap(), 2);

        inbox.clear();
        assert!(inbox.wait_for(0).await.is_empty());
        let third = inbox.deliver(delivery(&["a@b"], b"3")).await.unwrap();
        assert_eq!(third.number, 3, "numbers are not used twice");
    }
}
