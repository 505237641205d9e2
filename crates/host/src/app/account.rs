//! One account at work: its credential, its sessions, and what became of its messages.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock as Gate};
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, FutureExt as _};
use postrider_auth::{AuthError, Credential, Environment, InstanceSettings, LoadedPlugin};
use postrider_config::{Account as Settings, Mailbox, TlsMode as ConfiguredTls};
use postrider_schedule::Clock;
use postrider_smtp::{
    EhloName, Outgoing, Pool, PoolLimits, Receipt, SendError, SendErrorKind, ServerSettings,
    Timeouts, TlsMode, Verdict,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::RwLock;

use super::bridge::{CredentialAuthenticator, auth_error};
use super::doctor::{DoctorOptions, Freshness};
use super::events::Events;
use super::queue::{self, Desk, Places};
use super::secrets::References;
use super::{compose, failures, standing};
use crate::failure::{Failure, exit};
use crate::lua::{
    AccountHandle, Activity, MessageHook as _, MessageHooks, SendRequest, Sent, Token,
};
use crate::metrics::Metrics;

/// How long a session waits for the next message. Less than another process waits for its place.
pub(super) const IDLE: Duration = Duration::from_secs(5);

/// An account that is set up. Nothing is connected before the first send.
pub struct Account {
    settings: Settings,
    credential: Arc<Credential>,
    pub(super) secrets: Arc<References>,
    pub(super) pool: Pool,
    pub(super) around: Around,
    /// Its files of trust anchors, as they were when they were read.
    trust: Vec<Option<Stamp>>,
}

/// What an account has of the process it works in.
pub(super) struct Around {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) hooks: Arc<MessageHooks>,
    pub(super) swap: Arc<Gate<()>>,
    pub(super) activity: Activity,
    pub(super) leaving: Leaving,
    pub(super) events: Arc<Events>,
    pub(super) metrics: Metrics,
    pub(super) queue: Arc<Desk>,
    /// Whom its sign-in service is to be trusted by; none where it reaches none.
    pub(super) sign_in_tls: Option<Arc<rustls::ClientConfig>>,
}

/// Held for reading by every account that takes leave of its server, so that the end of the
/// program can wait for all of them.
pub(super) type Leaving = Arc<RwLock<()>>;

/// What became of a message that the server took for at least one recipient.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SendOutcome {
    /// The `Message-ID`, with its angle brackets.
    pub message_id: String,
    /// The account it went through.
    pub account: String,
    /// Whether every recipient was accepted.
    pub complete: bool,
    /// The server's reply to the message; often holds its queue id.
    pub reply: String,
    /// Each recipient, in the order of the message.
    pub recipients: Vec<RecipientOutcome>,
}

/// One recipient's verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecipientOutcome {
    /// The address.
    pub address: String,
    /// `accepted`, `retry`, `rejected` or `unknown`.
    pub verdict: Cow<'static, str>,
    /// The server's words.
    pub reply: String,
    /// What to do, where it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl SendOutcome {
    /// 0 if every recipient was accepted, 75 if some may be later, 69 otherwise.
    pub fn exit_code(&self) -> u8 {
        let has = |verdict| self.recipients.iter().any(|one| one.verdict == verdict);
        if self.complete {
            0
        } else if has("retry") {
            exit::TEMPFAIL
        } else {
            exit::UNAVAILABLE
        }
    }
}

impl Account {
    /// Joins settings, plugin and network.
    pub(super) fn new(
        settings: Settings,
        plugin: Arc<LoadedPlugin>,
        instance: InstanceSettings,
        secrets: Arc<References>,
        environment: &Arc<Environment>,
        server_tls: Arc<rustls::ClientConfig>,
        around: Around,
    ) -> Result<Self, Failure> {
        let credential = Credential::new(plugin, instance, Arc::clone(environment))
            .map(Arc::new)
            .map_err(|error| failures::auth(&settings, &error))?;
        let places = Places::new(&around.queue, &settings.name, settings.limits.connections);
        let pool = Pool::with_connector(
            server_settings(&settings, server_tls)?,
            Arc::new(CredentialAuthenticator(Arc::clone(&credential))),
            PoolLimits {
                connections: settings.limits.connections.into(),
                idle: IDLE,
            },
            Arc::new(places),
        );
        Ok(Self {
            trust: trust(&settings),
            settings,
            credential,
            secrets,
            pool,
            around,
        })
    }

