//! The thirteen promises of the keeper, looked for in a history.
//!
//! Those which compare two runs (7, 10 and 11) are in [`super::twins`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, SystemTime};

use super::history::{Entry, Life, Verdict, What};
use super::provider::{Custom, Terms};
use crate::AuthErrorKind;

/// One of the thirteen, by its number in the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Invariant {
    OneRequest = 1,
    Floor,
    DurableFirst,
    SupersededOnce,
    Generations,
    RetiredIsSilent,
    DroppedCallers,
    ServedMeanwhile,
    Caps,
    ClockJumps,
    OldInvalidation,
    Canaries,
    Recovery,
}

/// A promise that was not kept.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Breach {
    pub(super) invariant: Invariant,
    /// True time at which it shows.
    pub(super) at: Duration,
    pub(super) how: String,
}

impl fmt::Debug for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, how } = self;
        let number = *invariant as u8;
        write!(f, "invariant {number} ({invariant:?}) at {at:?}: {how}")
    }
}

/// What the checks need to know of how a run was set up.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) terms: Vec<Terms>,
    /// Requests of one process to the provider at one time.
    pub(super) inflight: usize,
    /// Requests of one process to the provider in a second.
    pub(super) rate: usize,
}

/// How long a caller may take who need not wait for the provider.
const PROMPT: Duration = Duration::from_secs(1);

/// A second, less what the disk may take between a turn and its request.
const SECOND: Duration = Duration::from_millis(950);

/// The breaches in `history`, in the order of the invariants.
pub(super) fn breaches(history: &[Entry], rules: &Rules) -> Vec<Breach> {
    let story = Story::of(history, rules);
    let mut found = Vec::new();
    story.one_request(&mut found);
    story.floor(&mut found);
    story.durable_first(&mut found);
    story.superseded_once(&mut found);
    story.generations(&mut found);
    story.retired_is_silent(&mut found);
    story.served_meanwhile(&mut found);
    story.caps(&mut found);
    story.canaries(&mut found);
    story.recovery(&mut found);
    found
}

/// A history with its references resolved.
struct Story<'a> {
    history: &'a [Entry],
    rules: &'a Rules,
    requests: BTreeMap<u32, Request>,
    calls: HashMap<u32, Call>,
    /// Where each access token came from.
    tokens: HashMap<(usize, u32), Origin>,
}

struct Request {
    by: Life,
    grant: usize,
    refresh: Option<u32>,
    asked: usize,
    decided: Option<(usize, Verdict)>,
    /// When the client had its answer.
    answered: Option<usize>,
}

struct Call {
    by: Life,
    grant: usize,
    index: usize,
}

/// How an access token came to be.
struct Origin {
    requested_at: Duration,
    lifetime: Duration,
    /// The refresh token that belongs with it.
    refresh: Option<u32>,
}

impl<'a> Story<'a> {
    fn of(history: &'a [Entry], rules: &'a Rules) -> Self {
        let mut story = Self {
            history,
            rules,
            requests: BTreeMap::new(),
            calls: HashMap::new(),
            tokens: HashMap::new(),
        };
        for (index, entry) in history.iter().enumerate() {
            story.read(index, entry);
        }
        story
    }

