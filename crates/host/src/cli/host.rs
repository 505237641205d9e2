//! Where a command's work is done: by the daemon, if one runs with the same settings, else here.
//!
//! Both ways give the same answer. A daemon that fails to answer is passed over, but where a
//! message may be on its way already.

use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::app::{App, AppSettings, Queued, SendOutcome};
use crate::control::schedules::{Kept, RunReport, ScheduleStatus, Switch};
use crate::control::work::{
    self, CheckAnswer, CheckRequest, Listed, Report, RotateRequest, TokenAnswer,
};
use crate::control::{Client, Trouble};
use crate::failure::Failure;
use crate::lua::SendRequest;
use crate::serve::{self, Once};

/// Whoever does the work.
pub(super) struct Host {
    settings: AppSettings,
    daemon: Option<Client>,
    /// Opened where the daemon is not there, or did not do it.
    alone: OnceCell<App>,
}

impl Host {
    /// The daemon where there is one, unless `alone`.
    pub(super) async fn find(settings: AppSettings, alone: bool) -> Self {
        let daemon = if alone {
            None
        } else {
            Client::find(&settings).await
        };
        Self {
            settings,
            daemon,
            alone: OnceCell::new(),
        }
    }

    /// An access token.
    pub(super) async fn token(
        &self,
        account: &str,
        at_least: Duration,
    ) -> Result<TokenAnswer, Failure> {
        if let Some(daemon) = &self.daemon
            && let Some(answer) = heard(daemon.token(account, at_least).await)?
        {
            return Ok(answer);
        }
        work::token(self.app().await?, account, at_least).await
    }

    /// Sends a message.
    pub(super) async fn send(
        &self,
        account: &str,
        message: SendRequest,
    ) -> Result<SendOutcome, Failure> {
        if let Some(daemon) = &self.daemon
            && let Some(answer) = heard(daemon.send(account, &message).await)?
        {
            return Ok(answer);
        }
        work::send(self.app().await?, account, message).await
    }

    /// Queues a message.
    pub(super) async fn enqueue(
        &self,
        account: &str,
        message: SendRequest,
    ) -> Result<Queued, Failure> {
        if let Some(daemon) = &self.daemon
            && let Some(answer) = heard(daemon.enqueue(account, &message).await)?
        {
            return Ok(answer);
        }
        let origin = "postrider send";
        self.app().await?.enqueue(account, message, origin).await
    }

    /// Whether a daemon runs that delivers what is queued.
    pub(super) fn has_daemon(&self) -> bool {
        self.daemon.is_some()
    }

    /// The accounts.
    pub(super) async fn accounts(&self) -> Result<Vec<Listed>, Failure> {
        if let Some(daemon) = &self.daemon
            && let Some(answer) = heard(daemon.accounts().await)?
        {
            return Ok(answer);
        }
        Ok(work::accounts(self.app().await?).await)
    }

    /// An account's settings.
    pub(super) async fn account(&self, name: &str) -> Result<Value, Failure> {
        if let Some(daemon) = &self.daemon
            && let Some(answer) = heard(daemon.account(name).await)?
        {
            return Ok(answer);
        }
        work::account(self.app().await?, name)
    }

    /// Checks an account.
    pub(super) async fn check(
        &self,
        account: &str,
        request: &CheckRequest,
    ) -> Result<CheckAnswer, Failure> {
        if let Some(daemon) = &self.daemon
            && let Some(answer) = heard(daemon.check(account, request).await)?
        {
            return Ok(answer);
        }
        work::check(self.app().await?, account, request).await
    }

    /// Sends the test message.
    pub(super) async fn send_test(&self, account: &str, to: &str) -> Result<SendOutcome, Failure> {
        if let Some(daemon) = &self.daemon
            && let Some(answer) = heard(daemon.send_test(account, to).await)?
        {
            return Ok(answer);
        }
        work::send_test(self.app().await?, account, to).await
    }

    /// Refreshes what is due: how many accounts it will be, and each as soon as it is done.
    pub(super) async fn rotate(
        &self,
        request: &RotateRequest,
    ) -> Result<(usize, BoxStream<'static, Result<Report, Failure>>), Failure> {
        if let Some(daemon) = &self.daemon
            && let Some((count, reports)) = heard(daemon.rotate(request).await)?
        {
            return Ok((count, reports.boxed()));
        }
        let app = self.app().await?;
        let names = work::names(app, request)?;
        let count = names.len();
        let reports = work::rotate(app.clone(), names, request.force);
        Ok((count, reports.map(Ok).boxed()))
    }

    /// The schedules.
    pub(super) async fn schedules(&self) -> Result<Vec<ScheduleStatus>, Failure> {
        if let Some(daemon) = &self.daemon
            && let Some(answer) = heard(daemon.schedules().await)?
        {
            return Ok(answer);
        }
        self.kept()?.list()
    }

    /// Pauses a schedule, or lets it go on.
    pub(super) async fn switch_schedule(
        &self,
        name: &str,
        switch: Switch,
    ) -> Result<ScheduleStatus, Failure> {
        if let Some(daemon) = &self.daemon
            && let Some(answer) = heard(daemon.switch_schedule(name, switch).await)?
        {
            return Ok(answer);
        }
        self.kept()?.switch(name, switch)
    }

    /// The latest runs of a schedule, the latest first.
    pub(super) async fn history(
        &self,
        name: &str,
        limit: usize,
    ) -> Result<Vec<RunReport>, Failure> {
        if let Some(daemon) = &self.daemon
            && let Some(answer) = heard(daemon.history(name, limit).await)?
        {
            return Ok(answer);
        }
        self.kept()?.history(name, limit)
    }

    /// Runs a schedule to its end.
    pub(super) async fn run_schedule(&self, name: &str) -> Result<Once, Failure> {
        if let Some(daemon) = &self.daemon
            && let Some(answer) = heard(daemon.run_schedule(name).await)?
        {
            return Ok(Once::Ran(answer));
        }
        serve::run_once(&self.settings, name).await
    }

    fn kept(&self) -> Result<Kept, Failure> {
        Kept::open(self.settings.state_dir.as_deref())
    }

    /// Takes leave of every server that this process has talked to.
    pub(super) async fn close(&self) {
        if let Some(app) = self.alone.get() {
            app.close().await;
        }
    }

    async fn app(&self) -> Result<&App, Failure> {
        let open = async || App::open(&self.settings);
        self.alone.get_or_try_init(open).await
    }
}

/// What the daemon said; `None` where it did not do it, and the command has to.
fn heard<T>(answer: Result<T, Trouble>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Trouble::Failed(failure)) => Err(*failure),
        Err(Trouble::NotDone(why)) => {
            tracing::info!("works without the daemon: {why}");
            Ok(None)
        }
    }
}
