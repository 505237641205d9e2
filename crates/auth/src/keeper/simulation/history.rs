//! What happened in a run, in order, as somebody sees it who sees everything.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::time::Time;
use crate::AuthErrorKind;
use crate::clock::Clock as _;

/// In every secret of a run, so that one search finds them all.
pub(super) const MARK: &str = "kAn4rY7Q3xVz";

/// One life of a process, from its start to its death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Life {
    pub(super) process: usize,
    pub(super) number: u32,
}

/// Which of two kinds of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Access,
    Refresh,
}

/// A token's octets: what it is can be read off it.
pub(super) fn token(kind: TokenKind, grant: usize, serial: u32) -> String {
    format!("{MARK}.{kind:?}.{grant}.{serial}")
}

/// The serial number in a token made by [`token`].
pub(super) fn serial(token: &str) -> u32 {
    let last = token.rsplit('.').next().unwrap_or_default();
    last.parse().expect("a token of this simulation")
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Started(Life),
    Died(Life),
    /// The wall clock was set by so many seconds.
    Jumped(i64),

    /// A token request leaves; `refresh` is the refresh token with it.
    Asked {
        request: u32,
        by: Life,
        grant: usize,
        refresh: Option<u32>,
    },
    /// The provider has made up its mind, whether or not anybody hears of it.
    Decided {
        request: u32,
        verdict: Verdict,
    },
    /// The client has the answer, or has done with waiting.
    Ended {
        request: u32,
        answered: bool,
    },

    /// A record is durable.
    Saved {
        by: Life,
        grant: usize,
        record: Seen,
    },
    /// A record could not be written.
    NotSaved {
        by: Life,
        grant: usize,
    },

    /// Somebody wants a token.
    Called {
        call: u32,
        by: Life,
        grant: usize,
    },
    Served {
        call: u32,
        access: u32,
        generation: u64,
        expires_at: SystemTime,
    },
    Failed {
        call: u32,
        kind: AuthErrorKind,
        retry_after: Option<Duration>,
    },
    /// The caller did not stay for the answer.
    Left {
        call: u32,
    },

    /// A server refused the token of this generation.
    Invalidated {
        by: Life,
        grant: usize,
        generation: u64,
    },
    /// A person signed in; these tokens are theirs.
    SignedIn {
        by: Life,
        grant: usize,
        access: u32,
        refresh: Option<u32>,
    },
    /// … and they are kept.
    Kept {
        grant: usize,
        refresh: Option<u32>,
    },
    /// How a grant stands when all is over.
    Ends {
        grant: usize,
        process: usize,
        state: &'static str,
    },
    /// A secret in the clear.
    Leaked {
        text: String,
    },
}

/// What a provider decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Tokens {
        access: u32,
        /// As sent; none: the one presented stays.
        refresh: Option<u32>,
        lifetime: Duration,
    },
    /// `invalid_grant` and the like: without a person there will be no more tokens.
    Over,
    /// Any other refusal, or nonsense.
    Failure,
}

/// A record in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) generation: u64,
    pub(super) access: Option<u32>,
    pub(super) refresh: Option<u32>,
    /// A request is about to be made, or was, and its outcome is not known.
    pub(super) intent: bool,
    /// Somebody has to sign in.
    pub(super) retired: bool,
}

/// One line of a history.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// True time since the beginning.
    pub(super) at: Duration,
    /// What the wall clock showed.
    pub(super) wall: SystemTime,
    pub(super) what: What,
}

/// All that happened so far.
pub(super) struct History {
    time: Arc<Time>,
    entries: Mutex<Vec<Entry>>,
}

impl History {
    pub(super) fn new(time: Arc<Time>) -> Self {
        Self {
            time,
            entries: Mutex::default(),
        }
    }

    pub(super) fn add(&self, what: What) {
        let entry = Entry {
            at: self.time.elapsed(),
            wall: self.time.now(),
            what,
        };
        self.entries.lock().unwrap().push(entry);
    }

    pub(super) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.entries.lock().unwrap())
    }
}
