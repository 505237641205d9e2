//! Exchange's dialogue, exact octets where `facts` give them, over TLS in memory.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::scenario::{
    Account, BasicAuth, Effect, Fault, FaultPoint, Mailbox, MailboxPermission, OverRate, Right,
    Scenario, Span,
};
use crate::state::testing::{StandingClock, app_only_claims, delegated_claims, token};
use crate::state::{Claims, Outcome, Random};

const USER: &str = "svc-mail@contoso.com";
const TRAILER: &str =
    "[SB0PR01CA0000.SBXPRD01.PROD.OUTLOOK.COM 2026-01-01T00:00:00.000Z 08DE000000000000]";
const HOSTNAME: &str = "[Hostname=SB0PR01MB0000.sbxprd01.prod.outlook.com]";
const MESSAGE: &str = "From: svc-mail@contoso.com\r\nMessage-ID: <1@contoso.com>\r\n\r\nhello\r\n";

/// Makes every name predictable.
struct Zeros;

impl Random for Zeros {
    fn fill(&self, octets: &mut [u8]) {
        octets.fill(0);
    }
}

/// The service, and a certificate its clients trust.
struct World {
    service: Exchange,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl World {
    fn new(change: impl FnOnce(&mut Scenario)) -> Self {
        let mut scenario = Scenario::default();
        change(&mut scenario);
        let authority = "https://localhost:4433/".parse().unwrap();
        let key = crate::jwt::tests::test_key();
        let state = State::new(
            scenario,
            authority,
            key,
            Arc::new(StandingClock),
            Arc::new(Zeros),
        );
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            service: Exchange::new(state, Inbox::new(None).unwrap()),
            acceptor: Arc::new(server).into(),
            connector: Arc::new(client).into(),
        }
    }

    fn state(&self) -> &State {
        &self.service.state
    }

    fn why(&self) -> String {
        let refused = |entry: &crate::state::LogEntry| entry.outcome == Outcome::Refused;
        self.state()
            .log_entries(0)
            .into_iter()
            .rfind(refused)
            .map(|entry| entry.why)
            .unwrap_or_default()
    }

    /// A connection, nothing read yet.
    fn connect(&self) -> DuplexStream {
        let (client, server) = duplex(1 << 16);
        let (service, acceptor) = (self.service.clone(), self.acceptor.clone());
        tokio::spawn(async move {
            let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
            service.connection(server, acceptor, client).await
        });
        client
    }

    /// A connection behind STARTTLS and a second EHLO.
    async fn secured(&self) -> TlsStream<DuplexStream> {
        let mut clear = self.connect();
        reply(&mut clear).await;
        ask(&mut clear, "EHLO client.example").await;
        ask(&mut clear, "STARTTLS").await;
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = self.connector.connect(name, clear).await.unwrap();
        ask(&mut tls, "EHLO client.example").await;
        tls
    }

    /// A connection that signed in as svc-mail.
    async fn signed_in(&self) -> TlsStream<DuplexStream> {
        let mut client = self.secured().await;
        let token = token(self.state(), &delegated_claims(self.state()));
        let said = ask(&mut client, &xoauth2(USER, &token)).await;
        assert_eq!(said, "235 2.7.0 Authentication successful");
        client
    }

    /// The answer to XOAUTH2 with these claims as this user.
    async fn signs_in(&self, user: &str, claims: &Claims) -> String {
        let token = token(self.state(), claims);
        ask(&mut self.secured().await, &xoauth2(user, &token)).await
    }

    /// The answer to a message sent with BDAT in a session of its own.
    async fn sends(&self, message: &str) -> String {
        send(&mut self.signed_in().await, message).await
    }
}

fn xoauth2(user: &str, token: &str) -> String {
    let blob = STANDARD.encode(format!("user={user}\x01auth=Bearer {token}\x01\x01"));
    format!("AUTH XOAUTH2 {blob}")
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), command: &str) -> String {
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await
        .unwrap();
    stream.flush().await.unwrap();
    reply(stream).await
}

