//! Whatever is done in whatever order, the queue is as a simple one would be.

use std::collections::BTreeMap;

use postrider_spool::{
    Begin, Claim, Filter, HolderId, Lease, NewMessage, Outcome, Priority, QueueId, Select,
    SpoolSettings, SqliteSpool, StateKind, Store,
};
use proptest::prelude::*;

use crate::support::{
    addresses, ask, at, deferred, delivered, message, octets, seconds, settings, told_of,
};

#[derive(Clone, Debug)]
enum Deed {
    Accept {
        priority: usize,
        recipients: usize,
        later: Option<i64>,
        expires: Option<i64>,
        key: Option<u8>,
        large: bool,
    },
    Begin {
        at_most: usize,
        per_message: u32,
    },
    /// Of the claims so far, even of those long settled.
    Settle(prop::sample::Index, How),
    Retry(prop::sample::Index),
    Hold(prop::sample::Index),
    Release(prop::sample::Index),
    Remove(prop::sample::Index),
    /// The holder dies.
    Die,
    Expire,
    Tidy,
    Wait(i64),
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Delivered,
    Deferred(i64),
    Failed,
    Held,
    Unknown,
    Returned,
}

fn deed() -> impl Strategy<Value = Deed> {
    let any = any::<prop::sample::Index>;
    let how = prop_oneof![
        Just(How::Delivered),
        (1_i64..40).prop_map(How::Deferred),
        Just(How::Failed),
        Just(How::Held),
        Just(How::Unknown),
        Just(How::Returned),
    ];
    let accept = (
        0_usize..3,
        1_usize..5,
        proptest::option::weighted(0.2, 1_i64..50),
        proptest::option::weighted(0.2, 1_i64..60),
        proptest::option::weighted(0.3, 0_u8..4),
        proptest::bool::weighted(0.1),
    );
    prop_oneof![
        6 => accept.prop_map(|(priority, recipients, later, expires, key, large)| Deed::Accept {
            priority, recipients, later, expires, key, large
        }),
        6 => (1_usize..5, 1_u32..4).prop_map(|(at_most, per_message)| Deed::Begin {
            at_most, per_message
        }),
        8 => (any(), how).prop_map(|(which, how)| Deed::Settle(which, how)),
        1 => any().prop_map(Deed::Retry),
        1 => any().prop_map(Deed::Hold),
        1 => any().prop_map(Deed::Release),
        1 => any().prop_map(Deed::Remove),
        1 => Just(Deed::Die),
        1 => Just(Deed::Expire),
        1 => Just(Deed::Tidy),
        3 => (1_i64..30).prop_map(Deed::Wait),
        1 => Just(Deed::Reopen),
    ]
}

const RETENTION: i64 = 60;
const WINDOW: i64 = 45;

#[derive(Clone, Debug)]
struct Recipient {
    state: StateKind,
    due: i64,
    lease: Option<Lease>,
    attempts: u32,
}

#[derive(Clone, Debug)]
struct Message {
    priority: usize,
    later: Option<i64>,
    expires: Option<i64>,
    done: Option<i64>,
    body: Vec<u8>,
    recipients: Vec<Recipient>,
}

impl Recipient {
    fn waits(&self) -> bool {
        matches!(self.state, StateKind::Queued | StateKind::Deferred)
    }
}

impl Message {
    fn due(&self) -> Option<i64> {
        let waiting = self.recipients.iter().filter(|to| to.waits());
        waiting.map(|to| to.due).min()
    }

    fn look(&mut self, now: i64) {
        let done = self.recipients.iter().all(|to| to.state.is_final());
        self.done = done.then_some(now);
    }

    fn renew(&mut self, now: i64) {
        self.expires = self.expires.filter(|at| *at > now);
        self.look(now);
    }

    fn sends(&self) -> bool {
        self.recipients
            .iter()
            .any(|to| to.state == StateKind::Sending)
    }
}

#[derive(Default)]
struct Model {
    now: i64,
    messages: BTreeMap<QueueId, Message>,
    keys: BTreeMap<u8, (QueueId, i64)>,
    names: Vec<QueueId>,
    starts: i64,
    claims: Vec<Claim>,
}