    fn read(&mut self, index: usize, entry: &Entry) {
        match entry.what {
            What::Asked {
                request,
                by,
                grant,
                refresh,
            } => {
                let asked = Request {
                    by,
                    grant,
                    refresh,
                    asked: index,
                    decided: None,
                    answered: None,
                };
                self.requests.insert(request, asked);
            }
            What::Decided { request, verdict } => {
                let history = self.history;
                let request = self.requests.get_mut(&request).expect("it was asked");
                request.decided = Some((index, verdict));
                if let Verdict::Tokens {
                    access,
                    refresh,
                    lifetime,
                } = verdict
                {
                    let origin = Origin {
                        requested_at: history[request.asked].at,
                        lifetime,
                        refresh: refresh.or(request.refresh),
                    };
                    self.tokens.insert((request.grant, access), origin);
                }
            }
            What::Ended {
                request,
                answered: true,
            } => {
                let request = self.requests.get_mut(&request).expect("it was asked");
                request.answered = Some(index);
            }
            What::Called { call, by, grant } => {
                self.calls.insert(call, Call { by, grant, index });
            }
            What::SignedIn {
                grant,
                access,
                refresh,
                ..
            } => {
                let origin = Origin {
                    requested_at: entry.at,
                    lifetime: self.rules.terms[grant].lifetime,
                    refresh,
                };
                self.tokens.insert((grant, access), origin);
            }
            _ => {}
        }
    }

    /// The life left in a token: the longer of what the wall clock and the true time say.
    fn life(&self, at: usize, grant: usize, access: u32, expires_at: SystemTime) -> Left {
        let entry = &self.history[at];
        let origin = &self.tokens[&(grant, access)];
        let by_wall = expires_at.duration_since(entry.wall).unwrap_or_default();
        let truly = (origin.requested_at + origin.lifetime).saturating_sub(entry.at);
        Left {
            least: by_wall.min(truly),
            most: by_wall.max(truly),
            floor: floor(origin.lifetime),
        }
    }

    fn breach(&self, found: &mut Vec<Breach>, invariant: Invariant, at: usize, how: String) {
        found.push(Breach {
            invariant,
            at: self.history[at].at,
            how,
        });
    }

    /// 1: never two requests for one grant at a time.
    fn one_request(&self, found: &mut Vec<Breach>) {
        let mut outstanding: BTreeMap<u32, (Life, usize)> = BTreeMap::new();
        for (index, entry) in self.history.iter().enumerate() {
            match entry.what {
                What::Asked {
                    request, by, grant, ..
                } => {
                    if let Some((other, _)) =
                        outstanding.values().find(|(_, asked)| *asked == grant)
                    {
                        let how =
                            format!("{by:?} asks for grant {grant} while {other:?} still waits");
                        self.breach(found, Invariant::OneRequest, index, how);
                    }
                    outstanding.insert(request, (by, grant));
                }
                What::Ended { request, .. } => drop(outstanding.remove(&request)),
                What::Died(life) => outstanding.retain(|_, (by, _)| *by != life),
                _ => {}
            }
        }
    }

    /// 2: no token below its floor is served.
    fn floor(&self, found: &mut Vec<Breach>) {
        for (index, entry) in self.history.iter().enumerate() {
            let What::Served {
                call,
                access,
                expires_at,
                ..
            } = entry.what
            else {
                continue;
            };
            let grant = self.calls[&call].grant;
            let life = self.life(index, grant, access, expires_at);
            if life.most <= life.floor {
                let how = format!("token {access} of grant {grant} served with {life:?}");
                self.breach(found, Invariant::Floor, index, how);
            }
        }
    }

    /// 3: no access token is seen before its refresh token is durable.
    fn durable_first(&self, found: &mut Vec<Breach>) {
        let mut durable = BTreeSet::new();
        for (index, entry) in self.history.iter().enumerate() {
            match entry.what {
                What::Saved { grant, record, .. } => {
                    if let (Some(access), Some(refresh)) = (record.access, record.refresh) {
                        durable.insert((grant, access, refresh));
                    }
                }
                What::Served { call, access, .. } => {
                    let grant = self.calls[&call].grant;
                    let Some(refresh) = self.tokens[&(grant, access)].refresh else {
                        continue;
                    };
                    if !durable.contains(&(grant, access, refresh)) {
                        let how = format!(
                            "token {access} of grant {grant} is out, refresh token {refresh} is not safe"
                        );
                        self.breach(found, Invariant::DurableFirst, index, how);
                    }
                }
                _ => {}
            }
        }
    }