    /// The settings it was set up with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the files of its trust anchors are the ones it was set up with.
    pub(super) fn trust_is_unchanged(&self) -> bool {
        self.trust == trust(&self.settings)
    }

    /// The time of day.
    pub(super) fn now(&self) -> SystemTime {
        self.around.clock.now().into()
    }

    /// Its way to authenticate.
    pub(super) fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Sends one message; the server has taken it for at least one recipient when this
    /// returns.
    ///
    /// # Errors
    /// Nobody got it, or nobody knows: then the code is `smtp.unknown`. Or a script did not let
    /// it pass: `hook.refused`, `hook.failed`.
    pub async fn send(&self, request: SendRequest) -> Result<SendOutcome, Failure> {
        // What waits for its turn is at work like anything else.
        let _busy = self.around.activity.begin();
        self.send_for(request).await
    }

    /// The same on behalf of a task that is at work itself.
    async fn send_for(&self, request: SendRequest) -> Result<SendOutcome, Failure> {
        let mut message_id = None;
        let outcome = async {
            let request = self.looked_at(request).await?;
            let most = self.settings.limits.recipients_per_message;
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let outgoing = self.build(request, most).await?;
            message_id = Some(outgoing.message_id().to_owned());
            self.submit(&outgoing).await
        }
        .await
        .map_err(|failure| match failure.account {
            Some(_) => failure,
            None => failure.with_account(&self.settings.name),
        });
        self.tell(message_id.as_deref(), &outcome);
        outcome
    }

