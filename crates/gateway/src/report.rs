//! What each device does, whether it may go over to OAuth, and what to do next.
//!
//! From the ledger, the settings in force and how the accounts stand now: a sender that was refused
//! last week and is allowed today is no obstacle. Names of fields and of obstacles are stable.
//!
//! Not here: how it looks on a terminal.

mod ready;
mod remedy;
mod tally;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::ledger::{LedgerError, OTHER, Reader};
use crate::{AccountSender, Mode, Settings};
use tally::{Seen, Tallies, Tally};

pub use ready::{Obstacle, ObstacleCode};
pub use remedy::Refusee;
pub use tally::{AuthUsed, Counted, RecipientDomain, Said, Volume, Volumes};

/// What a report is made of, besides the ledger.
pub struct Facts<'a> {
    /// The time.
    pub now: Timestamp,
    /// How many days to look at, today included: clients, senders, domains, refusals.
    pub days: u32,
    /// The gateways as they are configured.
    pub gateways: &'a [Settings],
    /// Gateway and device of every credential in the vault.
    pub credentials: &'a [(String, String)],
    /// How an account stands.
    pub account: &'a dyn Fn(&str) -> Account,
    /// Why a daemon that runs cannot write the ledger.
    pub trouble: Option<String>,
}

/// How an account stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// There is none of that name.
    Absent,
    /// It signs in with a password.
    Password(AccountSender),
    /// It signs in with tokens.
    OAuth {
        /// As whom it sends.
        sender: AccountSender,
        /// Whether a token can be had without anybody signing in.
        is_signed_in: bool,
    },
}

/// What devices do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// When it was made.
    pub at: Timestamp,
    /// How many days it looks at.
    pub days: u32,
    /// What it is made from.
    pub ledger: LedgerStanding,
    /// Every device that has a credential, settings of its own, or traffic; by gateway and name.
    pub devices: Vec<DeviceReport>,
    /// What came without any device's name, by gateway.
    pub strangers: Vec<Strangers>,
    /// Rehearsals: those that are configured, and those that refused somebody.
    pub rehearsals: Vec<RehearsalReport>,
}

/// How the ledger stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerStanding {
    /// Whether there is one.
    pub exists: bool,
    /// When it was written last.
    pub written_at: Option<Timestamp>,
    /// How much is missing from it.
    pub lost: u64,
    /// Why it cannot be written.
    pub trouble: Option<String>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceReport {
    /// The gateway.
    pub gateway: String,
    /// The device: its user name.
    pub device: String,
    /// Whether it has a password.
    pub has_credential: bool,
    /// Whether it has settings of its own.
    pub has_settings: bool,
    /// The account it is to send through; `None`: its gateway is not configured.
    pub account: Option<String>,
    /// The account with the password that its mail goes through while the gateway observes.
    pub observe_account: Option<String>,
    /// The first time anything was seen of it.
    pub first_seen_at: Option<Timestamp>,
    /// The last time.
    pub last_seen_at: Option<Timestamp>,
    /// The last time that a message of it was accepted.
    pub last_accepted_at: Option<Timestamp>,
    /// Messages that were accepted.
    pub volume: Volumes,
    /// Where it was, by address.
    pub clients: Vec<Counted>,
    /// As whom it sent.
    pub senders: Vec<Counted>,
    /// Whom it sent to.
    pub recipient_domains: Vec<RecipientDomain>,
    /// How it signed in.
    pub auth: Vec<AuthUsed>,
    /// What it was refused, sign-ins included.
    pub refusals: Vec<Said>,
    /// What it would have been refused, had the gateway not only observed.
    pub would_refuse: Vec<Said>,
    /// How often a rehearsal refused it.
    pub rehearsed: u64,
    /// Whether it sends, or may send, with OAuth.
    pub ready: bool,
    /// Why not.
    pub obstacles: Vec<Obstacle>,
    /// What to do now.
    pub next: String,
}

/// What came without a device's name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strangers {
    /// The gateway.
    pub gateway: String,
    /// From where.
    pub clients: Vec<Counted>,
    /// Sign-ins that failed under names that no device has.
    pub sign_in_failed: u64,
    /// Clients that were sent away before anything was said.
    pub turned_away: u64,
    /// What they were refused.
    pub refusals: Vec<Said>,
    /// The last time.
    pub last_seen_at: Option<Timestamp>,
}

/// A gateway's rehearsal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RehearsalReport {
    /// The gateway.
    pub gateway: String,
    /// From when on, as configured.
    pub from: Option<Timestamp>,
    /// Until when.
    pub until: Option<Timestamp>,
    /// Where it stands.
    pub state: RehearsalState,
    /// Whom it refused.
    pub refused: Vec<Rehearsed>,
    /// Those of them whose mail did not come another way.
    pub would_break: Vec<String>,
    /// Devices that it is for and that did not try while it ran.
    pub not_seen: Vec<String>,
}

