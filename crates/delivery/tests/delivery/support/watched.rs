//! A store that counts what it is asked, and knows when it is asked nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use postrider_spool::{
    Accepted, AccountState, Aged, Answer, Back, Began, Begin, BodyWriter, Changes, Due, Filter,
    Holder, HolderId, Listed, NewMessage, Pace, QueueId, Recovered, Select, Settled, Settlement,
    Shown, Slot, SpoolError, SpoolErrorKind, SqliteSpool, Stats, Store, StoredBody, Tidied, Turn,
};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

pub(crate) struct Watched {
    inner: SqliteSpool,
    under_way: Arc<UnderWay>,
    calls: Mutex<BTreeMap<&'static str, u64>>,
    /// Calls that fail, by name.
    failing: Mutex<Vec<&'static str>>,
}

#[derive(Default)]
struct UnderWay {
    count: AtomicUsize,
    fewer: Notify,
}

struct Call(Arc<UnderWay>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        self.0.fewer.notify_one();
    }
}

impl Watched {
    pub(crate) fn new(inner: SqliteSpool) -> Arc<Self> {
        Arc::new(Self {
            inner,
            under_way: Arc::default(),
            calls: Mutex::default(),
            failing: Mutex::default(),
        })
    }

    /// How often each was asked, from now on counted anew.
    pub(crate) fn take_calls(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// Lets these fail until further notice.
    pub(crate) fn fail(&self, names: &[&'static str]) {
        *self.failing.lock().unwrap() = names.to_vec();
    }

    /// Waits until nothing is asked any more.
    pub(crate) async fn is_quiet(&self) {
        let mut quiet = 0;
        while quiet < 30 {
            if self.under_way.count.load(Ordering::SeqCst) > 0 {
                self.under_way.fewer.notified().await;
                quiet = 0;
            }
            tokio::task::yield_now().await;
            quiet += 1;
        }
    }

    fn watch<'a, T: Send + 'a>(
        &self,
        name: &'static str,
        ask: impl FnOnce() -> Answer<'a, T>,
    ) -> Answer<'a, T> {
        *self.calls.lock().unwrap().entry(name).or_default() += 1;
        if self.failing.lock().unwrap().contains(&name) {
            let error = SpoolError::new(SpoolErrorKind::Full, "no space left");
            return async { Err(error) }.boxed();
        }
        self.under_way.count.fetch_add(1, Ordering::SeqCst);
        let call = Call(Arc::clone(&self.under_way));
        let asked = ask();
        async move {
            let _call = call;
            asked.await
        }
        .boxed()
    }
}

impl Store for Watched {
    fn accept(&self, message: NewMessage, now: Timestamp) -> Answer<'_, Accepted> {
        self.watch("accept", || self.inner.accept(message, now))
    }
    fn body(&self) -> Box<dyn BodyWriter> {
        self.inner.body()
    }
    fn begin(&self, begin: Begin) -> Answer<'_, Began> {
        self.watch("begin", || self.inner.begin(begin))
    }
    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> Answer<'_, Vec<Settled>> {
        self.watch("settle", || self.inner.settle(settlements, now))
    }
    fn slot(
        &self,
        account: &str,
        holder: HolderId,
        at_most: u32,
        now: Timestamp,
    ) -> Answer<'_, Option<Slot>> {
        self.watch("slot", || self.inner.slot(account, holder, at_most, now))
    }
    fn turn(
        &self,
        account: &str,
        holder: HolderId,
        pace: Pace,
        recipients: u32,
        now: Timestamp,
    ) -> Answer<'_, Turn> {
        self.watch("turn", || {
            self.inner.turn(account, holder, pace, recipients, now)
        })
    }
    fn join(&self, name: &str, now: Timestamp) -> Answer<'_, Holder> {
        self.watch("join", || self.inner.join(name, now))
    }
    fn heartbeat(&self, holder: HolderId, now: Timestamp) -> Answer<'_, ()> {
        self.watch("heartbeat", || self.inner.heartbeat(holder, now))
    }
    fn leave(&self, holder: HolderId) -> Answer<'_, ()> {
        self.watch("leave", || self.inner.leave(holder))
    }
    fn recover(&self, now: Timestamp) -> Answer<'_, Vec<Recovered>> {
        self.watch("recover", || self.inner.recover(now))
    }
    fn back_off(&self, account: &str, back: Option<Back>, now: Timestamp) -> Answer<'_, ()> {
        self.watch("back_off", || self.inner.back_off(account, back, now))
    }
    fn account_state(&self, account: &str, now: Timestamp) -> Answer<'_, AccountState> {
        self.watch("account_state", || self.inner.account_state(account, now))
    }
    fn next_due(&self, now: Timestamp) -> Answer<'_, Vec<Due>> {
        self.watch("next_due", || self.inner.next_due(now))
    }
    fn expire(&self, aged: Vec<Aged>, now: Timestamp) -> Answer<'_, Vec<Settled>> {
        self.watch("expire", || self.inner.expire(aged, now))
    }
    fn list(&self, filter: Filter) -> Answer<'_, Vec<Listed>> {
        self.watch("list", || self.inner.list(filter))
    }
    fn show(&self, id: QueueId) -> Answer<'_, Option<Shown>> {
        self.watch("show", || self.inner.show(id))
    }
    fn stats(&self) -> Answer<'_, Stats> {
        self.watch("stats", || self.inner.stats())
    }
    fn stored(&self, id: QueueId) -> Answer<'_, StoredBody> {
        self.watch("stored", || self.inner.stored(id))
    }
    fn export<'a>(
        &'a self,
        id: QueueId,
        into: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> Answer<'a, u64> {
        self.watch("export", || self.inner.export(id, into))
    }
    fn retry(&self, select: Select, now: Timestamp) -> Answer<'_, u64> {
        self.watch("retry", || self.inner.retry(select, now))
    }
    fn hold(&self, select: Select, why: &str, now: Timestamp) -> Answer<'_, u64> {
        self.watch("hold", || self.inner.hold(select, why, now))
    }
    fn release(&self, select: Select, now: Timestamp) -> Answer<'_, u64> {
        self.watch("release", || self.inner.release(select, now))
    }
    fn remove(&self, select: Select) -> Answer<'_, u64> {
        self.watch("remove", || self.inner.remove(select))
    }
    fn tidy(&self, now: Timestamp) -> Answer<'_, Tidied> {
        self.watch("tidy", || self.inner.tidy(now))
    }
    fn look(&self) -> Answer<'_, bool> {
        self.watch("look", || self.inner.look())
    }
    fn changes(&self) -> Changes {
        self.inner.changes()
    }
}
