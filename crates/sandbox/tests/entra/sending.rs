//! Both halves together: a token from Entra ID, a message through Exchange, into the inbox.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use postrider_sandbox::state::Outcome;
use postrider_smtp::message::Draft;
use postrider_smtp::tls::{Roots, client_config};
use postrider_smtp::{
    Authenticator, Outgoing, Pool, PoolLimits, SaslError, SaslExchange, ServerSettings, Timeouts,
    TlsMode,
};

use crate::site::{DAEMON, OUTLOOK, OUTLOOK_DEFAULT, SECRET, Site};

/// XOAUTH2 with one token, whatever the server says.
#[derive(Clone)]
struct Token(String);

impl Authenticator for Token {
    fn begin<'a>(
        &'a self,
        offered: &'a [String],
        _host: &'a str,
        _port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn SaslExchange>, SaslError>> {
        assert!(offered.iter().any(|mechanism| mechanism == "XOAUTH2"));
        Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn SaslExchange>) })
    }

    fn rejected(&self, _generation: u64) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl SaslExchange for Token {
    fn mechanism(&self) -> &'static str {
        "XOAUTH2"
    }

    fn initial_response(&self) -> Option<Vec<u8>> {
        Some(
            format!(
                "user=svc-mail@contoso.com\u{1}auth=Bearer {}\u{1}\u{1}",
                self.0
            )
            .into_bytes(),
        )
    }

    fn generation(&self) -> u64 {
        0
    }

    fn respond<'a>(
        &'a mut self,
        _challenge: &'a [u8],
    ) -> BoxFuture<'a, Result<Vec<u8>, SaslError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

pub(crate) fn pool(site: &Site, token: &str) -> Pool {
    let roots = Roots {
        ca_file: Some(site.sandbox.ca_file()),
    };
    let settings = ServerSettings {
        host: "localhost".to_owned(),
        port: site.sandbox.smtp_addr().port(),
        tls: TlsMode::Starttls,
        tls_config: Arc::new(client_config(&roots).unwrap()),
        ehlo_name: "client.contoso.com".parse().unwrap(),
        timeouts: Timeouts::default(),
    };
    Pool::new(
        settings,
        Arc::new(Token(token.to_owned())),
        PoolLimits::default(),
    )
}

pub(crate) fn message(from: &str) -> Outgoing {
    let draft = Draft {
        from: from.to_owned(),
        to: vec!["admin@contoso.com".to_owned()],
        subject: "Disk 91 %".to_owned(),
        text: Some("It fills up.".to_owned()),
        ..Draft::default()
    };
    draft.build(SystemTime::UNIX_EPOCH, "unique").unwrap()
}

/// Exchange does not take this token.
async fn is_refused(site: &Site, token: &str) {
    let message = message("svc-mail@contoso.com");
    let error = pool(site, token).send(&message).await.unwrap_err();
    let code = error.reply().map(|reply| reply.code);
    assert_eq!(code, Some(535), "{error:?}");
}

#[tokio::test]
async fn an_app_alone_sends_as_its_mailbox_and_as_the_shared_one_but_as_nobody_else() {
    let site = Site::start().await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", DAEMON),
        ("client_secret", SECRET),
        ("scope", OUTLOOK_DEFAULT),
    ];
    let pool = pool(&site, site.token(&form).await.text("access_token"));

    for from in ["svc-mail@contoso.com", "alerts@contoso.com"] {
        let receipt = pool.send(&message(from)).await.unwrap();
        assert!(receipt.is_complete(), "{receipt:?}");
    }
    let refused = pool.send(&message("ceo@contoso.com")).await.unwrap_err();
    let reply = refused.reply().unwrap();
    assert_eq!(reply.code, 554);
    assert!(
        reply.lines[0].starts_with(
            "SendAsDenied; svc-mail@contoso.com not allowed to send as ceo@contoso.com;"
        ),
        "{reply:?}"
    );

    let arrived = site.sandbox.inbox().wait_for(2).await;
    assert_eq!(arrived.len(), 2);
    assert_eq!(
        (
            arrived[1].summary.subject.as_str(),
            arrived[1].summary.from.as_str()
        ),
        ("Disk 91 %", "alerts@contoso.com")
    );
    let page = site
        .http
        .get(site.sandbox.control_url().join("inbox").unwrap())
        .send()
        .await
        .unwrap();
    assert!(page.text().await.unwrap().contains("Disk 91 %"));
}

#[tokio::test]
async fn a_persons_token_sends_until_it_is_revoked_and_the_log_knows_why_it_stopped() {
    let site = Site::start().await;
    let answer = site.person(OUTLOOK).await;
    let token = answer.text("access_token");
    assert!(
        pool(&site, token)
            .send(&message("svc-mail@contoso.com"))
            .await
            .unwrap()
            .is_complete()
    );

    let url = site.sandbox.control_url().join("v1/revoke").unwrap();
    let body = r#"{"access_tokens":true}"#;
    site.http
        .post(url)
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .unwrap();

    is_refused(&site, token).await;
    let entries = site.sandbox.state().log_entries(0);
    let last = entries
        .iter()
        .rfind(|entry| entry.outcome == Outcome::Refused)
        .unwrap();
    assert!(last.why.contains("the token was revoked"), "{last:?}");
}

#[tokio::test]
async fn a_token_for_graph_is_refused_by_exchange() {
    let site = Site::start().await;
    let answer = site.person("SMTP.Send").await;
    is_refused(&site, answer.text("access_token")).await;
    let why = site.sandbox.state().log_entries(0).pop().unwrap().why;
    assert!(
        why.contains("00000003-0000-0000-c000-000000000000"),
        "{why}"
    );
}
