//! Looking after many grants at once, on nobody's behalf.
//!
//! All that waits is in one heap by time ([`Agenda`](super::agenda::Agenda)), so a hundred
//! thousand grants cost nothing until their time comes. What has come is worked off for
//! each provider by as many as it takes requests at a time: whoever needs a token at once
//! stands behind those few at most.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::sleep;

use super::grant::Grant;
use super::grant::State;
use super::notice::Expiry;
use super::record::Record;
use super::token::TokenSource;
use super::{Keeper, Shared};

/// Another process may have signed somebody in: the store is looked at so often, at least.
const RECHECK: Duration = Duration::from_mins(10);

/// A grant to look after.
pub(crate) struct Tended {
    pub(crate) grant: Arc<Grant>,
    pub(crate) source: Arc<dyn TokenSource>,
}

/// What a grant stands in the agenda for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    at: SystemTime,
    /// It is refreshed then; else only looked at.
    refresh: bool,
}

/// Something in the agenda.
enum Item {
    Grant(Arc<Grant>, Arc<dyn TokenSource>),
    Expiry(Expiry),
}

/// What has come due, by provider.
#[derive(Default)]
struct Queues {
    waiting: HashMap<Arc<str>, (usize, VecDeque<usize>)>,
    queued: HashSet<usize>,
}

impl Keeper {
    /// Looks after these grants for ever, and tells of these expiries.
    pub(crate) async fn tend_grants(&self, tended: Vec<Tended>, expiries: Vec<Expiry>) {
        let shared = &self.shared;
        let _alone = shared.tending.lock().await;
        shared.agenda.clear();
        let mut items = Vec::with_capacity(tended.len());
        let mut seen = HashSet::new();
        for Tended { grant, source } in tended {
            if seen.insert(grant.key()) {
                items.push(Item::Grant(grant, source));
            }
        }
        for expiry in expiries {
            if seen.insert(expiry.key()) {
                items.push(Item::Expiry(expiry));
            }
        }
        drop(seen);
        let _tending = Tending(&items);
        tokio::join!(shared.load_all(&items), shared.work(&items));
    }
}

/// Strikes the numbers of these items out when nobody looks after them any more.
struct Tending<'a>(&'a [Item]);

impl Drop for Tending<'_> {
    fn drop(&mut self) {
        for item in self.0 {
            if let Item::Grant(grant, _) = item {
                let mut state = grant.lock();
                state.item = None;
                state.planned = None;
            }
        }
    }
}

impl Shared {
    /// Puts every item into the agenda.
    async fn load_all(&self, items: &[Item]) {
        for (number, item) in items.iter().enumerate() {
            match item {
                Item::Grant(grant, _) => grant.begin_tending(number).await,
                Item::Expiry(_) => self.agenda.add(self.now(), number),
            }
        }
    }

    /// Works off what has come due, and waits for what has not.
    async fn work(self: &Arc<Self>, items: &[Item]) {
        let mut queues = Queues::default();
        let mut at_work = FuturesUnordered::new();
        loop {
            let wait = loop {
                let now = self.now();
                match self.agenda.take(now) {
                    Ok((at, number)) => match &items[number] {
                        Item::Grant(grant, _) if grant.is_planned(at) => {
                            queues.push(&grant.identity.issuer, number);
                        }
                        Item::Grant(..) => {}
                        Item::Expiry(expiry) => at_work.push(self.expiry(number, expiry)),
                    },
                    Err(None) => break self.parameters.tick,
                    Err(Some(next)) => {
                        let wait = next.duration_since(now).unwrap_or_default();
                        break wait.min(self.parameters.tick);
                    }
                }
            };
            for number in queues.take(self.parameters.issuer_inflight.max(1)) {
                if let Item::Grant(grant, source) = &items[number] {
                    at_work.push(Self::grant(number, grant, source));
                }
            }
            tokio::select! {
                Some(done) = at_work.next() => {
                    if let Item::Grant(grant, _) = &items[done] {
                        queues.done(&grant.identity.issuer, done);
                    }
                }
                () = self.agenda.changed() => {}
                () = sleep(wait.max(Duration::from_millis(1))) => {}
            }
        }
    }

