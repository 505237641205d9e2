//! The ledger's rows, added up by device.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::ByDevice;
use crate::ledger::{DomainRow, Outcome, Sums, TrafficRow};

/// Accepted messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Messages.
    pub messages: u64,
    /// Their recipients.
    pub recipients: u64,
    /// Their octets.
    pub octets: u64,
}

/// Accepted messages, by calendar days in UTC that end with today.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Volumes {
    /// Today.
    pub last_day: Volume,
    /// Today and six days before.
    pub last_7_days: Volume,
    /// Today and 29 days before.
    pub last_30_days: Volume,
    /// As long as the ledger remembers.
    pub all: Volume,
}

/// How often something was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// What: an address.
    pub value: String,
    /// How often. Of senders: messages.
    pub count: u64,
    /// The last time.
    pub last_at: Timestamp,
}

/// Mail to one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecipientDomain {
    /// The domain.
    pub domain: String,
    /// Messages with a recipient there.
    pub messages: u64,
    /// Recipients there.
    pub recipients: u64,
}

/// A way of signing in, and how often a message came by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthUsed {
    /// `PLAIN` or `LOGIN`.
    pub mechanism: String,
    /// The protocol's version; `None` in clear.
    pub tls: Option<String>,
    /// Messages.
    pub messages: u64,
}

/// A refusal, and how often it was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Reply code and enhanced status.
    pub reply: String,
    /// The text, the last time.
    pub text: String,
    /// How often.
    pub count: u64,
    /// The last time.
    pub last_at: Timestamp,
}

/// How often, and when.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) count: u64,
    pub(super) first_at: Timestamp,
    pub(super) last_at: Timestamp,
    /// What was said the last time.
    pub(super) text: String,
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) at: Timestamp,
    pub(super) reply: String,
    pub(super) text: String,
}

/// One device. What has no time of its own is of the days that the report looks at.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) first_at: Option<Timestamp>,
    pub(super) last_at: Option<Timestamp>,
    /// The last accepted message.
    pub(super) accepted_at: Option<Timestamp>,
    /// The last refusal that is no rehearsal's.
    pub(super) refused: Option<Refused>,
    pub(super) volume: Volumes,
    pub(super) clients: BTreeMap<String, Seen>,
    pub(super) senders: BTreeMap<String, Seen>,
    domains: BTreeMap<String, Volume>,
    auth: BTreeMap<(String, String), u64>,
    pub(super) refusals: BTreeMap<String, Seen>,
    /// By reply and text: several reasons have one code.
    pub(super) would_refuse: BTreeMap<String, Seen>,
    /// What of it was said within the last week, in full.
    pub(super) doubts: BTreeMap<(String, String), Timestamp>,
    /// By client.
    pub(super) rehearsed: BTreeMap<String, Seen>,
    /// Messages that were ever accepted, by client.
    pub(super) accepted_from: BTreeMap<String, Seen>,
    pub(super) sign_in_failed: u64,
    pub(super) turned_away: u64,
}

/// All devices.
pub(super) struct Tallies {
    today: Date,
    days: i64,
    by_device: ByDevice,
}

impl Tallies {
    pub(super) fn new(now: Timestamp, days: u32) -> Self {
        Self {
            today: now.to_zoned(TimeZone::UTC).date(),
            days: i64::from(days),
            by_device: ByDevice::new(),
        }
    }

    pub(super) fn into_map(self) -> ByDevice {
        self.by_device
    }