impl Model {
    /// What starts next: its name.
    fn pick(&self, expired: bool) -> Option<QueueId> {
        let due = |wanted: usize| {
            let of = self
                .messages
                .iter()
                .filter(move |(_, one)| one.priority == wanted);
            let due = of.filter_map(|(id, one)| Some((one.due()?, *id)));
            due.filter(|(due, _)| *due <= self.now).min()
        };
        let heads: Vec<_> = (0..3).filter_map(due).collect();
        let lower = heads.iter().skip(1).min();
        let picked = match (heads.first(), lower) {
            (_, Some(lower)) if self.starts % 8 == 7 => lower,
            (Some(first), _) => first,
            _ => return None,
        };
        let is_expired = self.messages[&picked.1]
            .expires
            .is_some_and(|at| at <= self.now);
        (is_expired == expired).then_some(picked.1)
    }

    fn fail_waiting(&mut self, id: QueueId) {
        let now = self.now;
        let one = self.messages.get_mut(&id).unwrap();
        for to in one.recipients.iter_mut().filter(|to| to.waits()) {
            to.state = StateKind::Failed;
        }
        one.look(now);
    }

    fn check_began(&mut self, began: &postrider_spool::Began, at_most: usize, per_message: usize) {
        let mut given_up = began.given_up.iter();
        let mut claims = began.claims.iter();
        let mut started = 0;
        while started < at_most {
            if let Some(id) = self.pick(true) {
                assert_eq!(given_up.next().map(|one| one.id), Some(id));
                self.fail_waiting(id);
                continue;
            }
            let Some(id) = self.pick(false) else { break };
            let claim = claims.next().expect("more was due");
            assert_eq!(claim.id, id);
            let now = self.now;
            let one = self.messages.get_mut(&id).unwrap();
            let due = one.recipients.iter_mut().enumerate();
            let due = due
                .filter(|(_, to)| to.waits() && to.due <= now)
                .take(per_message);
            let mut names = Vec::new();
            let mut attempts = 0;
            for (n, to) in due {
                to.state = StateKind::Sending;
                to.lease = Some(claim.lease);
                to.attempts += 1;
                attempts = attempts.max(to.attempts);
                names.push(format!("r{n}@example.org"));
            }
            assert_eq!((addresses(claim), claim.attempts), (names, attempts));
            self.starts += 1;
            started += 1;
        }
        assert!(
            claims.next().is_none() && given_up.next().is_none(),
            "{began:?}"
        );
        let next = self.messages.values().filter_map(Message::due).min();
        // What is due and was not asked for is due now.
        assert_eq!(began.next, next.map(|next| at(next.max(self.now))));
    }
}

async fn check(spool: &SqliteSpool, model: &Model) {
    let listed = spool.list(Filter::default()).await.unwrap();
    let found: Vec<_> = listed.iter().map(|one| one.id).collect();
    let wanted: Vec<_> = model.messages.keys().copied().collect();
    assert_eq!(found, wanted);
    for one in listed {
        let wanted = &model.messages[&one.id];
        assert_eq!(one.due_at, wanted.due().map(at), "{}", one.id);
        let shown = spool.show(one.id).await.unwrap().unwrap();
        for (found, wanted) in shown.recipients.iter().zip(&wanted.recipients) {
            assert_eq!(found.state.kind(), wanted.state, "{}", one.id);
            assert_eq!(found.attempts, wanted.attempts, "{}", one.id);
        }
        assert_eq!(shown.recipients.len(), wanted.recipients.len());
    }
}