    /// The message as the scripts' hooks leave it: those of one generation, never of none.
    pub(super) fn looked_at(
        &self,
        request: SendRequest,
    ) -> BoxFuture<'_, Result<SendRequest, Failure>> {
        let _whole = self.around.swap.read();
        self.around.hooks.before_send(&self.settings.name, request)
    }

    /// The message as it would be sent.
    pub(crate) async fn build(
        &self,
        request: SendRequest,
        recipients: usize,
    ) -> Result<Outgoing, Failure> {
        let (settings, now) = (self.settings.clone(), self.now());
        let build = move || compose::outgoing(&settings, request, recipients, now);
        tokio::task::spawn_blocking(build)
            .await
            .map_err(|_| Failure::new("internal", "building the message was interrupted"))?
    }

    /// What scripts hear of a message.
    fn tell(&self, message_id: Option<&str>, outcome: &Result<SendOutcome, Failure>) {
        let account = &self.settings.name;
        self.around.metrics.send(account, outcome);
        let (event, payload) = match outcome {
            Ok(outcome) => (
                "send.accepted",
                json!({
                    "account": account,
                    "message_id": outcome.message_id,
                    "recipients": outcome.recipients,
                    "complete": outcome.complete,
                    "reply": outcome.reply,
                }),
            ),
            Err(failure) => (
                "send.failed",
                json!({
                    "account": account,
                    "message_id": message_id,
                    "code": failure.code,
                    "message": failure.message,
                    "remedy": failure.remedy,
                    "retryable": failure.retryable,
                    "recipients": failure.details.get("recipients"),
                }),
            ),
        };
        self.around.events.tell(event, payload);
    }

    /// Sends the test message of `postrider account test`.
    ///
    /// # Errors
    /// As for [`Account::send`].
    pub async fn send_test(&self, recipient: &Mailbox) -> Result<SendOutcome, Failure> {
        self.send(SendRequest {
            to: vec![recipient.to_string()],
            subject: Some(format!("Postrider test of account {}", self.settings.name)),
            text: Some(format!(
                "This message shows that account \"{}\" can send.\n\nserver: {}:{}\nsigned in \
                 as: {}\nsender: {}\n",
                self.settings.name,
                self.settings.server.host,
                self.settings.server.port,
                self.settings.username,
                self.settings.sender,
            )),
            ..SendRequest::default()
        })
        .await
    }

    /// Who gets the test message: `given`, else the account's `test_recipient`.
    ///
    /// # Errors
    /// Neither is there, or `given` is no address.
    pub fn test_recipient(&self, given: Option<&str>) -> Result<Mailbox, Failure> {
        test_recipient(&self.settings, given)
    }

    async fn submit(&self, outgoing: &Outgoing) -> Result<SendOutcome, Failure> {
        let account = &self.settings.name;
        let envelope = outgoing.envelope();
        let sender: &str = envelope.reverse_path.as_ref().map_or("", AsRef::as_ref);
        let (message_id, recipients) = (outgoing.message_id(), envelope.recipients.len());
        let (queue, activity) = (&self.around.queue, &self.around.activity);
        let limits = &self.settings.limits;
        let ticket = queue.turn(account, limits, recipients, activity).await?;
        tracing::debug!(
            account,
            message_id,
            sender,
            recipients,
            octets = outgoing.octets(),
            "sends"
        );
        let sent = self.pool.send(outgoing).await;
        if let Some(ticket) = ticket {
            ticket.end(self.around.clock.now());
        }
        match sent {
            Ok(receipt) => {
                let accepted = recipients - receipt.refused().count();
                tracing::info!(account, message_id, recipients, accepted, reply = %receipt.reply, "sent");
                Ok(self.outcome(receipt, sender))
            }
            Err(error) => {
                let mut failure = self.send_failure(sender, &error);
                tracing::info!(
                    account,
                    message_id,
                    recipients,
                    code = failure.code,
                    "not sent: {}",
                    failure.message
                );
                if !error.recipients.is_empty() {
                    let recipients: Vec<_> = error
                        .recipients
                        .iter()
                        .map(|(address, verdict)| self.recipient(address.as_ref(), verdict, sender))
                        .collect();
                    failure.details = json!({ "recipients": recipients });
                }
                Err(failure)
            }
        }
    }

    /// A secret that could not be had says more than the plugin that went without it.
    pub(super) fn auth_failure(&self, error: &AuthError) -> Failure {
        self.secrets
            .take_unresolved(&self.settings)
            .unwrap_or_else(|| failures::auth(&self.settings, error))
    }

    pub(super) fn send_failure(&self, sender: &str, error: &SendError) -> Failure {
        match &*error.kind {
            SendErrorKind::Connect(why) if why.kind() == io::ErrorKind::WouldBlock => {
                queue::no_place(&self.settings.name, why)
            }
            SendErrorKind::Sasl(sasl) => match auth_error(sasl) {
                Some(cause) => self.auth_failure(cause),
                None => failures::send(&self.settings, sender, error),
            },
            _ => failures::send(&self.settings, sender, error),
        }
    }

    fn outcome(&self, receipt: Receipt, sender: &str) -> SendOutcome {
        SendOutcome {
            complete: receipt.is_complete(),
            reply: failures::reply_line(&receipt.reply),
            recipients: receipt
                .recipients
                .iter()
                .map(|(address, verdict)| self.recipient(address.as_ref(), verdict, sender))
                .collect(),
            message_id: receipt.message_id,
            account: self.settings.name.clone(),
        }
    }

    fn recipient(&self, address: &str, verdict: &Verdict, sender: &str) -> RecipientOutcome {
        let (name, reply) = match verdict {
            Verdict::Accepted(reply) => ("accepted", failures::reply_line(reply)),
            Verdict::Retry(reply) => ("retry", failures::reply_line(reply)),
            Verdict::Rejected(reply) => ("rejected", failures::reply_line(reply)),
            Verdict::Unknown(why) => ("unknown", why.clone()),
        };
        RecipientOutcome {
            address: address.to_owned(),
            verdict: name.into(),
            reply,
            remedy: match verdict {
                Verdict::Retry(reply) | Verdict::Rejected(reply) => {
                    Some(failures::recipient_remedy(&self.settings, sender, reply).remedy)
                }
                _ => None,
            },
        }
    }
}

/// Who gets the test message of an account that may not be set up.
pub(crate) fn test_recipient(settings: &Settings, given: Option<&str>) -> Result<Mailbox, Failure> {
    match given {
        Some(address) => address.parse().map_err(|_| {
            Failure::new(
                "usage.address",
                format!("\"{address}\" is not a mail address"),
            )
        }),
        None => settings.test_recipient.clone().ok_or_else(|| {
            Failure::new("usage.no_recipient", "nobody to send a test message to")
                .with_account(&settings.name)
                .with_remedy("give --to ADDRESS, or set test_recipient; --no-send only checks")
        }),
    }
}

/// What tells a file from one that replaced it or was written since.
type Stamp = (u64, u64, i64, i64);

fn trust(settings: &Settings) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    };
    let files = [&settings.server.ca_file, &settings.ca_file];
    files.into_iter().flatten().map(stamp).collect()
}