    fn grant<'a>(
        number: usize,
        grant: &'a Arc<Grant>,
        source: &'a Arc<dyn TokenSource>,
    ) -> BoxFuture<'a, usize> {
        async move {
            grant.attend(source).await;
            number
        }
        .boxed()
    }

    /// Tells of `expiry` to the end, also if nobody looks after it any more meanwhile: what
    /// somebody has heard must be written down.
    fn expiry(self: &Arc<Self>, number: usize, expiry: &Expiry) -> BoxFuture<'_, usize> {
        let telling = self.tasks.spawn({
            let this = Arc::clone(self);
            let expiry = expiry.clone();
            async move { this.tell_expiry(&expiry).await }
        });
        async move {
            if let Ok(Some(at)) = telling.await {
                self.agenda.add(at, number);
            }
            number
        }
        .boxed()
    }
}

impl Queues {
    fn push(&mut self, issuer: &Arc<str>, number: usize) {
        if self.queued.insert(number) {
            let queue = self.waiting.entry(Arc::clone(issuer)).or_default();
            queue.1.push_back(number);
        }
    }

    /// What may begin now, `at_a_time` for each provider.
    fn take(&mut self, at_a_time: usize) -> Vec<usize> {
        let mut ready = Vec::new();
        for (busy, queue) in self.waiting.values_mut() {
            while *busy < at_a_time
                && let Some(number) = queue.pop_front()
            {
                *busy += 1;
                ready.push(number);
            }
        }
        ready
    }

    fn done(&mut self, issuer: &Arc<str>, number: usize) {
        self.queued.remove(&number);
        if let Some((busy, _)) = self.waiting.get_mut(issuer) {
            *busy = busy.saturating_sub(1);
        }
    }
}

impl Grant {
    /// Takes its place in the agenda.
    async fn begin_tending(self: &Arc<Self>, item: usize) {
        {
            let mut state = self.lock();
            state.item = Some(item);
            state.planned = None;
        }
        self.look().await;
    }

    /// Takes in what the store says.
    pub(super) async fn look(self: &Arc<Self>) {
        let record = match self.load().await {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(
                    account = &*self.identity.account,
                    "the token store: {error}"
                );
                let mut state = self.lock();
                if state.outlook.is_some() {
                    // What is known stays good.
                    return self.plan(&mut state);
                }
                Record::default()
            }
        };
        if record.retired.as_ref().is_some_and(|retired| !retired.told) {
            self.announce();
        }
        self.publish(&mut self.lock(), &record);
    }

    /// Whether this entry of the agenda is the one that counts.
    fn is_planned(&self, at: SystemTime) -> bool {
        self.lock().planned.is_some_and(|planned| planned.at == at)
    }

    /// Does what it stands in the agenda for, and takes its next place.
    async fn attend(self: &Arc<Self>, source: &Arc<dyn TokenSource>) {
        let planned = self.lock().planned.take();
        let failed = if planned.is_some_and(|planned| planned.refresh) {
            // What goes wrong is told by the flight.
            self.upkeep(source).await.is_err()
        } else {
            self.look().await;
            false
        };
        let mut state = self.lock();
        if state.planned.is_none() {
            self.plan(&mut state);
        }
        let now = self.shared.now();
        if failed && state.planned.is_some_and(|planned| planned.at <= now) {
            // Nothing that is known keeps it from failing at once again.
            let at = now + self.shared.parameters.tick;
            self.enter(&mut state, Planned { at, refresh: true });
        }
    }

    /// Takes the place in the agenda that follows from what is known, if somebody tends it.
    pub(super) fn plan(&self, state: &mut State) {
        let now = self.shared.now();
        let trouble = state.trouble.as_ref();
        let trouble = trouble.and_then(|trouble| trouble.error_now());
        let paused = [trouble, self.client.refusal()].into_iter().flatten();
        let paused = paused.filter_map(|error| error.retry_after).max();
        let paused = paused.map(|left| now + left);
        let upkeep = state
            .outlook
            .and_then(|outlook| outlook.upkeep_at(now, &self.shared.parameters))
            .or(paused)
            .map(|at| paused.map_or(at, |until| at.max(until)));
        let recheck = now + RECHECK;
        let planned = match upkeep {
            Some(at) if at <= recheck => Planned { at, refresh: true },
            _ => Planned {
                at: recheck,
                refresh: false,
            },
        };
        self.enter(state, planned);
    }

    fn enter(&self, state: &mut State, planned: Planned) {
        let Some(item) = state.item else { return };
        // It is looked at anyway.
        let looks = |at: &Planned| !at.refresh && at.at > self.shared.now();
        if !planned.refresh && state.planned.as_ref().is_some_and(looks) {
            return;
        }
        if state.planned != Some(planned) {
            state.planned = Some(planned);
            self.shared.agenda.add(planned.at, item);
        }
    }
}
