//! One session's work: messages are begun when it is ready for them, and settled as their
//! verdicts come.
//!
//! To begin costs a flush. A session that takes messages quickly and one by one has some begun
//! ahead, as many as it is soon through with and never more than a window: so many may be unknown
//! after a crash, as with `CHUNKING`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use postrider_smtp::{Address, Outgoing, Receipt, SendError, SendErrorKind, Source, Stage};
use postrider_spool::{AT_ONCE, Began, Begin, Claim, Lease, Outcome, QueueId, Settlement};

use crate::account::{Account, Answer};
use crate::attempt::{Attempt, Judged, explain};
use crate::body;
use crate::judge::{Consequence, Judgement, judge_error};
use crate::ledger::Entry;
use crate::policy::{OnUnknown, Report};
use crate::report::Failure;
use crate::route::{Limits, Route, RouteFailure};
use crate::shared::{Shared, Stage as RunStage};
use crate::throttle::later;

/// What a session is through with by then may be begun at once: nobody else would have sent it
/// much sooner.
const SOON: Duration = Duration::from_millis(10);

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// There was nothing more to begin.
    Drained,
    /// The server ended it: there may be more to send.
    CutShort,
    /// It took nothing, although it was there.
    Idle,
}

/// Runs one session to its end.
pub(crate) async fn run(shared: &Arc<Shared>, account: &Arc<Account>, route: &dyn Route) -> End {
    let _open = account.open();
    let mut work = Work::new(shared, account, route.limits());
    let has_begun = Arc::clone(&work.has_begun);
    let result = tokio::select! {
        result = route.run(&mut work) => Some(result),
        () = cut_off(shared, &has_begun) => None,
    };
    work.close(result).await
}

/// Resolves when the session may go on no longer. One that has asked for no message yet, because
/// its server does not even greet, has nothing to end.
async fn cut_off(shared: &Shared, has_begun: &AtomicBool) {
    shared.reached(RunStage::Drain).await;
    if has_begun.load(Ordering::Relaxed) {
        shared.reached(RunStage::Abort).await;
    }
}

/// The messages of one session.
struct Work {
    shared: Arc<Shared>,
    account: Arc<Account>,
    limits: Limits,
    /// The session has asked for messages.
    has_begun: Arc<AtomicBool>,
    /// A request under way, which outlives whoever dropped the future that made it.
    asked: Option<BoxFuture<'static, Result<Began, postrider_spool::SpoolError>>>,
    /// Begun, and not given to the session yet.
    ready: VecDeque<(Given, Outgoing)>,
    /// With the session, by their number.
    given: HashMap<u64, Given>,
    next_index: u64,
    /// How many were begun at once last, when that was, and whether there were more.
    ahead: usize,
    asked_at: Option<Timestamp>,
    more: bool,
    /// Messages that the server took.
    accepted: u64,
    drained: bool,
}

/// A message in the session's hands.
struct Given {
    id: QueueId,
    lease: Lease,
    recipients: Vec<(String, Address)>,
    attempts: u32,
    /// Not an octet of its text left this process, and the session is gone.
    unsent: bool,
}

impl Work {
    fn new(shared: &Arc<Shared>, account: &Arc<Account>, limits: Limits) -> Self {
        Self {
            shared: Arc::clone(shared),
            account: Arc::clone(account),
            limits,
            has_begun: Arc::default(),
            asked: None,
            ready: VecDeque::new(),
            given: HashMap::new(),
            next_index: 0,
            ahead: 1,
            asked_at: None,
            more: false,
            accepted: 0,
            drained: false,
        }
    }

    fn may_begin(&self) -> bool {
        self.shared.may_begin() && self.account.paused(self.shared.now()).is_none()
    }

    /// How many to begin where the session has this room.
    fn at_once(&mut self, room: usize) -> usize {
        let now = self.shared.now();
        let asked_at = self.asked_at.replace(now);
        let is_quick = asked_at.is_some_and(|at| now.duration_since(at).unsigned_abs() < SOON);
        self.ahead = if is_quick && self.more {
            self.ahead.saturating_mul(2)
        } else {
            1
        };
        let window = self.limits.window.saturating_sub(self.given.len());
        self.ahead = self.ahead.clamp(1, window.max(1));
        room.max(self.ahead)
    }

