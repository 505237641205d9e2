//! The steps of a renewal, over whatever registers, proves and keeps.
//!
//! The invariants: what the vault has in use was accepted by the provider; what is in use or was
//! in use until now is removed only after its successor was proved and put in its place; what a
//! broken-off attempt made is found by its mark, removed and mentioned. Whoever dies between any
//! two steps, the same order again goes on from the last that is in the journal.

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};

use super::journal::{Journal, New, Old, Phase, Renewable, Settled};
use crate::failure::Failure;

/// How long a new one may be refused before somebody is told. Entra ID says nowhere how long it
/// takes until a new secret is known everywhere (unconfirmed: minutes were seen); this is
/// long enough for that and short enough for somebody who waits at a terminal.
const PATIENCE: Duration = Duration::from_mins(5);
/// The pauses between attempts: the first…
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// …and the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the provider has registered.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) key_id: String,
    /// Its display name.
    pub(super) mark: Option<String>,
}

/// All that is registered, and the id of the one that was asked about, where that can be told.
pub(super) struct Listed {
    pub(super) all: Vec<Registered>,
    pub(super) known: Option<String>,
}

/// The provider's list of an application's secrets or certificates.
pub(super) trait Registry: Send + Sync {
    /// All there are, and which of them `value` is.
    fn list<'a>(&'a self, value: &'a SecretString) -> BoxFuture<'a, Result<Listed, Failure>>;

    /// What is made here and not there: a certificate with its key. A client secret is not.
    fn prepare(
        &self,
        now: Timestamp,
        ends: Timestamp,
    ) -> BoxFuture<'_, Result<Option<SecretString>, Failure>>;

    /// Registers a new one under this display name: what was prepared, or one of its own. The
    /// same prepared one twice is one.
    fn add<'a>(
        &'a self,
        mark: &'a str,
        ends: Timestamp,
        prepared: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<New, Failure>>;

    /// Removes one. That it is not there is no error.
    fn remove<'a>(&'a self, key_id: &'a str) -> BoxFuture<'a, Result<(), Failure>>;
}

/// Why a secret was not seen to work.
pub(super) enum Unproved {
    /// The provider does not know it, or not yet.
    Refused(Failure),
    /// Something else.
    Failed(Failure),
}

/// Sees whether a secret works: a token, and `AUTH` with it.
pub(super) trait Prover: Send + Sync {
    fn prove<'a>(&'a self, value: &'a SecretString) -> BoxFuture<'a, Result<(), Unproved>>;
}

/// The vault.
pub(super) trait Keep: Send + Sync {
    fn journal(&self) -> Result<Option<Journal>, Failure>;
    fn write(&self, journal: &Journal) -> Result<(), Failure>;
    /// What is in use, and until when it is.
    fn in_use(&self) -> Result<Option<(SecretString, Option<Timestamp>)>, Failure>;
    /// Puts another in its place, all or nothing.
    fn replace(&self, value: &SecretString, ends: Option<Timestamp>) -> Result<(), Failure>;
    /// Nothing but `value` is needed any more: what else there is of the one before goes.
    fn settle(&self, value: &SecretString, ends: Option<Timestamp>) -> Result<(), Failure>;
}

/// The time, and waiting.
pub(super) trait Time: Send + Sync {
    fn now(&self) -> Timestamp;
    fn sleep(&self, how_long: Duration) -> BoxFuture<'_, ()>;
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A new one, if none is under way, or what is under way to its end.
    Renew {
        lifetime: SignedDuration,
        overlap: SignedDuration,
    },
    /// What is under way to its end, the overlap cut short.
    Finish,
    /// What is under way undone.
    Abort,
    /// What is under way, as far as it may go now.
    GoOn,
}

/// What a run may say while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// One is being made at the provider.
    Making,
    /// It is tried.
    Proving,
    /// The provider does not accept it yet; tried again after so long.
    NotAccepted(Duration),
    /// It is in use.
    Switched,
    /// The old one is being removed.
    Removing,
}