async fn story(deeds: &[Deed], on_disk: bool) {
    let dir = crate::support::directory();
    let brief = SpoolSettings {
        retention: seconds(60),
        idempotency_window: seconds(45),
        ..settings()
    };
    let open = || {
        if on_disk {
            SqliteSpool::open(dir.path(), brief.clone()).unwrap()
        } else {
            SqliteSpool::in_memory(brief.clone()).unwrap()
        }
    };
    let mut spool = open();
    let mut me = spool.join("one", at(0)).await.unwrap();
    let mut model = Model::default();
    for deed in deeds {
        one(&spool, me.id(), &mut model, deed).await;
        let now = at(model.now);
        if matches!(deed, Deed::Die) || on_disk && matches!(deed, Deed::Reopen) {
            drop(me);
            if on_disk {
                drop(spool);
                spool = open();
            }
            let recovered = spool.recover(now).await.unwrap();
            let mut count = 0;
            for one in model.messages.values_mut() {
                for to in &mut one.recipients {
                    if to.state == StateKind::Sending {
                        to.state = StateKind::Unknown;
                        count += 1;
                    }
                }
            }
            let found: usize = recovered.iter().map(|one| one.transitions.len()).sum();
            assert_eq!(found, count);
            me = spool.join("one", now).await.unwrap();
        }
        check(&spool, &model).await;
    }
    for (id, one) in &model.messages {
        let body = spool.stored(*id).await.unwrap();
        assert!(octets(&body).await.unwrap() == one.body);
    }
    let under_way = model.messages.values().flat_map(|one| &one.recipients);
    let leases: std::collections::BTreeSet<_> = under_way
        .filter(|to| to.state == StateKind::Sending)
        .filter_map(|to| to.lease)
        .collect();
    let state = spool.account_state("a", at(model.now)).await.unwrap();
    assert_eq!(state.under_way, u64::try_from(leases.len()).unwrap());
}

async fn one(spool: &SqliteSpool, me: HolderId, model: &mut Model, deed: &Deed) {
    let now = model.now;
    let which = |index: &prop::sample::Index, model: &Model| {
        (!model.names.is_empty()).then(|| *index.get(&model.names))
    };
    match deed {
        Deed::Accept {
            priority,
            recipients,
            later,
            expires,
            key,
            large,
        } => {
            let to: Vec<String> = (0..*recipients)
                .map(|n| format!("r{n}@example.org"))
                .collect();
            let body = vec![u8::try_from(now % 251).unwrap(); if *large { 66_000 } else { 100 }];
            let new = NewMessage {
                recipients: to.into_iter().map(Into::into).collect(),
                body: body.clone().into(),
                priority: Priority::ALL[*priority],
                send_at: later.map(|later| at(now + later)),
                expires_at: expires.map(|expires| at(now + expires)),
                idempotency_key: key.map(|key| key.to_string()),
                ..message(&[])
            };
            let accepted = spool.accept(new, at(now)).await.unwrap();
            let known = key.and_then(|key| model.keys.get(&key).copied());
            let known = known.filter(|(_, then)| now - then < WINDOW);
            assert_eq!(accepted.duplicate, known.is_some());
            if let Some((first, then)) = known {
                assert_eq!((accepted.id, accepted.accepted_at), (first, at(then)));
                return;
            }
            if let Some(key) = key {
                model.keys.insert(*key, (accepted.id, now));
            }
            let recipient = Recipient {
                state: StateKind::Queued,
                due: now + later.unwrap_or(0),
                lease: None,
                attempts: 0,
            };
            let added = Message {
                priority: *priority,
                later: later.map(|later| now + later),
                expires: expires.map(|expires| now + expires),
                done: None,
                body,
                recipients: vec![recipient; *recipients],
            };
            assert!(model.messages.insert(accepted.id, added).is_none());
            model.names.push(accepted.id);
        }
        Deed::Begin {
            at_most,
            per_message,
        } => {
            let wanted = Begin {
                at_most: *at_most,
                recipients_per_message: Some(*per_message),
                ..ask(me, at(now))
            };
            let began = spool.begin(wanted).await.unwrap();
            model.check_began(&began, *at_most, usize::try_from(*per_message).unwrap());
            model.claims.extend(began.claims);
        }
        Deed::Settle(index, how) => {
            if !model.claims.is_empty() {
                let claim = index.get(&model.claims).clone();
                settle_one(spool, model, &claim, *how).await;
            }
        }
        Deed::Retry(index) | Deed::Hold(index) | Deed::Release(index) | Deed::Remove(index) => {
            if let Some(id) = which(index, model) {
                by_hand(spool, model, deed, id).await;
            }
        }
        Deed::Expire => {
            spool.expire(Vec::new(), at(now)).await.unwrap();
            let over = model.messages.iter();
            let over = over.filter(|(_, one)| one.due().is_some());
            let over = over.filter(|(_, one)| one.expires.is_some_and(|at| at <= now));
            for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
                model.fail_waiting(id);
            }
        }
        Deed::Tidy => {
            while spool.tidy(at(now)).await.unwrap().more {}
            let over = |one: &Message| one.done.is_some_and(|done| done <= now - RETENTION);
            model.messages.retain(|_, one| !over(one));
        }
        Deed::Wait(wait) => model.now += wait,
        Deed::Die | Deed::Reopen => {}
    }
}

