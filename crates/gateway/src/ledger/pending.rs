//! What was observed and is not written yet, added up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use jiff::Timestamp;

use super::{OTHER, Observation, Outcome};
use crate::limits::DAY_STEP;

/// Sums that may wait; beyond, clients and senders are no longer told apart.
const SUMS: usize = 4096;

/// The most octets of a name that a device says, or of a reply's text.
const LONGEST: usize = 320;

/// Sums that wait.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) traffic: HashMap<Traffic, (Sums, String)>,
    pub(super) domains: HashMap<Domain, Sums>,
    /// Accepted messages by steps of [`DAY_STEP`] seconds.
    pub(super) recent: HashMap<Recently, u64>,
}

/// By what traffic is told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Traffic {
    /// Days since 1970, in UTC.
    pub(super) day: i64,
    pub(super) gateway: String,
    pub(super) device: String,
    pub(super) client: String,
    /// `<>` for the empty one; empty if none was named.
    pub(super) sender: String,
    pub(super) mechanism: String,
    pub(super) tls: String,
    pub(super) outcome: Outcome,
    /// Reply code and enhanced status; empty for yes.
    pub(super) reply: String,
}

/// By what recipients' domains are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Domain {
    pub(super) day: i64,
    pub(super) gateway: String,
    pub(super) device: String,
    pub(super) name: String,
}

/// A step of a device's day.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Recently {
    pub(super) gateway: String,
    pub(super) device: String,
    /// Its first second.
    pub(super) second: i64,
}

/// What was added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// How often: of [`Outcome::Accepted`] and of domains, messages.
    pub count: u64,
    /// Recipients of accepted messages.
    pub recipients: u64,
    /// Octets of accepted messages.
    pub octets: u64,
    /// The first time.
    pub first_at: Timestamp,
    /// The last time.
    pub last_at: Timestamp,
}

impl Sums {
    pub(crate) fn join(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.recipients = self.recipients.saturating_add(other.recipients);
        self.octets = self.octets.saturating_add(other.octets);
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
    }
}

impl Traffic {
    /// The same with neither client nor sender.
    pub(super) fn folded(&self) -> Self {
        Self {
            client: OTHER.to_owned(),
            sender: OTHER.to_owned(),
            ..self.clone()
        }
    }
}

impl Domain {
    /// The same for no domain in particular.
    pub(super) fn folded(&self) -> Self {
        Self {
            name: OTHER.to_owned(),
            ..self.clone()
        }
    }
}

impl Pending {
    /// Counts it, if there is any room.
    pub(super) fn add(&mut self, seen: &Observation) -> bool {
        let day = day(seen.at);
        let (gateway, device) = (short(&seen.gateway), short(&seen.device));
        let sums = Sums {
            count: 1,
            recipients: seen.recipients.len() as u64,
            octets: seen.octets,
            first_at: seen.at,
            last_at: seen.at,
        };
        let (reply, text) = match &seen.refusal {
            Some(refusal) => {
                let reply = format!("{} {}", refusal.code, refusal.enhanced);
                (reply, short(&refusal.text))
            }
            None => Default::default(),
        };
        let sender = match seen.sender.as_deref() {
            None => String::new(),
            Some("") => "<>".to_owned(),
            Some(sender) => short(sender).to_ascii_lowercase(),
        };
        let traffic = Traffic {
            day,
            gateway: gateway.clone(),
            device: device.clone(),
            client: seen.client.to_string(),
            sender,
            mechanism: seen.mechanism.clone(),
            tls: seen.tls.clone(),
            outcome: seen.outcome,
            reply,
        };
        if !self.add_traffic(traffic, &sums, text) {
            return false;
        }
        if seen.outcome != Outcome::Accepted {
            return true;
        }
        let mut domains: HashMap<String, u64> = HashMap::new();
        for recipient in &seen.recipients {
            let domain = recipient.rsplit_once('@').map_or("", |(_, domain)| domain);
            *domains
                .entry(short(domain).to_ascii_lowercase())
                .or_default() += 1;
        }
        // What finds no room here is in the sums above.
        for (domain, recipients) in domains {
            let domain = Domain {
                day,
                gateway: gateway.clone(),
                device: device.clone(),
                name: domain,
            };
            self.add_domain(domain, &Sums { recipients, ..sums });
        }
        let recently = Recently {
            gateway,
            device,
            second: seen.at.as_second().div_euclid(DAY_STEP) * DAY_STEP,
        };
        self.add_recent(recently, 1);
        true
    }

    /// Takes back what could not be written; how much of it found no room.
    pub(super) fn put_back(&mut self, other: Self) -> u64 {
        let mut lost = 0;
        for (traffic, (sums, text)) in other.traffic {
            if !self.add_traffic(traffic, &sums, text) {
                lost += sums.count;
            }
        }
        for (domain, sums) in other.domains {
            self.add_domain(domain, &sums);
        }
        for (recently, messages) in other.recent {
            self.add_recent(recently, messages);
        }
        lost
    }

    pub(super) fn len(&self) -> usize {
        self.traffic.len() + self.domains.len() + self.recent.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it should be written before its time.
    pub(super) fn is_much(&self) -> bool {
        self.len() >= SUMS / 2
    }

    /// The last moment in it.
    pub(super) fn last_at(&self) -> Timestamp {
        let all = self.traffic.values().map(|(sums, _)| sums.last_at);
        all.max().unwrap_or_default()
    }

    fn add_traffic(&mut self, traffic: Traffic, sums: &Sums, text: String) -> bool {
        let Some(place) = place(&self.traffic, traffic, Traffic::folded) else {
            return false;
        };
        match self.traffic.entry(place) {
            Entry::Occupied(mut found) => {
                let (known, last_text) = found.get_mut();
                known.join(sums);
                *last_text = text;
            }
            Entry::Vacant(new) => {
                new.insert((*sums, text));
            }
        }
        true
    }

    fn add_domain(&mut self, domain: Domain, sums: &Sums) {
        if let Some(place) = place(&self.domains, domain, Domain::folded) {
            self.domains
                .entry(place)
                .and_modify(|known| known.join(sums))
                .or_insert(*sums);
        }
    }

    fn add_recent(&mut self, recently: Recently, messages: u64) {
        if self.recent.len() < 2 * SUMS || self.recent.contains_key(&recently) {
            let known = self.recent.entry(recently).or_default();
            *known = known.saturating_add(messages);
        }
    }
}

/// Where to count it: by itself as long as there is room, then with others, while there is room for
/// that.
fn place<K: Eq + Hash, V>(sums: &HashMap<K, V>, key: K, folded: impl Fn(&K) -> K) -> Option<K> {
    if sums.len() < SUMS || sums.contains_key(&key) {
        return Some(key);
    }
    let folded = folded(&key);
    (sums.len() < 2 * SUMS || sums.contains_key(&folded)).then_some(folded)
}

/// Days since 1970, in UTC.
pub(super) fn day(at: Timestamp) -> i64 {
    at.as_second().div_euclid(24 * 3600)
}

/// What somebody else said, bounded and printable.
fn short(text: &str) -> String {
    let mut short = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if short.len() + c.len_utf8() > LONGEST {
            break;
        }
        short.push(c);
    }
    short
}