    /// 4: the provider sees a superseded refresh token only where its successor was lost,
    /// and then once for each loss; within its grace as often as one likes.
    fn superseded_once(&self, found: &mut Vec<Breach>) {
        for (grant, terms) in self.rules.terms.iter().enumerate() {
            let Custom::Strict { grace } = terms.custom else {
                continue;
            };
            let mut requests: Vec<&Request> = self
                .requests
                .values()
                .filter(|request| request.grant == grant && request.refresh.is_some())
                .collect();
            requests.sort_by_key(|request| request.decided.map_or(usize::MAX, |(at, _)| at));
            // When each refresh token was superseded, and how often it was seen since.
            let mut superseded: HashMap<Option<u32>, (Duration, usize)> = HashMap::new();
            for request in &requests {
                let Some((decided, verdict)) = request.decided else {
                    continue;
                };
                if verdict == Verdict::Failure {
                    continue;
                }
                let now = self.history[decided].at;
                if let Some((since, seen)) = superseded.get_mut(&request.refresh) {
                    if now <= *since + grace {
                        continue;
                    }
                    *seen += 1;
                    let lost = |earlier: &&&Request| {
                        earlier.refresh == request.refresh && self.was_lost(earlier, request)
                    };
                    let losses = requests.iter().filter(lost).count();
                    if *seen > losses {
                        let how = format!(
                            "refresh token {:?} of grant {grant} was seen {seen} times after it was superseded and {losses} losses",
                            request.refresh
                        );
                        self.breach(found, Invariant::SupersededOnce, decided, how);
                    }
                } else if let Verdict::Tokens {
                    refresh: Some(_), ..
                } = verdict
                {
                    superseded.insert(request.refresh, (now, 0));
                }
            }
        }
    }

    /// Whether nobody knew what became of `earlier` when `later` was asked: no answer had
    /// come, or the one who had it died or could not write.
    fn was_lost(&self, earlier: &Request, later: &Request) -> bool {
        if earlier.asked >= later.asked {
            return false;
        }
        let between = &self.history[earlier.asked..later.asked];
        let unheard = earlier.answered.is_none_or(|index| index > later.asked);
        unheard
            || between.iter().any(|entry| match entry.what {
                What::Died(life) => life == earlier.by,
                What::NotSaved { by, grant } => by == earlier.by && grant == earlier.grant,
                _ => false,
            })
    }

    /// 5: generations grow, in the store and for whoever asks one process twice.
    fn generations(&self, found: &mut Vec<Breach>) {
        let mut stored: HashMap<usize, u64> = HashMap::new();
        let mut served: HashMap<(Life, usize), Vec<(usize, u64)>> = HashMap::new();
        for (index, entry) in self.history.iter().enumerate() {
            match entry.what {
                What::Saved { grant, record, .. } => {
                    let newest = stored.entry(grant).or_default();
                    if record.generation < *newest {
                        let how = format!(
                            "grant {grant} stored at {} after {newest}",
                            record.generation
                        );
                        self.breach(found, Invariant::Generations, index, how);
                    }
                    *newest = record.generation.max(*newest);
                }
                What::Served {
                    call, generation, ..
                } => {
                    let call = &self.calls[&call];
                    let before = served.entry((call.by, call.grant)).or_default();
                    if let Some((_, newer)) = before
                        .iter()
                        .find(|(at, newer)| *at < call.index && *newer > generation)
                    {
                        let how =
                            format!("grant {} served at {generation} after {newer}", call.grant);
                        self.breach(found, Invariant::Generations, index, how);
                    }
                    before.push((index, generation));
                }
                _ => {}
            }
        }
    }

