//! One account's sessions, while it has mail that is due.
//!
//! The first session shows whether the server is there; each time the store has more than the
//! sessions can take, one more opens beside them. Accounts are driven side by side, each by its
//! own task: one that waits for its server holds up nobody.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use postrider_spool::{AT_ONCE, Begin, Outcome, Pace, Recipient, Settlement, Slot};

use crate::account::{Account, Answer};
use crate::ledger::Entry;
use crate::route::Route;
use crate::session::{self, End};
use crate::shared::Shared;
use crate::throttle::later;

/// Sends what is due of an account; what the store said last stays with the account.
pub(crate) async fn drive(shared: Arc<Shared>, account: Arc<Account>) {
    match shared
        .store
        .account_state(&account.name, shared.now())
        .await
    {
        Ok(state) => account.take_over(state.back_off.as_ref(), shared.now()),
        Err(error) => {
            shared.sink.trouble(&error);
            account.answered(Answer::failed(shared.now()));
            return;
        }
    }
    let mut running = FuturesUnordered::new();
    let mut wanted = true;
    loop {
        let may_begin = shared.may_begin() && account.paused(shared.now()).is_none();
        if wanted && may_begin {
            wanted = false;
            let Some(route) = shared.routes.route(&account.name) else {
                hold_all(&shared, &account).await;
                return;
            };
            let limits = route.limits();
            if running.len() < account.sessions(limits.sessions)
                && let Some(slot) = place(&shared, &account, &*route, limits.sessions).await
            {
                let (shared, account) = (Arc::clone(&shared), Arc::clone(&account));
                running.push(async move {
                    let end = session::run(&shared, &account, &*route).await;
                    let now = shared.now();
                    if !limits.linger.is_zero() && !route.counts_sessions() {
                        account.linger(slot, later(now, limits.linger));
                    }
                    end
                });
            }
        }
        tokio::select! {
            end = running.next() => match end {
                // A pause, if one came of it, stands against another session.
                Some(End::CutShort) => wanted = true,
                Some(End::Idle) => account.answered(Answer::failed(shared.now())),
                Some(End::Drained) => {}
                None => return,
            },
            () = account.more.notified(), if !running.is_empty() => wanted = true,
        }
    }
}

/// Room for a session: one that waits in the route's pool, or a new one. None, while other
/// processes have them all.
async fn place(
    shared: &Shared,
    account: &Account,
    route: &dyn Route,
    at_most: u32,
) -> Option<Slot> {
    if route.counts_sessions() {
        return Some(Slot::new(|| {}));
    }
    let now = shared.now();
    if let Some(slot) = account.take_lingering(now) {
        return Some(slot);
    }
    let holder = shared.holder();
    let slot = shared
        .store
        .slot(&account.name, holder, at_most.max(1), now)
        .await;
    let slot = slot.unwrap_or_else(|error| {
        shared.sink.trouble(&error);
        None
    });
    if slot.is_none() {
        account.answered(Answer::failed(now));
    }
    slot
}

/// Nobody knows this account, or not any more: its mail waits for a person.
async fn hold_all(shared: &Shared, account: &Account) {
    let why = format!("there is no account {:?}", account.name);
    while shared.may_begin() {
        let all = Begin {
            holder: shared.holder(),
            account: account.name.clone(),
            at_most: AT_ONCE,
            recipients_per_message: None,
            pace: Pace::default(),
            now: shared.now(),
        };
        let began = match shared.store.begin(all).await {
            Ok(began) => began,
            Err(error) => {
                shared.sink.trouble(&error);
                account.answered(Answer::failed(shared.now()));
                return;
            }
        };
        account.began(&began);
        if began.claims.is_empty() {
            return;
        }
        for claim in began.claims {
            shared.began(&account.name, &claim);
            let held = |one: Recipient| (one.address, Outcome::Held { why: why.clone() });
            let settlement = Settlement {
                id: claim.id,
                lease: claim.lease,
                recipients: claim.recipients.into_iter().map(held).collect(),
            };
            shared.write(Entry::Settle(settlement, Vec::new()));
        }
    }
}