    fn ask(&self, room: usize) -> BoxFuture<'static, Result<Began, postrider_spool::SpoolError>> {
        let begin = Begin {
            holder: self.shared.holder(),
            account: self.account.name.clone(),
            at_most: room.min(AT_ONCE),
            recipients_per_message: Some(
                self.account.recipients(self.limits.recipients_per_message),
            ),
            pace: self.limits.pace,
            now: self.shared.now(),
        };
        let store = Arc::clone(&self.shared.store);
        async move { store.begin(begin).await }.boxed()
    }

    /// Takes what the store handed out; whether that was anything.
    fn take(&mut self, began: Began) -> bool {
        let now = self.shared.now();
        self.account.began(&began);
        self.more = began.next.is_some_and(|next| next <= now) && began.held_back_by.is_none();
        if self.more {
            self.account.more.notify_one();
        }
        let any = !began.claims.is_empty();
        for claim in began.claims {
            self.begin(&claim);
        }
        any
    }

    /// Makes a message of a claim; what cannot be one is settled at once.
    fn begin(&mut self, claim: &Claim) {
        self.shared.began(&self.account.name, claim);
        let mut impossible = Vec::new();
        let mut possible = Vec::with_capacity(claim.recipients.len());
        for recipient in &claim.recipients {
            match recipient.address.parse::<Address>() {
                Ok(address) => possible.push((recipient, address)),
                Err(_) => impossible.push(recipient.address.clone()),
            }
        }
        let named = possible.iter();
        let given = Given {
            id: claim.id,
            lease: claim.lease,
            recipients: named
                .map(|(recipient, address)| (recipient.address.clone(), address.clone()))
                .collect(),
            attempts: claim.attempts,
            unsent: false,
        };
        self.fail(&given, impossible, "not an address that SMTP can carry");
        if given.recipients.is_empty() {
            return;
        }
        match body::outgoing(claim, &possible) {
            Ok(outgoing) => self.ready.push_back((given, outgoing)),
            Err(invalid) => {
                let all = given.recipients.iter().map(|(name, _)| name.clone());
                self.fail(&given, all.collect(), &invalid.to_string());
            }
        }
    }

    fn fail(&self, given: &Given, recipients: Vec<String>, why: &str) {
        if recipients.is_empty() {
            return;
        }
        let failed = |recipient| Judged {
            recipient,
            judgement: Judgement::Fail,
            why: why.to_owned(),
            reply: None,
            slowed: false,
        };
        let judged = recipients.into_iter().map(failed).collect();
        self.settle(given, judged, false);
    }
}

impl Source for Work {
    fn next(&mut self, room: usize) -> BoxFuture<'_, Vec<Outgoing>> {
        self.has_begun.store(true, Ordering::Relaxed);
        async move {
            if !self.ready.is_empty() && !self.may_begin() {
                self.give_back();
            }
            while self.ready.is_empty() {
                if self.asked.is_none() {
                    if room == 0 || !self.may_begin() {
                        self.drained = room > 0;
                        return Vec::new();
                    }
                    let at_once = self.at_once(room);
                    self.asked = Some(self.ask(at_once));
                }
                let Some(asked) = self.asked.as_mut() else {
                    return Vec::new();
                };
                let began = asked.await;
                self.asked = None;
                let any = match began {
                    Ok(began) => self.take(began),
                    Err(error) => {
                        let now = self.shared.now();
                        self.shared.sink.trouble(&error);
                        self.account.answered(Answer::failed(now));
                        false
                    }
                };
                if !any {
                    self.drained = true;
                    return Vec::new();
                }
            }
            let count = self.ready.len().min(room);
            let mut messages = Vec::with_capacity(count);
            for (given, outgoing) in self.ready.drain(..count) {
                self.given.insert(self.next_index, given);
                self.next_index += 1;
                messages.push(outgoing);
            }
            messages
        }
        .boxed()
    }

    fn ended(&mut self, index: u64, outcome: Result<Receipt, SendError>) {
        let Some(mut given) = self.given.remove(&index) else {
            return;
        };
        let recipients = std::mem::take(&mut given.recipients);
        let attempt = Attempt::judge(recipients, &outcome);
        let accepted = attempt.is_accepted();
        if accepted {
            self.accepted += 1;
            self.account.accepted(self.limits.sessions);
        }
        if let Some((consequence, why)) = &attempt.consequence {
            // A session that breaks after it has carried something is replaced; only one that
            // breaks at once tells that the server is in trouble.
            let broke = outcome
                .as_ref()
                .is_err_and(|error| error.stage >= Stage::MailFrom);
            let worn = *consequence == Consequence::Away && broke && self.accepted > 0;
            if !worn {
                let limit = self.limits.sessions;
                self.account.failed(&self.shared, *consequence, limit, why);
            }
        }
        let split = |judged: &Judged| judged.judgement == Judgement::Split;
        let all = attempt.recipients.len();
        if !accepted && attempt.recipients.iter().any(split) && all > 1 {
            self.account.split(all);
        }
        self.settle(&given, attempt.recipients, accepted || all > 1);
    }

    fn unsent(&mut self, index: u64) {
        if let Some(given) = self.given.get_mut(&index) {
            given.unsent = true;
        }
    }
}