async fn settle_one(spool: &SqliteSpool, model: &mut Model, claim: &Claim, how: How) {
    let now = model.now;
    let why = || "x".to_owned();
    let (outcome, state) = match how {
        How::Delivered => (delivered(), StateKind::Delivered),
        How::Deferred(wait) => (deferred(at(now + wait)), StateKind::Deferred),
        How::Failed => (Outcome::Failed { why: why() }, StateKind::Failed),
        How::Held => (Outcome::Held { why: why() }, StateKind::Held),
        How::Unknown => (Outcome::Unknown { why: why() }, StateKind::Unknown),
        How::Returned => (Outcome::Returned, StateKind::Queued),
    };
    let told = told_of(claim.id, claim.lease, &addresses(claim), &outcome);
    let settled = spool.settle(vec![told], at(now)).await.unwrap().remove(0);
    let mut changed = 0;
    if let Some(one) = model.messages.get_mut(&claim.id) {
        for to in &mut one.recipients {
            let open = matches!(to.state, StateKind::Sending | StateKind::Unknown);
            if to.lease != Some(claim.lease) || !open {
                continue;
            }
            changed += 1;
            to.state = state;
            match how {
                How::Deferred(wait) => to.due = now + wait,
                How::Returned => to.attempts -= 1,
                _ => {}
            }
        }
        if changed > 0 {
            one.look(now);
            assert_eq!(settled.finished, one.done.is_some());
        }
    }
    assert_eq!(settled.transitions.len(), changed);
    assert_eq!(settled.fenced.len(), claim.recipients.len() - changed);
}

async fn by_hand(spool: &SqliteSpool, model: &mut Model, deed: &Deed, id: QueueId) {
    let now = model.now;
    let select = Select::Ids(vec![id]);
    let changed = match deed {
        Deed::Retry(_) => spool.retry(select, at(now)).await.unwrap(),
        Deed::Hold(_) => spool.hold(select, "by hand", at(now)).await.unwrap(),
        Deed::Release(_) => spool.release(select, at(now)).await.unwrap(),
        _ => spool.remove(select).await.unwrap(),
    };
    let mut wanted = 0;
    let Some(one) = model.messages.get_mut(&id) else {
        assert_eq!(changed, 0);
        return;
    };
    if matches!(deed, Deed::Remove(_)) {
        if !one.sends() {
            model.messages.remove(&id);
            wanted = 1;
        }
        assert_eq!(changed, wanted);
        return;
    }
    let later = one.later;
    for to in &mut one.recipients {
        let state = to.state;
        match deed {
            Deed::Hold(_) if to.waits() => to.state = StateKind::Held,
            Deed::Release(_) if state == StateKind::Held => {
                let first = if to.attempts == 0 { later } else { None };
                to.due = first.map_or(now, |later| later.max(now));
                to.state = StateKind::Queued;
                to.lease = None;
            }
            Deed::Retry(_)
                if matches!(
                    state,
                    StateKind::Deferred | StateKind::Held | StateKind::Failed | StateKind::Unknown
                ) =>
            {
                to.due = now;
                to.state = StateKind::Queued;
                to.lease = None;
            }
            _ => continue,
        }
        wanted = 1;
    }
    assert_eq!(changed, wanted);
    if wanted == 1 && !matches!(deed, Deed::Hold(_)) {
        one.renew(now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_done_the_queue_is_as_a_simple_one(
        deeds in proptest::collection::vec(deed(), 1..60),
        on_disk in proptest::bool::weighted(0.3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(story(&deeds, on_disk));
    }
}