/// One reply, its lines joined by `\n`; empty when the connection ended.
async fn reply(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut lines = String::new();
    let mut line = Vec::new();
    while let Ok(octet) = stream.read_u8().await {
        line.push(octet);
        if line.ends_with(b"\r\n") {
            lines.push_str(std::str::from_utf8(&line[..line.len() - 2]).unwrap());
            if line[3] == b' ' {
                return lines;
            }
            lines.push('\n');
            line.clear();
        }
    }
    lines
}

/// MAIL, RCPT and BDAT in one flight; the last reply, with the others checked.
async fn send(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), message: &str) -> String {
    let flight = format!(
        "MAIL FROM:<{USER}> SIZE={0}\r\nRCPT TO:<a@example.net>\r\nBDAT {0} LAST\r\n{message}",
        message.len()
    );
    stream.write_all(flight.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(reply(stream).await, "250 2.1.0 Sender OK");
    assert_eq!(reply(stream).await, "250 2.1.5 Recipient OK");
    reply(stream).await
}

fn from(address: &str) -> String {
    MESSAGE.replace(USER, address)
}

#[tokio::test(start_paused = true)]
async fn the_dialogue_is_exchanges_word_for_word() {
    let world = World::new(|_| {});
    let mut clear = world.connect();
    assert_eq!(
        reply(&mut clear).await,
        "220 SB0PR01CA0000.outlook.office365.com Microsoft ESMTP MAIL Service ready at \
         Thu, 01 Jan 2026 00:00:00 +0000 [08DE000000000000]"
    );
    let list = "250-SB0PR01CA0000.outlook.office365.com Hello [127.0.0.1]\n250-SIZE 157286400\n250-PIPELINING\n\
                250-DSN\n250-ENHANCEDSTATUSCODES\n250-STARTTLS\n250-8BITMIME\n250-BINARYMIME\n250-CHUNKING\n250 SMTPUTF8";
    for (command, said) in [
        ("MAIL FROM:<a@b>", "503 5.5.2 Send hello first"),
        ("EHLO client.example", list),
        (
            "AUTH XOAUTH2 dXNlcg==",
            "504 5.7.4 Unrecognized authentication type [SB0PR01CA0000.SBXPRD01.PROD.OUTLOOK.COM]",
        ),
        (
            "MAIL FROM:<a@b>",
            "530 5.7.57 Client not authenticated to send mail. [SB0PR01CA0000.SBXPRD01.PROD.OUTLOOK.COM]",
        ),
        ("STARTTLS", "220 2.0.0 SMTP server ready"),
    ] {
        assert_eq!(ask(&mut clear, command).await, said, "{command}");
    }
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = world.connector.connect(name, clear).await.unwrap();
    let token = token(world.state(), &delegated_claims(world.state()));
    let auth = xoauth2(USER, &token);
    let blob = auth.rsplit(' ').next().unwrap();
    let accepted = format!("250 2.0.0 OK <1@contoso.com> {HOSTNAME}");
    for (command, said) in [
        (
            "EHLO client.example",
            list.replace("STARTTLS", "AUTH LOGIN XOAUTH2").as_str(),
        ),
        (
            "AUTH PLAIN AGEAYg==",
            "504 5.7.4 Unrecognized authentication type [SB0PR01CA0000.SBXPRD01.PROD.OUTLOOK.COM]",
        ),
        ("AUTH XOAUTH2", "334 "),
        (blob, "235 2.7.0 Authentication successful"),
        (
            "XFOO bar",
            &format!("500 5.3.3 Unrecognized command 'XFOO' {TRAILER}"),
        ),
        ("MAIL FROM:a@b", "501 5.5.4 Invalid arguments"),
        ("RCPT TO:<a@example.net>", "503 5.5.2 Need mail command"),
        ("MAIL FROM:<svc-mail@contoso.com>", "250 2.1.0 Sender OK"),
        ("DATA", "503 5.5.2 Need rcpt command"),
        ("RCPT TO:<a@example.net>", "250 2.1.5 Recipient OK"),
        ("RSET", "250 2.0.0 Resetting"),
        ("MAIL FROM:<svc-mail@contoso.com>", "250 2.1.0 Sender OK"),
        ("RCPT TO:<a@example.net>", "250 2.1.5 Recipient OK"),
        ("DATA", "354 Start mail input; end with <CRLF>.<CRLF>"),
        (&format!("{MESSAGE}."), &accepted),
        ("QUIT", "221 2.0.0 Service closing transmission channel"),
        ("", ""),
    ] {
        assert_eq!(ask(&mut tls, command).await, said, "{command}");
    }
    let kept = world.service.inbox.messages();
    assert_eq!(kept[0].octets(), MESSAGE.as_bytes());
    assert!(
        kept[0]
            .delivery
            .trace
            .contains("(version=TLSv1_3, cipher=TLS13_AES_256_GCM_SHA384)"),
        "{}",
        kept[0].delivery.trace
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_timed_out() {
    let mut client = World::new(|_| {}).secured().await;
    let farewell = reply(&mut client).await;
    assert!(
        farewell.starts_with("421 4.4.1 Connection timed out. Total session duration: 00:05:00."),
        "{farewell}"
    );
}

#[tokio::test(start_paused = true)]
async fn whatever_is_wrong_with_a_token_the_wire_says_one_thing_and_the_log_the_truth() {
    type Change = fn(&mut Scenario, &mut Claims);
    let wrong: [(Change, &str); 14] = [
        (
            |_, c| c.exp = c.nbf,
            "the token expired at 2026-01-01T00:00:00Z",
        ),
        (
            |_, c| c.aud = "https://graph.microsoft.com".into(),
            "the token is for https://graph.microsoft.com",
        ),
        (
            |_, c| c.scp = Some("Mail.Send User.Read".into()),
            "the token's scp is \"Mail.Send User.Read\", without SMTP.Send",
        ),
        (
            |_, c| c.upn = Some("admin@contoso.com".into()),
            "the token was issued to admin@contoso.com",
        ),
        (
            |s, _| s.users[0].mailbox = Mailbox::Unlicensed,
            "has no licensed mailbox",
        ),
        (
            |s, _| s.users[0].account = Account::Disabled,
            "does not sign in",
        ),
        (
            |_, c| c.tid = "00000000-0000-4000-8000-000000000000".into(),
            "issuer",
        ),
        (
            |_, c| (c.scp, c.upn) = (None, None),
            "the token's roles are \"\", without SMTP.SendAsApp",
        ),
        (
            |s, c| {
                app_only(c);
                s.apps[0].exchange_service_principal = false;
            },
            "New-ServicePrincipal -AppId 0f1e2d3c",
        ),
        (
            |s, c| {
                app_only(c);
                s.permissions.retain(|p| p.right != Right::FullAccess);
            },
            "Add-MailboxPermission -Identity svc-mail@contoso.com",
        ),
        (
            |_, c| {
                app_only(c);
                c.oid = c.appid.clone();
            },
            "another object id",
        ),
        (
            |_, c| {
                app_only(c);
                c.roles = vec!["Mail.Send".into()];
            },
            "without SMTP.SendAsApp",
        ),
        (
            |s, c| {
                app_only(c);
                s.permissions[1].right = Right::SendAs;
                s.permissions[1].trustee = USER.into();
                s.permissions[1].mailbox = "alerts@contoso.com".into();
            },
            "no right to svc-mail@contoso.com",
        ),
        (
            |_, c| {
                app_only(c);
                c.appid = "00000000-0000-4000-8000-000000000000".into();
            },
            "does not exist any more",
        ),
    ];
    for (change, why) in wrong {
        let world = World::new(|_| {});
        let mut claims = delegated_claims(world.state());
        world
            .state()
            .change(|scenario| change(scenario, &mut claims))
            .unwrap();
        let said = world.signs_in(USER, &claims).await;
        assert_eq!(
            said,
            format!("535 5.7.3 Authentication unsuccessful {TRAILER}"),
            "{why}"
        );
        assert!(world.why().contains(why), "{why}: {}", world.why());
    }
}

/// The default daemon's claims in place of a user's.
fn app_only(claims: &mut Claims) {
    let template = World::new(|_| {});
    *claims = Claims {
        iss: claims.iss.clone(),
        tid: claims.tid.clone(),
        ..app_only_claims(template.state())
    };
}

#[tokio::test(start_paused = true)]
async fn good_tokens_sign_in_and_forged_or_garbled_ones_do_not() {
    let world = World::new(|_| {});
    let done = "235 2.7.0 Authentication successful";
    let delegated = delegated_claims(world.state());
    assert_eq!(
        world.signs_in("SVC-MAIL@contoso.com", &delegated).await,
        done
    );
    let app = app_only_claims(world.state());
    assert_eq!(world.signs_in(USER, &app).await, done);
    let refused = format!("535 5.7.3 Authentication unsuccessful {TRAILER}");
    assert_eq!(world.signs_in("alerts@contoso.com", &app).await, refused);
    assert_eq!(
        world.signs_in("alerts@contoso.com", &delegated).await,
        refused
    );

    let good = token(world.state(), &delegated);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    let mut client = world.secured().await;
    for line in [
        xoauth2(USER, &forged),
        xoauth2(USER, "x"),
        "AUTH XOAUTH2 dXNlcg==".into(),
        "AUTH XOAUTH2 %%".into(),
    ] {
        assert_eq!(ask(&mut client, &line).await, refused, "{line}");
    }
    assert_eq!(ask(&mut client, "AUTH XOAUTH2").await, "334 ");
    assert_eq!(
        ask(&mut client, "*").await,
        refused,
        "cancelling is a refusal, too"
    );
    let log = format!("{:?}", world.state().log_entries(0));
    assert!(
        !log.contains(&good[..40]) && !log.contains(signature),
        "tokens stay out of the log"
    );
}

#[tokio::test(start_paused = true)]
async fn switches_and_policies_refuse_with_their_reason() {
    type Change = fn(&mut Scenario);
    let table: [(Change, &str); 4] = [
        (
            |s| s.tenants[0].smtp_auth_disabled = true,
            "SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information.",
        ),
        (
            |s| s.users[0].smtp_auth_disabled = Some(true),
            "SmtpClientAuthentication is disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information.",
        ),
        (
            |s| s.users[0].blocked_by_conditional_access = true,
            "the request did not meet the criteria to be authenticated successfully. Contact your administrator.",
        ),
        (
            |s| {
                s.tenants[0].smtp_auth_disabled = true;
                s.users[0].smtp_auth_disabled = Some(false);
            },
            "",
        ),
    ];
    for (change, reason) in table {
        let world = World::new(change);
        let claims = delegated_claims(world.state());
        let wanted = match reason {
            "" => "235 2.7.0 Authentication successful".to_owned(),
            reason => format!("535 5.7.139 Authentication unsuccessful, {reason} {TRAILER}"),
        };
        assert_eq!(world.signs_in(USER, &claims).await, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn passwords_work_until_something_forbids_them() {
    type Change = fn(&mut Scenario);
    let reason =
        |reason: &str| format!("535 5.7.139 Authentication unsuccessful, {reason} {TRAILER}");
    let table: [(Change, &str, &str, String); 6] = [
        (
            |_| {},
            USER,
            "svc-mail-password",
            "235 2.7.0 Authentication successful".into(),
        ),
        (
            |_| {},
            USER,
            "wrong",
            reason("the user credentials were incorrect."),
        ),
        (
            |_| {},
            "nobody@contoso.com",
            "x",
            reason("the user credentials were incorrect."),
        ),
        (
            |s| s.tenants[0].security_defaults = true,
            USER,
            "svc-mail-password",
            reason(
                "user is locked by your organization's security defaults policy. Contact your administrator.",
            ),
        ),
        (
            |s| s.tenants[0].basic_auth = BasicAuth::Disabled,
            USER,
            "svc-mail-password",
            reason("basic authentication is disabled."),
        ),
        (
            |s| s.tenants[0].basic_auth = BasicAuth::Retired,
            USER,
            "svc-mail-password",
            "550 5.7.30 Basic authentication is not supported for Client Submission.".into(),
        ),
    ];
    for (change, user, password, wanted) in table {
        let mut client = World::new(change).secured().await;
        assert_eq!(ask(&mut client, "AUTH LOGIN").await, "334 VXNlcm5hbWU6");
        assert_eq!(
            ask(&mut client, &STANDARD.encode(user)).await,
            "334 UGFzc3dvcmQ6"
        );
        assert_eq!(ask(&mut client, &STANDARD.encode(password)).await, wanted);
        let mail = ask(&mut client, "MAIL FROM:<svc-mail@contoso.com>").await;
        if wanted.starts_with('2') {
            assert_eq!(mail, "250 2.1.0 Sender OK");
        } else {
            let host = "[SB0PR01CA0000.SBXPRD01.PROD.OUTLOOK.COM]";
            assert_eq!(
                mail,
                format!("530 5.7.57 Client not authenticated to send mail. {host} Error: {wanted}")
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn from_decides_who_may_send_as_whom() {
    let on_behalf = |right| MailboxPermission {
        mailbox: "ceo@contoso.com".into(),
        trustee: USER.into(),
        right,
    };
    let table: [(&str, bool, &str); 9] = [
        ("svc-mail@contoso.com", true, ""),
        ("Service <SVC-mail@Contoso.com>", true, ""),
        ("alerts@contoso.com", true, ""),
        (
            "admin@contoso.com",
            false,
            "Add-RecipientPermission admin@contoso.com -Trustee svc-mail@contoso.com",
        ),
        (
            "ceo@contoso.com",
            false,
            "which is not known to work over SMTP",
        ),
        ("other@example.org", false, "is no mailbox here"),
        (
            "mailer@contoso.com",
            false,
            "Set-OrganizationConfig -SendFromAliasEnabled $true",
        ),
        (
            "svc-mail@contoso.com, admin@contoso.com",
            false,
            "Add-RecipientPermission admin@contoso.com",
        ),
        (
            "svc-mail@contoso.com\r\nFrom: admin@contoso.com",
            false,
            "Add-RecipientPermission admin@contoso.com",
        ),
    ];
    let world = World::new(|s| {
        s.users[0].aliases = vec!["mailer@contoso.com".into()];
        s.permissions.push(on_behalf(Right::SendOnBehalf));
    });
    let mut client = world.signed_in().await;
    for (address, accepted, why) in table {
        let said = send(&mut client, &from(address)).await;
        assert_eq!(
            said.starts_with("250 2.0.0 OK"),
            accepted,
            "{address}: {said}"
        );
        if !accepted {
            assert!(world.why().contains(why), "{address}: {}", world.why());
        }
    }
    let said = send(&mut client, &from("ceo@contoso.com")).await;
    assert_eq!(
        said,
        format!(
            "554 5.2.252 SendAsDenied; svc-mail@contoso.com not allowed to send as ceo@contoso.com; \
             STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; \
             Failed to process message due to a permanent exception with message \
             [BeginDiagnosticData]Cannot submit message. [EndDiagnosticData] {HOSTNAME}"
        )
    );
    let allow = |s: &mut Scenario| {
        s.limits.send_on_behalf = true;
        s.tenants[0].send_from_alias = true;
    };
    world.state().change(allow).unwrap();
    for address in ["ceo@contoso.com", "mailer@contoso.com"] {
        let said = send(&mut client, &from(address)).await;
        assert!(said.starts_with("250 2.0.0 OK"), "{address}: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_fourth_parallel_sender_waits_for_a_seat() {
    let world = World::new(|_| {});
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(world.signed_in().await);
    }
    let mut fourth = clients.pop().unwrap();
    assert_eq!(
        send(&mut fourth, MESSAGE).await,
        format!(
            "432 4.3.2 Concurrent connections limit exceeded. \
             Visit https://aka.ms/concurrent_sending for more information. {HOSTNAME}"
        )
    );
    let mut first = clients.remove(0);
    ask(&mut first, "QUIT").await;
    assert_eq!(reply(&mut first).await, "");
    drop(first);
    while world
        .service
        .ledger
        .seat(USER, &world.state().scenario().limits)
        .is_none()
    {
        tokio::task::yield_now().await;
    }
    assert!(send(&mut fourth, MESSAGE).await.starts_with("250 "));
}

#[tokio::test(start_paused = true)]
async fn messages_over_the_rate_are_refused_or_delayed() {
    let world = World::new(|s| s.limits.messages_per_minute = 2);
    let mut client = world.signed_in().await;
    for _ in 0..2 {
        assert!(send(&mut client, MESSAGE).await.starts_with("250 "));
    }
    assert_eq!(
        send(&mut client, MESSAGE).await,
        "421 4.4.2 Message submission rate for this client has exceeded the configured limit"
    );
    assert_eq!(reply(&mut client).await, "", "the session is over");
    world.state().advance(Duration::from_mins(1));
    assert!(world.sends(MESSAGE).await.starts_with("250 "));

    world
        .state()
        .change(|s| s.limits.over_rate = OverRate::Delay)
        .unwrap();
    let mut client = world.signed_in().await;
    assert!(send(&mut client, MESSAGE).await.starts_with("250 "));
    let begun = tokio::time::Instant::now();
    assert!(send(&mut client, MESSAGE).await.starts_with("250 "));
    assert_eq!(begun.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn quotas_sizes_and_line_feeds_are_refused_after_the_body() {
    type Change = fn(&mut Scenario);
    let store = |what: &str| {
        format!(
            "554 {what}; Failed to process message due to a permanent exception with message \
             [BeginDiagnosticData]Cannot submit message. [EndDiagnosticData] {HOSTNAME}"
        )
    };
    let bare = MESSAGE.replace("hello\r\n", "hello\n");
    let table: [(Change, &str, String); 5] = [
        (
            |s| s.limits.recipients_per_day = 0,
            MESSAGE,
            store("5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException"),
        ),
        (
            |s| s.users[0].mailbox_full = true,
            MESSAGE,
            store(
                "5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded",
            ),
        ),
        (
            |s| s.limits.mailbox_message_octets = 20,
            MESSAGE,
            store(
                "5.2.0 STOREDRV.Submission.Exception:MessageSubmissionExceededException.MapiExceptionMaxSubmissionExceeded",
            ),
        ),
        (
            |s| s.users[0].max_send_octets = Some(20),
            MESSAGE,
            store(
                "5.2.0 STOREDRV.Submission.Exception:MessageSubmissionExceededException.MapiExceptionMaxSubmissionExceeded",
            ),
        ),
        (
            |_| {},
            &bare,
            "550 5.6.11 Message contains bare line feeds".to_owned(),
        ),
    ];
    for (change, message, wanted) in table {
        let world = World::new(change);
        assert_eq!(world.sends(message).await, wanted);
        assert!(world.service.inbox.messages().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn recipients_are_counted_by_message_and_by_domain() {
    let world = World::new(|s| s.limits.recipients_per_message = 250);
    let mut client = world.signed_in().await;
    ask(&mut client, "MAIL FROM:<svc-mail@contoso.com>").await;
    let mut codes = Vec::new();
    for n in 0..252 {
        let domain = if n < 201 {
            "example.net"
        } else {
            "example.org"
        };
        codes.push(ask(&mut client, &format!("RCPT TO:<r{n}@{domain}>")).await);
    }
    assert_eq!(codes[199], "250 2.1.5 Recipient OK");
    assert_eq!(codes[200], "452 4.5.3 Too many recipients");
    assert_eq!(codes[250], "250 2.1.5 Recipient OK");
    assert_eq!(codes[251], "452 4.5.3 Too many recipients");
}

#[tokio::test(start_paused = true)]
async fn a_message_without_id_gets_one_in_the_reply_and_in_the_file() {
    let world = World::new(|_| {});
    let said = world
        .sends("From: svc-mail@contoso.com\r\n\r\nhi\r\n")
        .await;
    let id = said.split(' ').nth(3).unwrap();
    assert!(
        id.starts_with('<') && id.ends_with("@SB0PR01MB0000.sbxprd01.prod.outlook.com>"),
        "{said}"
    );
    let eml = String::from_utf8(world.service.inbox.messages()[0].eml()).unwrap();
    assert!(eml.starts_with("Return-Path: <svc-mail@contoso.com>\r\nReceived: from client.example (127.0.0.1)\r\n by "), "{eml}");
    assert!(
        eml.contains(&format!(
            "\r\nMessage-ID: {id}\r\nFrom: svc-mail@contoso.com\r\n\r\nhi\r\n"
        )),
        "{eml}"
    );
}

fn fault(at: FaultPoint, effect: Effect) -> impl FnOnce(&mut Scenario) {
    move |scenario: &mut Scenario| {
        scenario.faults = vec![Fault {
            at,
            effect,
            only_for: None,
            times: Some(1),
        }];
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_answers_at_every_stage_and_then_things_work() {
    let busy = || Effect::Reply("451 4.7.0 Temporary server error".into());
    let wanted = "451 4.7.0 Temporary server error";

    let world = World::new(fault(
        FaultPoint::SmtpConnect,
        Effect::Reply("421 4.3.2 Service not active".into()),
    ));
    let mut client = world.connect();
    assert_eq!(reply(&mut client).await, "421 4.3.2 Service not active");
    assert_eq!(reply(&mut client).await, "");

    for at in [FaultPoint::SmtpEhlo, FaultPoint::SmtpStarttls] {
        let world = World::new(fault(at, busy()));
        let mut client = world.connect();
        reply(&mut client).await;
        if at == FaultPoint::SmtpStarttls {
            ask(&mut client, "EHLO a").await;
        }
        let command = if at == FaultPoint::SmtpEhlo {
            "EHLO a"
        } else {
            "STARTTLS"
        };
        assert_eq!(ask(&mut client, command).await, wanted);
        assert_ne!(ask(&mut client, command).await, wanted);
    }

    let world = World::new(fault(FaultPoint::SmtpAuth, busy()));
    let claims = delegated_claims(world.state());
    assert_eq!(world.signs_in(USER, &claims).await, wanted);
    assert!(world.signs_in(USER, &claims).await.starts_with("235 "));

    for (at, failing) in [
        (FaultPoint::SmtpMail, 0),
        (FaultPoint::SmtpRcpt, 1),
        (FaultPoint::SmtpData, 2),
        (FaultPoint::SmtpMessage, 3),
    ] {
        let world = World::new(fault(at, busy()));
        let mut client = world.signed_in().await;
        let commands = [
            "MAIL FROM:<svc-mail@contoso.com>",
            "RCPT TO:<a@b>",
            "DATA",
            &format!("{MESSAGE}."),
        ];
        for (index, command) in commands.iter().enumerate() {
            let said = ask(&mut client, command).await;
            assert_eq!(said == wanted, index == failing, "{at:?} {command}: {said}");
            if index == failing {
                break;
            }
        }
        ask(&mut client, "RSET").await;
        assert!(send(&mut client, MESSAGE).await.starts_with("250 "));
        assert_eq!(world.service.inbox.messages().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_leaves_the_message_and_a_cut_does_not() {
    for (effect, kept) in [(Effect::LoseReply, 1), (Effect::Close, 0)] {
        let world = World::new(fault(FaultPoint::SmtpMessage, effect));
        assert_eq!(world.sends(MESSAGE).await, "");
        assert_eq!(world.service.inbox.messages().len(), kept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_only_delays() {
    let world = World::new(fault(
        FaultPoint::SmtpMessage,
        Effect::Delay(Span::seconds(90)),
    ));
    let mut client = world.signed_in().await;
    let begun = tokio::time::Instant::now();
    assert!(send(&mut client, MESSAGE).await.starts_with("250 "));
    assert_eq!(begun.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn an_attacker_on_the_path_can_be_played() {
    let world = World::new(fault(FaultPoint::SmtpEhlo, Effect::HideStarttls));
    let mut client = world.connect();
    reply(&mut client).await;
    assert!(!ask(&mut client, "EHLO a").await.contains("STARTTLS"));
    assert!(
        ask(&mut client, "EHLO a").await.contains("STARTTLS"),
        "once only"
    );

    let inject = Effect::InjectPlaintext("250 injected".into());
    let world = World::new(fault(FaultPoint::SmtpStarttls, inject));
    let mut client = world.connect();
    reply(&mut client).await;
    ask(&mut client, "EHLO a").await;
    assert_eq!(
        ask(&mut client, "STARTTLS").await,
        "220 2.0.0 SMTP server ready"
    );
    assert_eq!(reply(&mut client).await, "250 injected");
}
