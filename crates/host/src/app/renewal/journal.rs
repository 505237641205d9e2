//! How far a renewal has come, as the vault keeps it: written before each step that cannot be
//! taken back, and right after each that brought something.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use ring::digest::{SHA256, digest};
use secrecy::zeroize::{Zeroize as _, Zeroizing};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Which form this is.
const VERSION: u32 = 1;

/// What is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Renewable {
    /// A client secret, made by Entra ID.
    ClientSecret,
    /// A certificate and its private key, made here.
    Certificate,
}

impl Renewable {
    /// The setting that refers to it.
    pub fn setting(self) -> &'static str {
        match self {
            Self::ClientSecret => "client_secret",
            Self::Certificate => "certificate",
        }
    }
}

/// The last step that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Nothing is under way; what is known of the last time.
    Rest,
    /// A new one is about to be asked for, with the mark.
    Intended,
    /// It is here, and nobody has seen it work.
    Made,
    /// It works.
    Proved,
    /// It is the one in use; the one before still works.
    Switched,
    /// The new one is about to be given up.
    Reverting,
}

/// The new one.
#[derive(Clone)]
pub(super) struct New {
    /// Its id at Entra ID; a certificate has none before it is added.
    pub(super) key_id: Option<String>,
    /// What the vault is to hold.
    pub(super) value: SecretString,
    pub(super) ends: Timestamp,
}

/// The one before.
#[derive(Clone)]
pub(super) struct Old {
    /// Its id at Entra ID, where it could be told which it is.
    pub(super) key_id: Option<String>,
    pub(super) value: SecretString,
    pub(super) ends: Option<Timestamp>,
}

/// What is known of the one in use after a renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settled {
    pub(super) key_id: String,
    /// Of its value: whether the vault still holds the one this is about.
    digest: String,
}

impl Settled {
    pub(super) fn new(key_id: &str, value: &SecretString) -> Self {
        Self {
            key_id: key_id.to_owned(),
            digest: sha256(value),
        }
    }

    /// The id of `value`, if it is the one.
    pub(super) fn key_id_of(&self, value: &SecretString) -> Option<&str> {
        (self.digest == sha256(value)).then_some(&*self.key_id)
    }
}

fn sha256(value: &SecretString) -> String {
    use base64::Engine as _;
    let digest = digest(&SHA256, value.expose_secret().as_bytes());
    base64::prelude::BASE64_STANDARD.encode(digest)
}

/// The journal of one secret.
#[derive(Clone)]
pub(super) struct Journal {
    pub(super) phase: Phase,
    pub(super) what: Renewable,
    /// The display name of what is made at Entra ID: whoever lost its id finds it by this.
    pub(super) mark: String,
    pub(super) began: Timestamp,
    /// Until when the new one is asked for.
    pub(super) wanted_end: Timestamp,
    pub(super) overlap: SignedDuration,
    pub(super) old: Option<Old>,
    pub(super) new: Option<New>,
    /// From when the old one may be removed.
    pub(super) remove_after: Option<Timestamp>,
    /// Ids of what a broken-off attempt had left at Entra ID: noted before it is removed, so that
    /// it is mentioned whatever happens.
    pub(super) orphans: Vec<String>,
    /// Those of the time before: once more, for it may have ended before it mentioned them.
    pub(super) carried: Vec<String>,
    pub(super) settled: Option<Settled>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("phase", &self.phase)
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}

/// As it lies in its record.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    phase: Phase,
    what: Renewable,
    mark: String,
    began: Timestamp,
    wanted_end: Timestamp,
    overlap_seconds: i64,
    #[serde(default)]
    old: Option<StoredOne>,
    #[serde(default)]
    new: Option<StoredOne>,
    #[serde(default)]
    remove_after: Option<Timestamp>,
    #[serde(default)]
    orphans: Vec<String>,
    #[serde(default)]
    carried: Vec<String>,
    #[serde(default)]
    settled: Option<Settled>,
}

#[derive(Serialize, Deserialize)]
struct StoredOne {
    #[serde(default)]
    key_id: Option<String>,
    value: String,
    #[serde(default)]
    ends: Option<Timestamp>,
}