/// Where a rehearsal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RehearsalState {
    /// It is yet to begin.
    Coming,
    /// It runs.
    Running,
    /// It is over.
    Over,
    /// It is not configured any more.
    Gone,
}

/// A device that was refused for a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rehearsed {
    /// The device.
    pub device: String,
    /// How often it was refused.
    pub times: u64,
    /// The last time.
    pub last_at: Timestamp,
    /// Under what other name its mail seems to have come afterwards: `GATEWAY/DEVICE`.
    pub came_back_as: Option<String>,
}

impl Report {
    /// What the ledger, if there is one, and the settings say.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn new(ledger: Option<&Reader>, facts: &Facts<'_>) -> Result<Self, LedgerError> {
        let mut tallies = Tallies::new(facts.now, facts.days);
        let mut standing = LedgerStanding {
            exists: ledger.is_some(),
            written_at: None,
            lost: 0,
            trouble: facts.trouble.clone(),
        };
        if let Some(reader) = ledger {
            reader.traffic(Timestamp::MIN, |row| tallies.add(row))?;
            reader.domains(Timestamp::MIN, |row| tallies.add_domain(row))?;
            let marks = reader.marks()?;
            (standing.written_at, standing.lost) = (marks.written_at, marks.lost);
        }
        let tallies = tallies.into_map();
        Ok(Self {
            at: facts.now,
            days: facts.days,
            ledger: standing,
            devices: devices(&tallies, facts),
            strangers: strangers(&tallies),
            rehearsals: rehearsals(&tallies, facts),
        })
    }
}

/// A device that has another way takes it as soon as it is refused.
const AT_ONCE: SignedDuration = SignedDuration::from_mins(1);

type ByDevice = BTreeMap<(String, String), Tally>;

fn devices(tallies: &ByDevice, facts: &Facts<'_>) -> Vec<DeviceReport> {
    let mut names: BTreeSet<(String, String)> = facts.credentials.iter().cloned().collect();
    for settings in facts.gateways {
        let devices = settings.devices.keys();
        names.extend(devices.map(|device| (settings.name.clone(), device.clone())));
    }
    let seen = tallies.keys().filter(|(_, device)| !device.is_empty());
    names.extend(seen.cloned());
    let nothing = Tally::default();
    let report = |name: (String, String)| {
        let tally = tallies.get(&name).unwrap_or(&nothing);
        device(name, tally, facts)
    };
    names.into_iter().map(report).collect()
}

fn device(name: (String, String), tally: &Tally, facts: &Facts<'_>) -> DeviceReport {
    let has_credential = facts.credentials.contains(&name);
    let (gateway, device) = name;
    let settings = facts.gateways.iter().find(|one| one.name == gateway);
    let policy = settings.map(|settings| settings.policy(&device));
    let standing = ready::Standing {
        gateway: &gateway,
        device: &device,
        has_credential,
        settings,
        tally,
        account: policy.map_or(Account::Absent, |policy| (facts.account)(&policy.account)),
    };
    let obstacles = standing.obstacles();
    let next = standing.next(&obstacles);
    DeviceReport {
        has_credential,
        has_settings: settings.is_some_and(|one| one.devices.contains_key(&device)),
        account: policy.map(|policy| policy.account.clone()),
        observe_account: settings.and_then(|settings| match &settings.mode {
            Mode::Observe { account } => Some(account.clone()),
            Mode::Submit => None,
        }),
        first_seen_at: tally.first_at,
        last_seen_at: tally.last_at,
        last_accepted_at: tally.accepted_at,
        volume: tally.volume,
        clients: tally::most(&tally.clients),
        senders: tally::most(&tally.senders),
        recipient_domains: tally.recipient_domains(),
        auth: tally.auth(),
        refusals: tally::said(&tally.refusals),
        would_refuse: tally::said(&tally.would_refuse),
        rehearsed: tally.rehearsed.values().map(|one| one.count).sum(),
        ready: obstacles.is_empty(),
        obstacles,
        next,
        gateway,
        device,
    }
}

fn strangers(tallies: &ByDevice) -> Vec<Strangers> {
    let without_name = tallies.iter().filter(|((_, device), _)| device.is_empty());
    without_name
        .map(|((gateway, _), tally)| Strangers {
            gateway: gateway.clone(),
            clients: tally::most(&tally.clients),
            sign_in_failed: tally.sign_in_failed,
            turned_away: tally.turned_away,
            refusals: tally::said(&tally.refusals),
            last_seen_at: tally.last_at,
        })
        .collect()
}