/// Where a run has left everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// Nothing was under way.
    Nothing,
    /// The new one is in use; the old one is kept until then.
    Switched(Timestamp),
    /// The new one is in use and the old one is gone.
    Finished,
    /// The one before is in use and the new one is gone.
    Aborted,
}

/// The same, with all that is to be said.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) reached: Reached,
    /// Of the new one.
    pub(super) key_id: Option<String>,
    pub(super) ends: Option<Timestamp>,
    /// Of the one before.
    pub(super) old_key_id: Option<String>,
    /// What a broken-off attempt had left, and this or an earlier run has removed.
    pub(super) orphans: Vec<String>,
    /// Whether the one before may still be registered, for nobody could tell which it is.
    pub(super) old_is_left: bool,
}

/// One run.
pub(super) struct Machine<'a> {
    pub(super) registry: &'a dyn Registry,
    pub(super) prover: &'a dyn Prover,
    pub(super) keep: &'a dyn Keep,
    pub(super) time: &'a dyn Time,
    pub(super) what: Renewable,
    /// A display name nobody else uses, should one be needed.
    pub(super) fresh_mark: String,
    /// Hears how it goes.
    pub(super) progress: &'a (dyn Fn(Progress) + Send + Sync),
    /// Passed after each step: a test dies there.
    pub(super) step: &'a (dyn Fn(&str) + Send + Sync),
}

