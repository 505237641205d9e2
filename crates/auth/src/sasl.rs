//! One SASL exchange (RFC 4422): the plugin's octets for the server's challenges.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use postrider_plugin::wire::{Answer, Octets};
use tokio::time::timeout;

use crate::error::{AuthError, AuthErrorKind};
use crate::flow::{Context, Flow, Rest};

/// How long the plugin may take between two messages, its actions included. The server
/// waits meanwhile, and gives up after some minutes.
const TURN_TIME: Duration = Duration::from_mins(1);

/// One SASL exchange, its octets made by the plugin. Dropping it ends the exchange on our
/// side; that is also how a successful one ends.
pub struct SaslFlow {
    context: Arc<Context>,
    flow: Flow,
    mechanism: String,
    initial_response: Option<Octets>,
    generation: u64,
}

impl SaslFlow {
    /// Runs `flow` up to the message that starts the exchange.
    pub(crate) async fn start(
        context: Arc<Context>,
        mut flow: Flow,
        offered: &[String],
        generation: u64,
    ) -> Result<Self, AuthError> {
        let rest = rest(&context, &mut flow).await?;
        let mut broken = |how| Err(flow.failed(broken(&context, how)));
        let start = match rest {
            Rest::Start(start) => start,
            Rest::Send(_) => return broken("it answers before it starts"),
            Rest::Finished(_) => return broken("it ends before it starts"),
        };
        let mut offered = offered.iter();
        let chosen = offered.find(|offered| offered.eq_ignore_ascii_case(&start.mechanism));
        let Some(mechanism) = chosen.cloned() else {
            return broken("it chose a mechanism the server does not offer");
        };
        Ok(Self {
            context,
            flow,
            mechanism,
            initial_response: start.initial_response,
            generation,
        })
    }

    /// The mechanism to name in `AUTH`, as the server spelt it.
    pub fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// The initial response, not yet in base64.
    pub fn initial_response(&self) -> Option<&[u8]> {
        self.initial_response
            .as_ref()
            .map(|octets| octets.0.as_slice())
    }

    /// The generation of the token in use, for [`crate::Credential::invalidate`]; 0 where
    /// the plugin uses none.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What the server says, without the secrets of this account, should it repeat one.
    pub fn mask(&self, text: &str) -> String {
        self.context.scrubber.mask(text)
    }

    /// The answer to the server's challenge, both not in base64.
    pub async fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, AuthError> {
        let answer = Answer::SaslChallenge(Octets(challenge.to_vec()));
        self.flow.answer(answer).await?;
        match rest(&self.context, &mut self.flow).await? {
            Rest::Send(mut octets) => Ok(std::mem::take(&mut octets.0)),
            Rest::Start(_) => Err(self.broken("it starts a second time")),
            Rest::Finished(_) => {
                Err(self.broken("it has nothing to say to the server's challenge"))
            }
        }
    }

    fn broken(&mut self, how: &str) -> AuthError {
        self.flow.failed(broken(&self.context, how))
    }
}

impl fmt::Debug for SaslFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslFlow")
            .field("mechanism", &self.mechanism)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

async fn rest(context: &Context, flow: &mut Flow) -> Result<Rest, AuthError> {
    let too_long = || {
        let message = format!("no sasl message came within {} s", TURN_TIME.as_secs());
        context.error(AuthErrorKind::Transient, message)
    };
    match timeout(TURN_TIME, flow.run()).await {
        Ok(rest) => rest,
        Err(_) => Err(flow.failed(too_long())),
    }
}

fn broken(context: &Context, how: &str) -> AuthError {
    let message = format!("plugin {:?} (sasl): {how}", context.plugin.name());
    context.error(AuthErrorKind::Internal, message)
}