impl Drop for StoredOne {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl StoredOne {
    fn take(&mut self) -> SecretString {
        SecretString::from(std::mem::take(&mut self.value))
    }
}

impl Journal {
    pub(super) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let old = self.old.as_ref().map(|old| StoredOne {
            key_id: old.key_id.clone(),
            value: old.value.expose_secret().to_owned(),
            ends: old.ends,
        });
        let new = self.new.as_ref().map(|new| StoredOne {
            key_id: new.key_id.clone(),
            value: new.value.expose_secret().to_owned(),
            ends: Some(new.ends),
        });
        let values = [&old, &new].map(|one| one.as_ref().map_or(0, |one| one.value.len()));
        let stored = Stored {
            version: VERSION,
            phase: self.phase,
            what: self.what,
            mark: self.mark.clone(),
            began: self.began,
            wanted_end: self.wanted_end,
            overlap_seconds: self.overlap.as_secs(),
            old,
            new,
            remove_after: self.remove_after,
            orphans: self.orphans.clone(),
            carried: self.carried.clone(),
            settled: self.settled.clone(),
        };
        // Room for all of it, each octet escaped: a growing buffer leaves copies behind.
        let room = 6 * values.iter().sum::<usize>()
            + 64 * (self.orphans.len() + self.carried.len())
            + 2048;
        let mut text = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *text, &stored)
            .map_err(|problem| Failure::new("internal", problem.to_string()))?;
        Ok(text)
    }

    pub(super) fn decode(octets: &[u8]) -> Result<Self, Failure> {
        let malformed = || {
            Failure::new(
                "vault.malformed",
                "the journal of the renewal is none of this version's",
            )
            .with_remedy("use the version of postrider that wrote it, or a newer one")
        };
        // What serde says may quote what it read.
        let mut stored: Stored = serde_json::from_slice(octets).map_err(|_| malformed())?;
        if stored.version != VERSION {
            return Err(malformed());
        }
        let old = stored.old.as_mut().map(|old| Old {
            key_id: old.key_id.clone(),
            value: old.take(),
            ends: old.ends,
        });
        let new = match &mut stored.new {
            Some(new) => Some(New {
                key_id: new.key_id.clone(),
                value: new.take(),
                ends: new.ends.ok_or_else(malformed)?,
            }),
            None => None,
        };
        Ok(Self {
            phase: stored.phase,
            what: stored.what,
            mark: stored.mark,
            began: stored.began,
            wanted_end: stored.wanted_end,
            overlap: SignedDuration::from_secs(stored.overlap_seconds),
            old,
            new,
            remove_after: stored.remove_after,
            orphans: stored.orphans,
            carried: stored.carried,
            settled: stored.settled,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Journal {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        Journal {
            phase: Phase::Switched,
            what: Renewable::ClientSecret,
            mark: "postrider ops 3f2a".to_owned(),
            began: at("2026-11-23T06:00:00Z"),
            wanted_end: at("2027-05-22T06:00:00Z"),
            overlap: SignedDuration::from_hours(24),
            old: Some(Old {
                key_id: None,
                value: SecretString::from("old-canary\"\n"),
                ends: None,
            }),
            new: Some(New {
                key_id: Some("k2".to_owned()),
                value: SecretString::from("new-canary"),
                ends: at("2027-05-22T06:00:00Z"),
            }),
            remove_after: Some(at("2026-11-24T06:00:00Z")),
            orphans: vec!["k1".to_owned()],
            carried: vec!["k9".to_owned()],
            settled: Some(Settled::new("k0", &SecretString::from("older"))),
        }
    }

    #[test]
    fn a_journal_is_read_as_it_was_written_and_shows_no_secret() {
        let written = journal();
        let read = Journal::decode(&written.encode().unwrap()).unwrap();

        assert_eq!(read.encode().unwrap(), written.encode().unwrap());
        assert_eq!(
            read.old.as_ref().unwrap().value.expose_secret(),
            "old-canary\"\n"
        );
        assert!(!format!("{read:?}").contains("canary"));
    }

    #[test]
    fn what_is_no_journal_is_refused_without_quoting_it() {
        let text = String::from_utf8(journal().encode().unwrap().to_vec()).unwrap();
        let newer = text.replace("\"version\":1", "\"version\":2");
        for octets in [&newer[..], "new-canary", "{\"version\":\"new-canary\"}"] {
            let failure = Journal::decode(octets.as_bytes()).unwrap_err();
            assert_eq!(failure.code, "vault.malformed");
            assert!(!format!("{failure:?}").contains("canary"));
        }
    }

    #[test]
    fn what_was_settled_is_told_by_its_value() {
        let settled = Settled::new("k1", &SecretString::from("a"));
        assert_eq!(settled.key_id_of(&SecretString::from("a")), Some("k1"));
        assert_eq!(settled.key_id_of(&SecretString::from("b")), None);
    }
}