impl Machine<'_> {
    /// Goes as far as the order allows.
    pub(super) async fn run(&self, order: Order) -> Result<Outcome, Failure> {
        let found = self.keep.journal()?;
        let under_way = found.as_ref().is_some_and(|one| one.phase != Phase::Rest);
        let mut journal = match (found, order) {
            (Some(journal), _) if under_way => {
                if journal.what != self.what {
                    return Err(Failure::new(
                        "secret.renewal_differs",
                        format!(
                            "a renewal of its {} is under way, and the account has a {} now",
                            journal.what.setting(),
                            self.what.setting()
                        ),
                    )
                    .with_remedy("give the account back what it had, finish, then change it"));
                }
                journal
            }
            (found, Order::Renew { lifetime, overlap }) => {
                self.begin(found, lifetime, overlap).await?
            }
            (found, _) => return Ok(nothing(found.as_ref())),
        };
        if order == Order::Abort && journal.phase != Phase::Reverting {
            self.turn_back(&mut journal).await?;
        }
        loop {
            match journal.phase {
                Phase::Intended => self.make(&mut journal).await?,
                Phase::Made => self.prove(&mut journal).await?,
                Phase::Proved => self.switch(&mut journal)?,
                Phase::Switched => {
                    let due = journal.remove_after.unwrap_or(Timestamp::MIN);
                    if order != Order::Finish && self.time.now() < due {
                        return Ok(outcome(Reached::Switched(due), &journal));
                    }
                    return self.retire(&mut journal).await;
                }
                Phase::Reverting => return self.revert(&mut journal).await,
                Phase::Rest => return Ok(nothing(Some(&journal))),
            }
        }
    }

    /// Writes down what is about to be made.
    async fn begin(
        &self,
        earlier: Option<Journal>,
        lifetime: SignedDuration,
        overlap: SignedDuration,
    ) -> Result<Journal, Failure> {
        let Some((value, ends)) = self.keep.in_use()? else {
            return Err(Failure::new(
                "secret.missing",
                format!("the vault has no {} to renew yet", self.what.setting()),
            ));
        };
        let settled = earlier.as_ref().and_then(|one| one.settled.clone());
        let Listed { all, known } = self.registry.list(&value).await?;
        let by_journal = settled
            .as_ref()
            .and_then(|settled| settled.key_id_of(&value))
            .map(str::to_owned);
        let now = self.time.now();
        let mut journal = Journal {
            phase: Phase::Intended,
            what: self.what,
            mark: self.fresh_mark.clone(),
            began: now,
            wanted_end: now.checked_add(lifetime).unwrap_or(Timestamp::MAX),
            overlap,
            old: Some(Old {
                key_id: by_journal.or(known),
                value,
                ends,
            }),
            new: None,
            remove_after: None,
            orphans: Vec::new(),
            carried: Vec::new(),
            settled,
        };
        if let Some(mut earlier) = earlier {
            // An answer that was lost the last time may have come true after the last look.
            if let Some(Old {
                key_id: Some(spared),
                ..
            }) = &journal.old
            {
                let left = marked(&all, &earlier.mark, Some(spared));
                self.sweep(&mut earlier, left).await?;
            }
            // Whoever ended it may not have lived to mention them.
            journal.carried = earlier.orphans;
        }
        if let Some(prepared) = self.registry.prepare(now, journal.wanted_end).await? {
            journal.new = Some(New {
                key_id: None,
                value: prepared,
                ends: journal.wanted_end,
            });
        }
        self.keep.write(&journal)?;
        (self.step)("intended");
        Ok(journal)
    }

    /// Has the new one made. Of a secret that an earlier attempt made nobody has the text.
    async fn make(&self, journal: &mut Journal) -> Result<(), Failure> {
        (self.progress)(Progress::Making);
        let prepared = journal.new.as_ref().map(|new| new.value.clone());
        if prepared.is_none() {
            let Listed { all, .. } = self.registry.list(old_value(journal)?).await?;
            let left = marked(&all, &journal.mark, None);
            self.sweep(journal, left).await?;
        }
        let new = self
            .registry
            .add(&journal.mark, journal.wanted_end, prepared.as_ref())
            .await?;
        (self.step)("added");
        let key_id = new.key_id.clone();
        journal.new = Some(new);
        journal.phase = Phase::Made;
        if let Err(failure) = self.keep.write(journal) {
            if let (None, Some(key_id)) = (&prepared, key_id) {
                // Should this fail, too, the mark still leads to it.
                let _ = self.registry.remove(&key_id).await;
            }
            return Err(failure);
        }
        (self.step)("made");
        Ok(())
    }

    /// Sees the new one work.
    async fn prove(&self, journal: &mut Journal) -> Result<(), Failure> {
        (self.progress)(Progress::Proving);
        let value = new_of(journal)?.value.clone();
        let (mut waited, mut pause) = (Duration::ZERO, FIRST_PAUSE);
        loop {
            let refused = match self.prover.prove(&value).await {
                Ok(()) => break,
                Err(Unproved::Failed(failure)) => return Err(failure),
                Err(Unproved::Refused(failure)) => failure,
            };
            if waited + pause > PATIENCE {
                return Err(self.not_accepted(journal, &refused).await?);
            }
            (self.progress)(Progress::NotAccepted(pause));
            self.time.sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        (self.step)("seen");
        journal.phase = Phase::Proved;
        self.keep.write(journal)?;
        (self.step)("proved");
        Ok(())
    }

    /// It is refused for too long. If somebody has removed it meanwhile, another is made the next
    /// time.
    async fn not_accepted(
        &self,
        journal: &mut Journal,
        refused: &Failure,
    ) -> Result<Failure, Failure> {
        let key_id = new_of(journal)?.key_id.clone();
        let gone = match self.registry.list(old_value(journal)?).await {
            Ok(Listed { all, .. }) => {
                key_id.is_some_and(|id| !all.iter().any(|one| one.key_id == id))
            }
            Err(_) => false,
        };
        if gone {
            if journal.what == Renewable::ClientSecret {
                journal.new = None;
            }
            journal.phase = Phase::Intended;
            self.keep.write(journal)?;
        }
        let (why, remedy) = if gone {
            (
                "it is no longer registered there",
                "run the same again: it makes another",
            )
        } else {
            (
                "the one before is still in use",
                "run the same again later: it goes on from here; or give it up with --abort",
            )
        };
        let failure = Failure::new(
            "secret.not_accepted",
            format!(
                "the new {} is not accepted yet, and {why}: {}",
                journal.what.setting(),
                refused.message
            ),
        );
        Ok(failure.with_remedy(remedy).retryable())
    }

    /// Puts the new one in the place of the old one.
    fn switch(&self, journal: &mut Journal) -> Result<(), Failure> {
        let new = new_of(journal)?.clone();
        let in_use = self.keep.in_use()?.map(|(value, _)| value);
        if !is(in_use.as_ref(), &new.value) {
            if !is(in_use.as_ref(), old_value(journal)?) {
                return Err(changed(journal));
            }
            self.keep.replace(&new.value, Some(new.ends))?;
            (self.step)("replaced");
        }
        let now = self.time.now();
        journal.phase = Phase::Switched;
        journal.remove_after = Some(now.checked_add(journal.overlap).unwrap_or(Timestamp::MAX));
        self.keep.write(journal)?;
        (self.progress)(Progress::Switched);
        (self.step)("switched");
        Ok(())
    }

    /// Removes the old one, and whatever else is left.
    async fn retire(&self, journal: &mut Journal) -> Result<Outcome, Failure> {
        let said = outcome(Reached::Finished, journal);
        let new = new_of(journal)?.clone();
        let in_use = self.keep.in_use()?.map(|(value, _)| value);
        if !is(in_use.as_ref(), &new.value) {
            return Err(changed(journal));
        }
        (self.progress)(Progress::Removing);
        let Listed { all, known } = self.registry.list(old_value(journal)?).await?;
        let left = marked(&all, &journal.mark, new.key_id.as_deref());
        self.sweep(journal, left).await?;
        let old = journal.old.as_ref().and_then(|old| old.key_id.clone());
        let old = old.or(known).filter(|id| Some(id) != new.key_id.as_ref());
        if let Some(key_id) = &old {
            self.registry.remove(key_id).await?;
            (self.step)("removed");
        }
        self.keep.settle(&new.value, Some(new.ends))?;
        (self.step)("settled");
        let settled = new.key_id.as_deref();
        self.rest(journal, settled.map(|id| Settled::new(id, &new.value)))?;
        (self.step)("finished");
        Ok(Outcome {
            orphans: mentioned(journal),
            old_is_left: old.is_none(),
            old_key_id: old,
            ..said
        })
    }

    /// Decides to go back, if there is anything to go back to.
    async fn turn_back(&self, journal: &mut Journal) -> Result<(), Failure> {
        let in_use = self.keep.in_use()?.map(|(value, _)| value);
        if journal.phase == Phase::Switched
            && is(in_use.as_ref(), &new_of(journal)?.value)
            && let Err(Unproved::Refused(failure) | Unproved::Failed(failure)) =
                self.prover.prove(old_value(journal)?).await
        {
            return Err(Failure::new(
                "secret.cannot_abort",
                format!(
                    "the {} before was not seen to work, so the new one stays: {}",
                    journal.what.setting(),
                    failure.message
                ),
            )
            .with_remedy("leave the new one in use; --finish removes the one before"));
        }
        journal.phase = Phase::Reverting;
        self.keep.write(journal)?;
        (self.step)("turned");
        Ok(())
    }

    /// Puts the old one back, and removes the new one.
    async fn revert(&self, journal: &mut Journal) -> Result<Outcome, Failure> {
        let (old, old_ends) = match &journal.old {
            Some(old) => (old.value.clone(), old.ends),
            None => return Err(incomplete()),
        };
        let new = journal.new.clone();
        let in_use = self.keep.in_use()?.map(|(value, _)| value);
        if let Some(new) = &new
            && is(in_use.as_ref(), &new.value)
        {
            self.keep.replace(&old, old_ends)?;
            (self.step)("restored");
        }
        let said = outcome(Reached::Aborted, journal);
        let Listed { all, known } = self.registry.list(&old).await?;
        let own = new.and_then(|new| new.key_id);
        let left = marked(&all, &journal.mark, own.as_deref());
        self.sweep(journal, left).await?;
        if let Some(key_id) = &own {
            self.registry.remove(key_id).await?;
            (self.step)("removed");
        }
        let key_id = journal.old.as_ref().and_then(|old| old.key_id.clone());
        let settled = key_id.or(known).map(|id| Settled::new(&id, &old));
        self.rest(journal, settled)?;
        (self.step)("finished");
        Ok(Outcome {
            orphans: mentioned(journal),
            ..said
        })
    }

    /// Removes what nobody knows the text of; each is noted before.
    async fn sweep(&self, journal: &mut Journal, left: Vec<String>) -> Result<(), Failure> {
        for key_id in left {
            if !journal.orphans.contains(&key_id) {
                journal.orphans.push(key_id.clone());
                self.keep.write(journal)?;
                (self.step)("noted");
            }
            self.registry.remove(&key_id).await?;
            (self.step)("swept");
        }
        Ok(())
    }

    /// Nothing is under way any more, and no secret is kept for it.
    fn rest(&self, journal: &mut Journal, settled: Option<Settled>) -> Result<(), Failure> {
        journal.phase = Phase::Rest;
        journal.old = None;
        journal.new = None;
        journal.remove_after = None;
        journal.settled = settled.or_else(|| journal.settled.take());
        self.keep.write(journal)
    }
}

