//! A store that counts as at work while it is asked for something: whoever moves a clock by hand
//! waits for it.

use std::sync::Arc;

use futures_util::future::FutureExt as _;
use jiff::Timestamp;
use postrider_spool::{
    Accepted, AccountState, Aged, Answer, Back, Began, Begin, BodyWriter, Changes, Due, Filter,
    Holder, HolderId, Listed, NewMessage, Pace, QueueId, Recovered, Select, Settled, Settlement,
    Shown, Slot, Stats, Store, StoredBody, Tidied, Turn,
};
use tokio::io::AsyncWrite;

use crate::lua::Activity;

pub(super) struct Counted {
    store: Arc<dyn Store>,
    activity: Activity,
}

impl Counted {
    pub(super) fn new(store: Arc<dyn Store>, activity: Activity) -> Self {
        Self { store, activity }
    }
}

macro_rules! counted {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {$(
        fn $name(&self, $($argument: $kind),*) -> Answer<'_, $answer> {
            let busy = self.activity.begin();
            let answer = self.store.$name($($argument),*);
            async move {
                let _busy = busy;
                answer.await
            }
            .boxed()
        }
    )*};
}

impl Store for Counted {
    counted! {
        accept(message: NewMessage, now: Timestamp) -> Accepted;
        begin(begin: Begin) -> Began;
        settle(settlements: Vec<Settlement>, now: Timestamp) -> Vec<Settled>;
        slot(account: &str, holder: HolderId, at_most: u32, now: Timestamp) -> Option<Slot>;
        turn(account: &str, holder: HolderId, pace: Pace, recipients: u32, now: Timestamp) -> Turn;
        join(name: &str, now: Timestamp) -> Holder;
        heartbeat(holder: HolderId, now: Timestamp) -> ();
        leave(holder: HolderId) -> ();
        recover(now: Timestamp) -> Vec<Recovered>;
        back_off(account: &str, back: Option<Back>, now: Timestamp) -> ();
        account_state(account: &str, now: Timestamp) -> AccountState;
        next_due(now: Timestamp) -> Vec<Due>;
        expire(aged: Vec<Aged>, now: Timestamp) -> Vec<Settled>;
        list(filter: Filter) -> Vec<Listed>;
        show(id: QueueId) -> Option<Shown>;
        stats() -> Stats;
        stored(id: QueueId) -> StoredBody;
        retry(select: Select, now: Timestamp) -> u64;
        hold(select: Select, why: &str, now: Timestamp) -> u64;
        release(select: Select, now: Timestamp) -> u64;
        remove(select: Select) -> u64;
        tidy(now: Timestamp) -> Tidied;
        look() -> bool;
    }

    fn body(&self) -> Box<dyn BodyWriter> {
        self.store.body()
    }

    fn export<'a>(
        &'a self,
        id: QueueId,
        into: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> Answer<'a, u64> {
        self.store.export(id, into)
    }

    fn changes(&self) -> Changes {
        self.store.changes()
    }
}