/// Takes leave of the server, in the background.
impl Drop for Account {
    fn drop(&mut self) {
        let leaving = Arc::clone(&self.around.leaving).try_read_owned();
        if let (Ok(leaving), Ok(runtime)) = (leaving, Handle::try_current()) {
            let pool = self.pool.clone();
            runtime.spawn(async move {
                pool.close().await;
                drop(leaving);
            });
        }
    }
}

impl AccountHandle for Account {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn send(&self, message: SendRequest) -> BoxFuture<'_, Result<Sent, Failure>> {
        async move {
            let internal =
                |problem: serde_json::Error| Failure::new("internal", problem.to_string());
            if message.queue.is_some() {
                let name = message.script.as_deref().unwrap_or_default();
                let name = Path::new(name).file_name().unwrap_or_default();
                let origin = format!("script {}", name.display());
                let queued = self.enqueue(message, &origin).await?;
                return Ok(Sent {
                    refused: None,
                    receipt: standing::for_scripts(&queued),
                });
            }
            let outcome = self.send_for(message).await?;
            Ok(Sent {
                refused: partial_failure(&outcome),
                receipt: serde_json::to_value(&outcome).map_err(internal)?,
            })
        }
        .boxed()
    }

    fn check(&self) -> BoxFuture<'_, Value> {
        async move {
            let options = DoctorOptions {
                freshness: Freshness::Kept,
                ..DoctorOptions::default()
            };
            self.doctor(&options).await.for_scripts()
        }
        .boxed()
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, Failure>> {
        async move {
            let token = Account::token(self, Duration::ZERO).await?;
            Ok(Token {
                details: standing::for_scripts(&json!({
                    "expires_at": token.expires_at,
                    "scope": token.scope,
                    "token_type": token.token_type,
                })),
                secret: token.value,
            })
        }
        .boxed()
    }

    fn rotate(&self, force: bool) -> BoxFuture<'_, Result<Value, Failure>> {
        async move { Ok(standing::for_scripts(&Account::rotate(self, force).await?)) }.boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<Value, Failure>> {
        async move {
            let standing = self.standing().await?;
            let mut status = standing::for_scripts(&standing);
            if standing.sign_in_needed {
                status["remedy"] = format!("postrider login {}", self.settings.name).into();
            }
            Ok(status)
        }
        .boxed()
    }
}

/// What a script's `err` says of a message that only some recipients got.
fn partial_failure(outcome: &SendOutcome) -> Option<Failure> {
    let refused: Vec<_> = outcome
        .recipients
        .iter()
        .filter(|recipient| recipient.verdict != "accepted")
        .collect();
    let first = refused.first()?;
    let mut failure = Failure::new(
        "smtp.partial",
        format!(
            "{} of {} recipients refused; {}: {}",
            refused.len(),
            outcome.recipients.len(),
            first.address,
            first.reply
        ),
    )
    .with_account(&outcome.account);
    failure.remedy.clone_from(&first.remedy);
    failure.retryable = refused.iter().any(|recipient| recipient.verdict == "retry");
    Some(failure)
}

pub(super) fn server_settings(
    settings: &Settings,
    tls_config: Arc<rustls::ClientConfig>,
) -> Result<ServerSettings, Failure> {
    let ehlo_name = match &settings.server.ehlo_name {
        Some(name) => name.parse().map_err(|error| {
            Failure::new("config.invalid", format!("server.ehlo_name: {error}"))
                .with_account(&settings.name)
        })?,
        None => EhloName::default(),
    };
    let usual = Timeouts::default();
    let set = &settings.timeouts;
    Ok(ServerSettings {
        host: settings.server.host.clone(),
        port: settings.server.port,
        tls: match settings.server.tls {
            ConfiguredTls::Starttls => TlsMode::Starttls,
            ConfiguredTls::Implicit => TlsMode::Implicit,
            ConfiguredTls::DangerPlaintext => TlsMode::DangerPlaintext,
        },
        tls_config,
        ehlo_name,
        timeouts: Timeouts {
            connect: set.connect.unwrap_or(usual.connect),
            tls: set.tls.unwrap_or(usual.tls),
            greeting: set.greeting.unwrap_or(usual.greeting),
            command: set.command.unwrap_or(usual.command),
            mail: set.mail.unwrap_or(usual.mail),
            rcpt: set.rcpt.unwrap_or(usual.rcpt),
            data_start: set.data_start.unwrap_or(usual.data_start),
            data_block: set.data_block.unwrap_or(usual.data_block),
            data_end: set.data_end.unwrap_or(usual.data_end),
            quit: usual.quit,
        },
    })
}
