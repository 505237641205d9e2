//! From what somebody wants to say to octets that may go on the wire.
//!
//! A [`Draft`] holds a script's words as they came; [`Draft::build`] checks each and names the
//! field of the first that is wrong. Built with `lettre`, so text is encoded as its content
//! asks: nothing here needs `8BITMIME`, and no line comes near 998 octets. [`from_rfc5322`]
//! takes a finished message instead. Where that has to be completed, or must not stay as it is, an
//! [`Intake`] takes it as it comes, in little memory, and gives its [`Header`] to be edited.

mod address_list;
mod attachment;
mod author;
mod draft;
mod fields;
mod header;
mod intake;
mod raw;

use std::{fmt, path::PathBuf, time::SystemTime};

pub use address_list::{address, addresses, written};
pub use author::replace_author;
pub use header::{Field, Header};
pub use intake::{HeaderTooLong, Intake, MAX_HEADER_OCTETS};
pub use raw::from_rfc5322;

/// A message to be built, in the words of whoever wants it sent.
///
/// An address is `user@example.org` or `Name <user@example.org>`.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The author.
    pub from: String,
    /// Who really sends it, where that is somebody else ("on behalf of").
    pub sender: Option<String>,
    /// Where answers go, if not to the author.
    pub reply_to: Vec<String>,
    /// Recipients, named in the message.
    pub to: Vec<String>,
    /// More of them.
    pub cc: Vec<String>,
    /// Recipients that the message does not name.
    pub bcc: Vec<String>,
    /// The subject; may be empty.
    pub subject: String,
    /// The body as plain text.
    pub text: Option<String>,
    /// The body as HTML; with `text` too, the reader's program chooses.
    pub html: Option<String>,
    /// Files, and images the HTML refers to.
    pub attachments: Vec<Attachment>,
    /// Further header fields: name and value, not yet encoded.
    pub headers: Vec<(String, String)>,
    /// The `Message-ID` this answers.
    pub in_reply_to: Option<String>,
    /// The `Message-ID`s of the thread, oldest first.
    pub references: Vec<String>,
    /// How urgent it looks.
    pub priority: Option<Priority>,
    /// The `Message-ID`, where the caller has made one.
    pub message_id: Option<String>,
    /// The date, if not now.
    pub date: Option<SystemTime>,
    /// Where failures go, if not to `sender` or `from`.
    pub reverse_path: Option<String>,
    /// How large it may get.
    pub limits: Limits,
}

/// How urgent a message looks: `X-Priority`, with `Importance` for Outlook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Shown with an exclamation mark.
    High,
    /// As if not said.
    Normal,
    /// May be left for later.
    Low,
}

/// A file that goes along.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Where its octets are.
    pub source: Source,
    /// Its name for the reader; the path's last part if not given.
    pub name: Option<String>,
    /// Its MIME type; guessed from the name if not given.
    pub mime_type: Option<String>,
    /// Makes it part of the HTML, which shows it as `cid:…`.
    pub content_id: Option<String>,
}

/// Where an attachment's octets are.
#[derive(Clone)]
pub enum Source {
    /// In this file, read when the message is built.
    Path(PathBuf),
    /// Here.
    Bytes(Vec<u8>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Bytes(octets) => write!(f, "Bytes({} octets)", octets.len()),
        }
    }
}

/// How large a message may get before it is refused here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Recipients of one message; Exchange Online allows at most 1,000.
    pub recipients: usize,
    /// The built message, attachments encoded; Exchange Online takes no more.
    pub message_octets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            recipients: 1_000,
            message_octets: 157_286_400,
        }
    }
}

/// Why a message cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageError {
    /// The field, as the caller wrote it: `subject`, `to[2]`, `attachments[1].name`.
    pub field: String,
    /// What is wrong with it: one lower-case line.
    pub message: String,
}

impl MessageError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for MessageError {}