fn rehearsals(tallies: &ByDevice, facts: &Facts<'_>) -> Vec<RehearsalReport> {
    let configured = facts
        .gateways
        .iter()
        .filter(|settings| settings.rehearse.is_some())
        .map(|settings| settings.name.clone());
    let happened = tallies
        .iter()
        .filter(|(_, tally)| !tally.rehearsed.is_empty())
        .map(|((gateway, _), _)| gateway.clone());
    let gateways: BTreeSet<String> = configured.chain(happened).collect();
    let report = |gateway: String| rehearsal(gateway, tallies, facts);
    gateways.into_iter().map(report).collect()
}

fn rehearsal(gateway: String, tallies: &ByDevice, facts: &Facts<'_>) -> RehearsalReport {
    let settings = facts.gateways.iter().find(|one| one.name == gateway);
    let rehearse = settings.and_then(|settings| settings.rehearse.as_ref());
    // As long as it refused; one that is configured no more has left nothing but its refusals.
    let until = |last_at: Timestamp| match rehearse {
        Some(rehearse) if rehearse.from <= last_at => rehearse.until.unwrap_or(facts.now),
        _ => last_at.saturating_add(AT_ONCE).unwrap_or(last_at),
    };
    let of_gateway = tallies.iter().filter(|((name, _), _)| *name == gateway);
    let refused: Vec<Rehearsed> = of_gateway
        .filter_map(|((_, device), tally)| {
            let last_at = tally.rehearsed.values().map(|one| one.last_at).max()?;
            Some(Rehearsed {
                device: device.clone(),
                times: tally.rehearsed.values().map(|one| one.count).sum(),
                last_at,
                came_back_as: another_way(&gateway, device, until(last_at), tallies),
            })
        })
        .collect();
    let state = match rehearse {
        None => RehearsalState::Gone,
        Some(rehearse) if facts.now < rehearse.from => RehearsalState::Coming,
        Some(rehearse) if rehearse.until.is_some_and(|until| until <= facts.now) => {
            RehearsalState::Over
        }
        Some(_) => RehearsalState::Running,
    };
    let is_for = |device: &String| {
        rehearse.is_some_and(|rehearse| {
            rehearse.devices.is_empty() || rehearse.devices.contains(device)
        })
    };
    let credentials = facts.credentials.iter();
    let not_seen: BTreeSet<String> = credentials
        .filter(|(name, device)| *name == gateway && is_for(device))
        .map(|(_, device)| device.clone())
        .filter(|device| refused.iter().all(|one| one.device != *device))
        .filter(|_| matches!(state, RehearsalState::Running | RehearsalState::Over))
        .collect();
    RehearsalReport {
        from: rehearse.map(|rehearse| rehearse.from),
        until: rehearse.and_then(|rehearse| rehearse.until),
        state,
        would_break: refused
            .iter()
            .filter(|one| one.came_back_as.is_none())
            .map(|one| one.device.clone())
            .collect(),
        refused,
        not_seen: not_seen.into_iter().collect(),
        gateway,
    }
}

/// Under which other name a refused device's mail seems to have been accepted after the last refusal.
///
/// An address alone says little, for several devices may share one, and so does a name, for each
/// gateway may have a `printer`: it takes both, or one of them that sent nothing from there before
/// the first refusal, and did before the rehearsal ended: what is set up later is no way round it.
fn another_way(
    gateway: &str,
    device: &str,
    until: Timestamp,
    tallies: &ByDevice,
) -> Option<String> {
    let tally = tallies.get(&(gateway.to_owned(), device.to_owned()))?;
    let refused = tally.rehearsed.values();
    let first_at = refused.clone().map(|one| one.first_at).min()?;
    let last_at = refused.map(|one| one.last_at).max()?;
    let came = |other: &str, accepted: (&String, &Seen)| {
        let (client, seen) = accepted;
        let is_client = client != OTHER && tally.rehearsed.contains_key(client);
        let is_name = other == device;
        let is_new = seen.first_at > first_at && seen.first_at <= until;
        seen.last_at > last_at && ((is_client && is_name) || (is_client || is_name) && is_new)
    };
    let mut others = tallies.iter().filter(|((other_gateway, other), tally)| {
        let is_other = (other_gateway.as_str(), other.as_str()) != (gateway, device);
        let mut accepted = tally.accepted_from.iter();
        !other.is_empty() && is_other && accepted.any(|accepted| came(other, accepted))
    });
    let ((gateway, device), _) = others.next()?;
    Some(format!("{gateway}/{device}"))
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
