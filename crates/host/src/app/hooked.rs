//! What scripts have to say about devices, as a gateway hears it: the hooks of one generation, and
//! in the words of a failure.

use super::App;
use crate::failure::Failure;
use crate::lua::{
    GatewayHook as _, GatewayMail, GatewayMessage, GatewayPoint, GatewaySignIn, Objection,
};

impl App {
    /// Whether a script wants to be asked. Nobody need make what nobody looks at.
    pub(crate) fn wants_gateway(&self, point: GatewayPoint) -> bool {
        self.0.lasting.gateway_hooks.wants(point)
    }

    /// Lets a device in whose password was right.
    ///
    /// # Errors
    /// `hook.refused`, whose message is the reason, or `hook.failed`.
    pub(crate) async fn gateway_sign_in(&self, sign_in: GatewaySignIn) -> Result<(), Failure> {
        let asked = {
            let _whole = self.0.lasting.swap.read();
            self.0.lasting.gateway_hooks.auth(sign_in)
        };
        asked.await.map_err(failure)
    }

    /// The envelope as scripts want it; the account is one there is.
    ///
    /// # Errors
    /// As for [`App::gateway_sign_in`].
    pub(crate) async fn gateway_mail(&self, mail: GatewayMail) -> Result<GatewayMail, Failure> {
        let asked = {
            let _whole = self.0.lasting.swap.read();
            self.0.lasting.gateway_hooks.mail(mail)
        };
        let mail = asked.await.map_err(failure)?;
        self.settings_of(&mail.account).map_err(|unknown| {
            tracing::error!(
                target: "postrider::script",
                gateway = mail.by.gateway,
                device = mail.by.device,
                "a hook of gateway.mail named an account: {unknown}"
            );
            failed(unknown)
        })?;
        Ok(mail)
    }

    /// The message as scripts want it: a finished one, or one of their own to be built.
    ///
    /// # Errors
    /// As for [`App::gateway_sign_in`].
    pub(crate) async fn gateway_message(
        &self,
        message: GatewayMessage,
    ) -> Result<GatewayMessage, Failure> {
        let asked = {
            let _whole = self.0.lasting.swap.read();
            self.0.lasting.gateway_hooks.message(message)
        };
        asked.await.map_err(failure)
    }
}

fn failure(objection: Objection) -> Failure {
    match objection {
        Objection::Refused { reason, at } => {
            let reason = if reason.is_empty() {
                "a script refused it".to_owned()
            } else {
                reason
            };
            Failure {
                at,
                ..Failure::new("hook.refused", reason)
            }
        }
        Objection::Failed(failure) => failed(*failure),
    }
}

fn failed(failure: Failure) -> Failure {
    let message = format!("a hook failed, so nothing is taken: {}", failure.message);
    let failed = Failure::new("hook.failed", message).retryable();
    Failure {
        remedy: failure.remedy,
        at: failure.at,
        ..failed
    }
}
