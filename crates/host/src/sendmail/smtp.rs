//! SMTP with the program that called us (`sendmail -bs`): 250 once the queue has the message.

use std::io;

use postrider_smtp::server::{
    self, EnvelopeSoFar, Exchange, ExchangeEnd, Handler, Limits, MailCommand, Notify, Problem,
    Quirks, RcptCommand, Ret, ServerReply, Submission, TlsPolicy, Verb,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::accept::unique;
use super::client::{Manner, submit};
use super::gather::Gathered;
use super::plan::{RecipientRequest, Request};
use crate::app::AppSettings;
use crate::failure::{Failure, exit};

/// Speaks until the program leaves.
///
/// # Errors
/// What reading or writing failed with.
pub(crate) async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    settings: AppSettings,
    manner: Manner,
    account: Option<String>,
    max_message: usize,
) -> io::Result<()> {
    let limits = Limits {
        message_octets: max_message,
        ..Limits::default()
    };
    let counter = Counter {
        settings,
        manner,
        account,
        max_message,
    };
    // Between two programs of one user there is nothing to encrypt.
    let (policy, quirks) = (TlsPolicy::DangerPlaintext, Quirks::default());
    server::serve(stream, None, policy, counter, limits, quirks).await
}

struct Counter {
    settings: AppSettings,
    manner: Manner,
    account: Option<String>,
    max_message: usize,
}

impl Handler for Counter {
    type Body = Vec<u8>;

    async fn greeting(&mut self) -> ServerReply {
        ServerReply::new(220, "localhost ESMTP Postrider")
    }

    fn hello(&mut self, _: &str) -> String {
        "localhost".to_owned()
    }

    fn capabilities(&mut self, _: bool) -> Vec<String> {
        let size = format!("SIZE {}", self.max_message);
        let fixed = [
            "PIPELINING",
            "8BITMIME",
            "CHUNKING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "SMTPUTF8",
        ];
        let mut lines: Vec<String> = fixed.map(str::to_owned).to_vec();
        lines.push(size);
        lines
    }

    async fn auth(
        &mut self,
        _: &str,
        _: Option<Vec<u8>>,
        _: &mut Exchange<'_>,
    ) -> Result<ServerReply, ExchangeEnd> {
        Ok(Problem::NotImplemented(Verb::Auth).reply())
    }

    async fn mail(&mut self, _: &MailCommand) -> ServerReply {
        ServerReply::new(250, "2.1.0 OK")
    }

    async fn rcpt(&mut self, _: &RcptCommand) -> ServerReply {
        ServerReply::new(250, "2.1.5 OK")
    }

    async fn body(&mut self, _: &EnvelopeSoFar<'_>) -> Result<Vec<u8>, ServerReply> {
        Ok(Vec::new())
    }

    async fn message(&mut self, submission: Submission) -> ServerReply {
        let queued = async {
            let request = self.request(&submission)?;
            let message = Gathered::Memory(submission.body.into());
            submit(&self.settings, self.manner, &request, &message).await
        };
        match queued.await {
            Ok(queued) => ServerReply::new(250, format!("2.0.0 queued as {}", queued.id)),
            Err(failure) => refusal(&failure),
        }
    }
}

impl Counter {
    fn request(&self, submission: &Submission) -> Result<Request, Failure> {
        let recipients = submission.recipients.iter();
        let asked = recipients.clone().map(|rcpt| RecipientRequest {
            notify: rcpt.notify.map(words),
            orcpt: rcpt.orcpt.clone(),
        });
        let mut dsn: Vec<_> = asked.collect();
        if dsn.iter().all(|one| *one == RecipientRequest::default()) {
            dsn.clear();
        }
        Ok(Request {
            recipients: recipients.map(|rcpt| rcpt.forward_path.clone()).collect(),
            sender: Some(submission.mail.reverse_path.clone()),
            account: self.account.clone(),
            dsn,
            ret: submission.mail.ret.map(|ret| match ret {
                Ret::Full => "full".to_owned(),
                Ret::Headers => "hdrs".to_owned(),
            }),
            envelope_id: submission.mail.envid.clone(),
            key: Some(unique()?),
            ..Request::default()
        })
    }
}

/// As `-N` has it.
fn words(notify: Notify) -> String {
    let words = [
        (notify.success, "success"),
        (notify.failure, "failure"),
        (notify.delay, "delay"),
    ];
    let asked: Vec<&str> = words
        .into_iter()
        .filter_map(|(is_asked, word)| is_asked.then_some(word))
        .collect();
    if asked.is_empty() {
        "never".to_owned()
    } else {
        asked.join(",")
    }
}

/// What was wrong, for a program: whether another attempt makes sense, and a line for people.
fn refusal(failure: &Failure) -> ServerReply {
    let (code, status) = match failure.exit_code() {
        exit::TEMPFAIL => (451, "4.3.0"),
        exit::DATAERR if failure.code == "message.too_large" => (552, "5.3.4"),
        exit::DATAERR => (554, "5.6.0"),
        // Whoever runs this can mend it.
        _ => (451, "4.3.5"),
    };
    let line = failure.message.replace(|c: char| c.is_control(), " ");
    ServerReply::new(code, format!("{status} {line}"))
}