/// Ids of all that has this mark, but one.
fn marked(all: &[Registered], mark: &str, spared: Option<&str>) -> Vec<String> {
    all.iter()
        .filter(|one| one.mark.as_deref() == Some(mark) && Some(&*one.key_id) != spared)
        .map(|one| one.key_id.clone())
        .collect()
}

fn is(in_use: Option<&SecretString>, value: &SecretString) -> bool {
    in_use.is_some_and(|in_use| in_use.expose_secret() == value.expose_secret())
}

fn new_of(journal: &Journal) -> Result<&New, Failure> {
    journal.new.as_ref().ok_or_else(incomplete)
}

fn old_value(journal: &Journal) -> Result<&SecretString, Failure> {
    let old = journal.old.as_ref().ok_or_else(incomplete)?;
    Ok(&old.value)
}

fn mentioned(journal: &Journal) -> Vec<String> {
    [&*journal.carried, &*journal.orphans].concat()
}

fn incomplete() -> Failure {
    Failure::new(
        "vault.malformed",
        "the journal of the renewal lacks what belongs to its phase",
    )
}

fn changed(journal: &Journal) -> Failure {
    Failure::new(
        "secret.changed",
        format!(
            "somebody else has changed the {} in the vault since the renewal began",
            journal.what.setting()
        ),
    )
    .with_remedy("the vault stays as it is; --abort removes the new one that nobody uses")
}

fn nothing(journal: Option<&Journal>) -> Outcome {
    Outcome {
        reached: Reached::Nothing,
        key_id: journal
            .and_then(|one| one.settled.as_ref())
            .map(|settled| settled.key_id.clone()),
        ends: None,
        old_key_id: None,
        orphans: journal.map(mentioned).unwrap_or_default(),
        old_is_left: false,
    }
}

fn outcome(reached: Reached, journal: &Journal) -> Outcome {
    Outcome {
        reached,
        key_id: journal.new.as_ref().and_then(|new| new.key_id.clone()),
        ends: journal.new.as_ref().map(|new| new.ends),
        old_key_id: journal.old.as_ref().and_then(|old| old.key_id.clone()),
        orphans: mentioned(journal),
        old_is_left: false,
    }
}