    pub(super) fn add(&mut self, row: TrafficRow) {
        let age = self.age(row.day);
        let is_looked_at = age < self.days;
        let tally = self.by_device.entry((row.gateway, row.device)).or_default();
        let sums = row.sums;
        let (first_at, last_at) = (Some(sums.first_at), Some(sums.last_at));
        tally.first_at = tally
            .first_at
            .map_or(first_at, |at| Some(at.min(sums.first_at)));
        tally.last_at = tally.last_at.max(last_at);
        match row.outcome {
            Outcome::Accepted => {
                tally.accepted_at = tally.accepted_at.max(last_at);
                tally.volume.add(age, &sums);
                note(&mut tally.accepted_from, row.client.clone(), &sums, "");
            }
            Outcome::Refused | Outcome::SignInFailed
                if tally
                    .refused
                    .as_ref()
                    .is_none_or(|known| known.at < sums.last_at) =>
            {
                tally.refused = Some(Refused {
                    at: sums.last_at,
                    reply: row.reply.clone(),
                    text: row.text.clone(),
                });
            }
            _ => {}
        }
        if !is_looked_at {
            return;
        }
        match row.outcome {
            Outcome::Accepted => {
                *tally.auth.entry((row.mechanism, row.tls)).or_default() += sums.count;
                note(&mut tally.senders, row.sender, &sums, "");
            }
            Outcome::Refused => note(&mut tally.refusals, row.reply, &sums, &row.text),
            Outcome::SignInFailed => {
                tally.sign_in_failed += sums.count;
                note(&mut tally.refusals, row.reply, &sums, &row.text);
            }
            Outcome::TurnedAway => tally.turned_away += sums.count,
            Outcome::WouldRefuse => {
                if age < 7 {
                    let doubt = (row.reply.clone(), row.text.clone());
                    let last = tally.doubts.entry(doubt).or_insert(sums.last_at);
                    *last = (*last).max(sums.last_at);
                }
                note(&mut tally.would_refuse, row.reply, &sums, &row.text);
            }
            Outcome::Rehearsed => {
                note(&mut tally.rehearsed, row.client.clone(), &sums, &row.text);
            }
            Outcome::SignedIn => {}
        }
        // Where a message came from, its sign-in did, too.
        if row.outcome != Outcome::SignedIn {
            note(&mut tally.clients, row.client, &sums, "");
        }
    }

    pub(super) fn add_domain(&mut self, row: DomainRow) {
        if self.age(row.day) >= self.days {
            return;
        }
        let tally = self.by_device.entry((row.gateway, row.device)).or_default();
        let volume = tally.domains.entry(row.domain).or_default();
        volume.add(&row.sums);
    }

    /// Days since then; today is none.
    fn age(&self, day: Date) -> i64 {
        self.today
            .since(day)
            .map_or(i64::MAX, |span| i64::from(span.get_days()))
    }
}

impl Volume {
    fn add(&mut self, sums: &Sums) {
        self.messages += sums.count;
        self.recipients += sums.recipients;
        self.octets += sums.octets;
    }
}

impl Volumes {
    fn add(&mut self, age: i64, sums: &Sums) {
        for (volume, days) in [
            (&mut self.last_day, 1),
            (&mut self.last_7_days, 7),
            (&mut self.last_30_days, 30),
            (&mut self.all, i64::MAX),
        ] {
            if age < days {
                volume.add(sums);
            }
        }
    }
}

impl Tally {
    pub(super) fn recipient_domains(&self) -> Vec<RecipientDomain> {
        let mut domains: Vec<_> = self
            .domains
            .iter()
            .map(|(domain, volume)| RecipientDomain {
                domain: domain.clone(),
                messages: volume.messages,
                recipients: volume.recipients,
            })
            .collect();
        domains.sort_by_key(|one| std::cmp::Reverse(one.recipients));
        domains
    }

    pub(super) fn auth(&self) -> Vec<AuthUsed> {
        let mut auth: Vec<_> = self
            .auth
            .iter()
            .map(|((mechanism, tls), messages)| AuthUsed {
                mechanism: mechanism.clone(),
                tls: Some(tls.clone()).filter(|tls| !tls.is_empty()),
                messages: *messages,
            })
            .collect();
        auth.sort_by_key(|one| std::cmp::Reverse(one.messages));
        auth
    }
}

/// The most frequent first.
pub(super) fn most(seen: &BTreeMap<String, Seen>) -> Vec<Counted> {
    let mut counted: Vec<_> = seen
        .iter()
        .map(|(value, seen)| Counted {
            value: value.clone(),
            count: seen.count,
            last_at: seen.last_at,
        })
        .collect();
    counted.sort_by_key(|one| std::cmp::Reverse(one.count));
    counted
}

/// The most frequent first.
pub(super) fn said(seen: &BTreeMap<String, Seen>) -> Vec<Said> {
    let mut said: Vec<_> = seen
        .iter()
        .map(|(reply, seen)| Said {
            reply: reply.clone(),
            text: seen.text.clone(),
            count: seen.count,
            last_at: seen.last_at,
        })
        .collect();
    said.sort_by_key(|one| std::cmp::Reverse(one.count));
    said
}

fn note(seen: &mut BTreeMap<String, Seen>, what: String, sums: &Sums, text: &str) {
    let seen = seen.entry(what).or_insert_with(|| Seen {
        count: 0,
        first_at: sums.first_at,
        last_at: sums.last_at,
        text: text.to_owned(),
    });
    seen.count += sums.count;
    seen.first_at = seen.first_at.min(sums.first_at);
    if seen.last_at <= sums.last_at {
        seen.last_at = sums.last_at;
        text.clone_into(&mut seen.text);
    }
}
