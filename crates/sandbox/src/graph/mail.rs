//! `sendMail` with a message in MIME: into the same inbox as what comes by SMTP.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_parser::MessageParser;
use postrider_smtp::server::{BodyType, MailCommand, RcptCommand, Submission};

use crate::exchange::may_send_as;
use crate::inbox::{Delivery, Origin};

use super::Call;
use super::answer::{Answer, Refusal};

impl Call<'_> {
    pub(super) fn send_mail(&self) -> Result<Answer, Refusal> {
        let me = self.caller.me()?;
        self.caller.need(&["Mail.Send", "Mail.Send.Shared"], &[])?;
        if !me.has_mailbox() {
            // Unconfirmed: the code.
            return Err(Refusal::mail(
                StatusCode::NOT_FOUND,
                "MailboxNotEnabledForRESTAPI",
                "The mailbox is either inactive, soft-deleted, or is hosted on-premise.",
            ));
        }
        let octets: Vec<u8> = self
            .octets
            .iter()
            .copied()
            .filter(|b| !b.is_ascii_whitespace())
            .collect();
        let octets = STANDARD.decode(octets).map_err(|_| {
            Refusal::mail(
                StatusCode::BAD_REQUEST,
                "ErrorMimeContentInvalidBase64String",
                "Invalid base64 string for MIME content.",
            )
        })?;
        let origin = Origin::of(&octets);
        for from in &origin.from {
            may_send_as(&self.caller.scenario, me, from).map_err(|why| {
                Refusal::mail(
                    StatusCode::FORBIDDEN,
                    "ErrorSendAsDenied",
                    "The user account which was used to submit this request does not have the right to send mail on behalf of the specified sending account.",
                )
                .because(why)
            })?;
        }
        let recipients = recipients(&octets);
        if recipients.is_empty() {
            // Unconfirmed: the code.
            return Err(Refusal::mail(
                StatusCode::BAD_REQUEST,
                "ErrorInvalidRecipients",
                "At least one recipient is not valid.",
            ));
        }
        let received = self.graph.state.now();
        let message_id = origin
            .message_id
            .unwrap_or_else(|| format!("<{}@graph.invalid>", self.graph.state.guid()));
        Ok(Answer::Send(Box::new(Delivery {
            received,
            submitted_by: me.upn.clone(),
            message_id,
            trace: format!("Return-Path: <{}>\r\n", me.upn),
            submission: Submission {
                mail: MailCommand {
                    reverse_path: me.upn.clone(),
                    size: None,
                    body: BodyType::BinaryMime,
                    smtputf8: false,
                    ret: None,
                    envid: None,
                    auth: None,
                },
                recipients,
                octets: octets.len() as u64,
                body: octets,
                chunked: false,
            },
        })))
    }
}

/// Those of To, Cc and Bcc.
fn recipients(octets: &[u8]) -> Vec<RcptCommand> {
    let Some(message) = MessageParser::default().parse_headers(octets) else {
        return Vec::new();
    };
    [message.to(), message.cc(), message.bcc()]
        .into_iter()
        .flatten()
        .flat_map(mail_parser::Address::iter)
        .filter_map(|one| one.address())
        .filter(|address| address.contains('@'))
        .map(|address| RcptCommand {
            forward_path: address.to_owned(),
            notify: None,
            orcpt: None,
        })
        .collect()
}