    /// 6: no requests for a grant for which somebody must sign in, until they have.
    fn retired_is_silent(&self, found: &mut Vec<Breach>) {
        let mut retired = BTreeSet::new();
        let mut signed_in = BTreeSet::new();
        for (index, entry) in self.history.iter().enumerate() {
            match entry.what {
                What::SignedIn { grant, access, .. } => {
                    signed_in.insert((grant, Some(access)));
                }
                What::Saved { grant, record, .. } => {
                    if record.retired {
                        retired.insert(grant);
                    } else if signed_in.contains(&(grant, record.access)) {
                        retired.remove(&grant);
                    }
                }
                What::Asked { grant, by, .. } if retired.contains(&grant) => {
                    let how = format!("{by:?} asks for grant {grant}, which is retired");
                    self.breach(found, Invariant::RetiredIsSilent, index, how);
                }
                _ => {}
            }
        }
    }

    /// 8: whatever the provider does, a token with life in it is served, and at once.
    fn served_meanwhile(&self, found: &mut Vec<Breach>) {
        let mut known: HashMap<(Life, usize), Known> = HashMap::new();
        let mut stored: HashMap<usize, Known> = HashMap::new();
        let mut retired = BTreeSet::new();
        let mut spoilt: HashMap<usize, u64> = HashMap::new();
        for (index, entry) in self.history.iter().enumerate() {
            match entry.what {
                What::Saved { grant, record, .. } => {
                    if record.retired {
                        retired.insert(grant);
                    } else {
                        retired.remove(&grant);
                    }
                    match record.access {
                        Some(access) => {
                            let origin = &self.tokens[&(grant, access)];
                            let expires_at = entry.wall + origin.lifetime;
                            let known = Known {
                                since: index,
                                access,
                                generation: record.generation,
                                expires_at,
                            };
                            stored
                                .entry(grant)
                                .and_modify(|old| {
                                    if old.access != access {
                                        *old = known;
                                    }
                                })
                                .or_insert(known);
                        }
                        None => drop(stored.remove(&grant)),
                    }
                }
                What::Invalidated {
                    grant, generation, ..
                } => {
                    let spoilt = spoilt.entry(grant).or_default();
                    *spoilt = generation.max(*spoilt);
                }
                What::Served {
                    call,
                    access,
                    generation,
                    expires_at,
                } => {
                    let Call { by, grant, .. } = self.calls[&call];
                    if let Some(known) = known.get(&(by, grant)) {
                        self.promptly(found, index, &self.calls[&call], known, &spoilt);
                    }
                    let served = Known {
                        since: index,
                        access,
                        generation,
                        expires_at,
                    };
                    known.insert((by, grant), served);
                }
                // A grant that is over is another matter.
                What::Failed {
                    kind: AuthErrorKind::InvalidGrant | AuthErrorKind::NeedsUser,
                    ..
                } => {}
                What::Failed { call, kind, .. } => {
                    let call = &self.calls[&call];
                    let held = known.get(&(call.by, call.grant)).into_iter();
                    for known in held.chain(stored.get(&call.grant)) {
                        if !retired.contains(&call.grant)
                            && known.since < call.index
                            && self.is_good(index, call.grant, known, &spoilt)
                        {
                            let how = format!(
                                "grant {} fails ({kind:?}) while token {} is good",
                                call.grant, known.access
                            );
                            self.breach(found, Invariant::ServedMeanwhile, index, how);
                            break;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn promptly(
        &self,
        found: &mut Vec<Breach>,
        index: usize,
        call: &Call,
        known: &Known,
        spoilt: &HashMap<usize, u64>,
    ) {
        let took = self.history[index]
            .at
            .saturating_sub(self.history[call.index].at);
        if took > PROMPT
            && known.since < call.index
            && self.is_good(index, call.grant, known, spoilt)
        {
            let how = format!(
                "{took:?} waited for grant {} while token {} is good",
                call.grant, known.access
            );
            self.breach(found, Invariant::ServedMeanwhile, index, how);
        }
    }

    /// Whether nobody can deny that the token is good. After the clock was set back, how long
    /// one from before still lives cannot be told.
    fn is_good(
        &self,
        index: usize,
        grant: usize,
        known: &Known,
        spoilt: &HashMap<usize, u64>,
    ) -> bool {
        let life = self.life(index, grant, known.access, known.expires_at);
        let spoilt = spoilt.get(&grant).copied().unwrap_or_default();
        let since = self.tokens[&(grant, known.access)].requested_at;
        let doubtful = self.history[..index].iter().rev().any(|entry| {
            matches!(entry.what, What::Jumped(seconds) if seconds < 0) && entry.at >= since
        });
        life.least > life.floor && known.generation > spoilt && !doubtful
    }

    /// 9: no process exceeds what it may ask of one provider.
    fn caps(&self, found: &mut Vec<Breach>) {
        let mut outstanding: BTreeMap<u32, Life> = BTreeMap::new();
        let mut asked: HashMap<Life, Vec<Duration>> = HashMap::new();
        for (index, entry) in self.history.iter().enumerate() {
            match entry.what {
                What::Asked { request, by, .. } => {
                    outstanding.insert(request, by);
                    let inflight = outstanding.values().filter(|life| **life == by).count();
                    if inflight > self.rules.inflight {
                        let how = format!("{inflight} requests of {by:?} in flight");
                        self.breach(found, Invariant::Caps, index, how);
                    }
                    let asked = asked.entry(by).or_default();
                    asked.push(entry.at);
                    let since = entry.at.saturating_sub(SECOND);
                    let lately = asked.iter().rev().take_while(|at| **at >= since).count();
                    if lately > self.rules.rate {
                        let how = format!("{lately} requests of {by:?} within a second");
                        self.breach(found, Invariant::Caps, index, how);
                    }
                }
                What::Ended { request, .. } => drop(outstanding.remove(&request)),
                What::Died(life) => outstanding.retain(|_, by| *by != life),
                _ => {}
            }
        }
    }

    /// 12: no secret is seen where people look.
    fn canaries(&self, found: &mut Vec<Breach>) {
        for (index, entry) in self.history.iter().enumerate() {
            if let What::Leaked { text } = &entry.what {
                self.breach(found, Invariant::Canaries, index, text.clone());
            }
        }
    }

    /// 13: once the provider has recovered, a grant is fresh, or somebody must sign in and
    /// the provider has said so.
    fn recovery(&self, found: &mut Vec<Breach>) {
        let mut kept: HashMap<usize, Option<u32>> = HashMap::new();
        let mut over = BTreeSet::new();
        for (index, entry) in self.history.iter().enumerate() {
            match entry.what {
                What::Kept { grant, refresh } => {
                    kept.insert(grant, refresh);
                    over.remove(&grant);
                }
                What::Decided {
                    request,
                    verdict: Verdict::Over,
                } => {
                    let request = &self.requests[&request];
                    if kept.get(&request.grant).copied().flatten() <= request.refresh {
                        over.insert(request.grant);
                    }
                }
                What::Ends {
                    grant,
                    process,
                    state,
                } => {
                    let needs_person = self.rules.terms[grant].custom != Custom::AppOnly;
                    let right = match state {
                        "fresh" => true,
                        "reauthorization_required" => over.contains(&grant),
                        "absent" => needs_person && !kept.contains_key(&grant),
                        _ => false,
                    };
                    if !right {
                        let how = format!("grant {grant} in process {process} ends {state}");
                        self.breach(found, Invariant::Recovery, index, how);
                    }
                }
                _ => {}
            }
        }
    }
}

/// A token that somebody could have been given.
#[derive(Clone, Copy)]
struct Known {
    since: usize,
    access: u32,
    generation: u64,
    expires_at: SystemTime,
}

/// The life left in a token by the two clocks.
#[derive(Debug)]
struct Left {
    least: Duration,
    most: Duration,
    floor: Duration,
}

/// The design's `use_floor`.
fn floor(lifetime: Duration) -> Duration {
    Duration::from_mins(1).min(lifetime / 20)
}