impl Work {
    /// Settles what became of a message. `smaller`: what is to be split can be.
    fn settle(&self, given: &Given, judged: Vec<Judged>, smaller: bool) {
        let shared = &*self.shared;
        let now = shared.now();
        let mut failures = Vec::new();
        let mut recipients = Vec::with_capacity(judged.len());
        for judged in judged {
            let wait = || shared.policy.retry.after(given.attempts, shared.random());
            let why = judged.why.clone();
            let outcome = match judged.judgement {
                Judgement::Delivered => Outcome::Delivered { reply: why },
                Judgement::Return => Outcome::Returned,
                Judgement::Hold => Outcome::Held { why },
                Judgement::Unknown if shared.policy.unknown == OnUnknown::Hold => {
                    Outcome::Unknown { why }
                }
                Judgement::Split if smaller => Outcome::Deferred { until: now, why },
                Judgement::Retry if judged.slowed => {
                    // The account waits: the message is among the first to go on with.
                    let pause = self.account.paused(now);
                    let until = pause.map_or_else(|| later(now, wait()), |pause| pause.until);
                    Outcome::Deferred { until, why }
                }
                Judgement::Retry | Judgement::Split | Judgement::Unknown => Outcome::Deferred {
                    until: later(now, wait()),
                    why,
                },
                Judgement::Fail => {
                    if shared.policy.report == Report::Sender {
                        failures.push(failure(&judged));
                    }
                    Outcome::Failed { why }
                }
            };
            recipients.push((judged.recipient, outcome));
        }
        let settlement = Settlement {
            id: given.id,
            lease: given.lease,
            recipients,
        };
        shared.write(Entry::Settle(settlement, failures));
    }

    /// Settles what the session never answered, and says how it ended.
    async fn close(mut self, result: Option<Result<(), RouteFailure>>) -> End {
        // What was asked for may have been begun: it is ours to return.
        if let Some(asked) = self.asked.take()
            && let Ok(began) = asked.await
        {
            self.take(began);
        }
        // The pause goes before what goes back to the queue.
        if let Some(Err(failure)) = &result {
            self.blame(failure);
        }
        let (judgement, why) = match &result {
            Some(Err(_)) => (Judgement::Return, "there is no session"),
            Some(Ok(())) => (
                Judgement::Unknown,
                "the session ended without a verdict on it",
            ),
            None => (
                Judgement::Unknown,
                "delivery was stopped before the server answered",
            ),
        };
        for given in std::mem::take(&mut self.given).into_values() {
            let judgement = if given.unsent {
                Judgement::Return
            } else {
                judgement
            };
            self.settle_all(given, judgement, why);
        }
        self.give_back();
        match result {
            Some(Ok(())) if !self.drained && self.next_index > 0 => End::CutShort,
            Some(_) if !self.drained => End::Idle,
            _ => End::Drained,
        }
    }

    /// Nothing of what the session was not given yet has left.
    fn give_back(&mut self) {
        for (given, _) in std::mem::take(&mut self.ready) {
            self.settle_all(given, Judgement::Return, "");
        }
    }

    fn settle_all(&self, mut given: Given, judgement: Judgement, why: &str) {
        let recipients = std::mem::take(&mut given.recipients).into_iter();
        let judged = recipients.map(|(recipient, _)| Judged {
            recipient,
            judgement,
            why: why.to_owned(),
            reply: None,
            slowed: false,
        });
        self.settle(&given, judged.collect(), false);
    }

    /// What a session that did not come about means for the account.
    fn blame(&self, failure: &RouteFailure) {
        let (consequence, why) = match failure {
            RouteFailure::Token(_) | RouteFailure::Unusable(_) => {
                (Some(Consequence::Park), failure.to_string())
            }
            RouteFailure::Busy(_) => return,
            RouteFailure::Smtp(error) => {
                let (_, consequence) = judge_error(error);
                let closed = matches!(*error.kind, SendErrorKind::Closed);
                let away = Some(Consequence::Away).filter(|_| !closed);
                (consequence.or(away), explain(error))
            }
        };
        // A server that serves other sessions at this moment is not away: it has enough of them.
        let consequence = match consequence {
            Some(Consequence::Away) if self.account.has_others_open() => {
                Some(Consequence::SlowDown(Duration::ZERO))
            }
            other => other,
        };
        if let Some(consequence) = consequence {
            let limit = self.limits.sessions;
            self.account.failed(&self.shared, consequence, limit, &why);
        }
    }
}

fn failure(judged: &Judged) -> Failure {
    let reply = judged.reply.as_ref();
    Failure {
        recipient: judged.recipient.clone(),
        status: reply
            .and_then(|reply| reply.enhanced)
            .filter(|status| status.class == 5)
            .map_or_else(|| "5.0.0".to_owned(), |status| status.to_string()),
        reply: reply.map(ToString::to_string),
        why: if reply.is_some() {
            "the server refused it for good".to_owned()
        } else {
            judged.why.clone()
        },
    }
}
