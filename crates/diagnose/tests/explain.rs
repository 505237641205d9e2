//! What may be pasted: replies, codes, bodies, log lines, bounces, and anything else.

use std::collections::BTreeSet;

use postrider_diagnose::{Explained, Kind, Subject, Verdict, Who, explain};
use proptest::prelude::*;

const SUBJECT: Subject<'_> = Subject {
    account: "alerts",
    username: "svc-mail@contoso.com",
    sender: "alerts@contoso.com",
    tenant: "contoso.onmicrosoft.com",
    client_id: "0f1e",
    server: "smtp.office365.com:587",
};

fn codes(text: &str) -> Vec<String> {
    let found = explain(text, SUBJECT);
    found.into_iter().map(|one| one.diagnosis.code).collect()
}

fn one(text: &str) -> Explained {
    let mut found = explain(text, SUBJECT);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

/// Section A of the facts as people paste it: whole replies with the server's trailer.
#[rustfmt::skip]
const EXCHANGE: &[(&str, &[&str])] = &[
    ("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information. [PN0PR01CA0035.INDPRD01.PROD.OUTLOOK.COM 2026-09-25T06:55:39.914Z 08DF19A9E2389312]", &["auth.smtp_disabled_tenant"]),
    ("SmtpClientAuthentication is disabled for the Mailbox.", &["auth.smtp_disabled_mailbox"]),
    ("smtplib.SMTPAuthenticationError: (535, b'5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully. Contact your administrator. [PN0PR01CA0035.INDPRD01.PROD.OUTLOOK.COM]')", &["auth.policy"]),
    ("SMTP ERROR: Password command failed: 535 5.7.139 Authentication unsuccessful, basic authentication is disabled.", &["auth.basic_disabled"]),
    ("msmtp: server message: 535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. Contact your administrator.", &["auth.security_defaults"]),
    ("Error: Invalid login: 535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.", &["auth.wrong_password"]),
    ("535 5.7.139 Authentication unsuccessful, something of next year", &["auth.exchange_refused"]),
    ("5.7.139", &["auth.exchange_refused"]),
    ("535 5.7.3 Authentication unsuccessful", &["auth.token_refused"]),
    ("5.7.3", &["auth.token_refused"]),
    ("535", &["auth.rejected"]),
    ("550 5.7.30 Basic authentication is not supported for Client Submission.", &["auth.basic_retired"]),
    ("421 4.7.66 TLS 1.0 and 1.1 are not supported. Please upgrade/update your client to support TLS 1.2. Visit https://aka.ms/smtp_auth_tls. [HOST]", &["tls.too_old"]),
    ("501 5.5.124 Invalid XOAUTH2 auth data - User address provided is not valid", &["auth.xoauth2_address"]),
    ("504 5.7.4 Unrecognized authentication type [HOST]", &["auth.mechanism"]),
    ("530 5.7.57 Client not authenticated to send mail. [HOST] Error: 535 5.7.139 Authentication unsuccessful, basic authentication is disabled.", &["auth.required", "auth.basic_disabled"]),
    ("500 5.3.3 Unrecognized command 'X'", &["smtp.command_unknown"]),
    ("503 5.5.2 Send hello first", &["smtp.out_of_order"]),
    ("554 5.2.252 SendAsDenied; svc-mail@contoso.com not allowed to send as boss@contoso.com; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message due to a permanent exception with message [BeginDiagnosticData]Cannot submit message.", &["smtp.send_as_denied"]),
    ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", &["smtp.send_as_denied"]),
    ("432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information. [Hostname=x]", &["smtp.concurrency"]),
    ("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException…", &["smtp.daily_quota"]),
    ("554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded", &["smtp.mailbox_full"]),
    ("552 5.3.4 Header size exceeds fixed maximum size", &["smtp.header_too_large"]),
    ("550 5.1.8 Access denied, bad outbound sender", &["smtp.sender_blocked"]),
    ("451 4.7.0 Temporary server error", &["smtp.server_trouble"]),
    ("421 4.3.2 Service not active [HOST]", &["smtp.unavailable"]),
    ("421 4.4.1 Connection timed out. Total session duration: 00:05:00.7054661", &["smtp.idle"]),
    ("421 4.4.2 Message submission rate for this client has exceeded the configured limit", &["smtp.rate"]),
];

#[test]
fn what_exchange_says_is_explained_however_it_was_written_down() {
    for (text, expected) in EXCHANGE {
        assert_eq!(codes(text), *expected, "{text}");
        assert!(explain(text, SUBJECT)[0].diagnosis.known, "{text}");
    }
}

#[test]
fn an_entra_error_is_found_as_text_code_number_and_body() {
    let body = r#"{"error":"invalid_client",
 "error_description":"AADSTS7000215: Invalid client secret provided. Trace ID: x Correlation ID: y",
 "error_codes":[7000215],"timestamp":"2026-07-27 21:30:32Z",
 "error_uri":"https://login.microsoftonline.com/error?code=7000215"}"#;
    let redirect =
        "http://localhost/?error=access_denied&error_description=AADSTS7000215%3a+Invalid";
    for text in [
        "AADSTS7000215",
        "7000215",
        "invalid_client: AADSTS7000215: Invalid client secret provided.",
        body,
        &format!("token endpoint said: {body} (HTTP 401)"),
        redirect,
    ] {
        let found = one(text);
        assert_eq!(found.diagnosis.code, "auth.client_secret_wrong", "{text}");
        assert_eq!(found.kind, Kind::Oauth, "{text}");
        assert_eq!(found.diagnosis.verdict, Verdict::Admin);
    }
}

#[test]
fn an_aadsts_code_that_is_not_known_leaves_the_errors_word_or_says_so() {
    let with_word = one("invalid_grant: AADSTS9999999: something of next year");
    assert_eq!(with_word.diagnosis.code, "auth.revoked");

    let alone = one("AADSTS9999999: something of next year");
    assert!(!alone.diagnosis.known);
    assert_eq!(alone.original, "AADSTS9999999: something of next year");
}

#[test]
fn errors_without_a_code_are_found_by_their_word() {
    assert_eq!(codes("error: slow_down"), ["auth.pending"]);
    assert_eq!(codes(r#"{"error":"invalid_grant"}"#), ["auth.revoked"]);
    assert_eq!(
        codes(r#"{"error":"invalid_grant","suberror":"message_only","error_description":"no"}"#),
        ["auth.conditional_access"]
    );
    assert_eq!(
        codes(
            r#"{ "error": "invalid_grant", "error_description": "Token has been expired or revoked." }"#
        ),
        ["auth.revoked"]
    );
}

#[test]
fn graph_bodies_are_told_from_token_bodies() {
    let found = one(r#"HTTP/1.1 403 Forbidden
{"error":{"code":"Authorization_RequestDenied","message":"Insufficient privileges to complete the operation.","innerError":{"date":"2026-11-23T16:00:00","request-id":"a","client-request-id":"b"}}}"#);
    assert_eq!(found.kind, Kind::Graph);
    assert_eq!(found.diagnosis.code, "graph.denied");
    assert_eq!(found.diagnosis.who, Who::EntraAdmin);

    let unknown = one(r#"{"error":{"code":"Directory_OfNextYear","message":"no"}}"#);
    assert!(!unknown.diagnosis.known);
    assert_eq!(unknown.kind, Kind::Graph);
}

#[test]
fn gmails_challenge_is_read_also_as_base64() {
    let plain = r#"{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}"#;
    let wire = "334 eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHRwczovL21haWwuZ29vZ2xlLmNvbS8ifQ==";
    for text in [plain, wire] {
        let found = one(text);
        assert_eq!(found.diagnosis.code, "auth.token_refused", "{text}");
        assert!(found.diagnosis.fresh_token);
    }
}

#[test]
fn postriders_own_words_are_explained_too() {
    let error = "error: account \"alerts\": svc-mail@contoso.com may not send as this sender: 554 5.2.252 SendAsDenied; svc-mail@contoso.com not allowed to send as boss@contoso.com; …\n   at: message, smtp.office365.com:587\n  try: in Exchange Online PowerShell: …";
    let json = r#"{"error":{"code":"smtp.send_as_denied","message":"no","retryable":false,"smtp":{"code":554,"enhanced":"5.2.252","text":"SendAsDenied; svc-mail@contoso.com not allowed to send as boss@contoso.com; x"}}}"#;
    for text in [error, json] {
        let found = one(text);
        assert_eq!(found.diagnosis.code, "smtp.send_as_denied", "{text}");
        assert!(
            found.diagnosis.remedy.contains("boss@contoso.com"),
            "{text}"
        );
    }
    let log = "2026-11-23T16:00:00Z  WARN cannot be set up account=\"alerts\" code=\"auth.mfa\"";
    let found = explain(log, SUBJECT);
    assert!(found.iter().all(|one| one.kind == Kind::Postrider));
    // Two refusals have it.
    assert_eq!(codes(log), ["auth.mfa", "auth.mfa"]);
    assert_eq!(codes("tls.unknown_authority"), ["tls.unknown_authority"]);
}

#[test]
fn a_code_that_several_refusals_have_is_explained_for_each() {
    let found = explain("auth.mechanism", SUBJECT);
    let causes: BTreeSet<&str> = found
        .iter()
        .map(|one| one.diagnosis.cause.as_str())
        .collect();
    assert!(found.len() > 1 && causes.len() == found.len(), "{found:#?}");
    assert!(
        found
            .iter()
            .all(|one| one.diagnosis.code == "auth.mechanism")
    );
    // Where the refusal itself is there, it says which of them it is.
    let refused = "504 5.7.4 Unrecognized authentication type code=\"auth.mechanism\"";
    assert_eq!(codes(refused), ["auth.mechanism"]);
}

#[test]
fn a_bounce_is_explained_by_its_diagnostic_code() {
    let bounce = "This is the mail system at host mx.example.org.\n\n<nobody@example.net>: host mx.example.net[192.0.2.4] said: 550 5.1.1\n    <nobody@example.net>: Recipient address rejected: User unknown in virtual\n    mailbox table (in reply to RCPT TO command)\n\nReporting-MTA: dns; mx.example.org\nArrival-Date: Mon, 23 Nov 2026 16:00:00 +0000 (UTC)\n\nFinal-Recipient: rfc822; nobody@example.net\nAction: failed\nStatus: 5.1.1\nRemote-MTA: dns; mx.example.net\nDiagnostic-Code: smtp; 550 5.1.1 <nobody@example.net>: Recipient address rejected:\n    User unknown in virtual mailbox table\n";
    assert_eq!(one(bounce).diagnosis.code, "smtp.unknown_recipient");

    let status_only =
        "Final-Recipient: rfc822; nobody@example.net\nAction: failed\nStatus: 5.2.2\n";
    assert_eq!(one(status_only).diagnosis.code, "smtp.recipient_full");
}

#[test]
fn trouble_before_any_reply_is_told_by_port() {
    let at = |port: u16| {
        let line = format!("connect to mx.example.net[192.0.2.1]:{port}: Connection timed out");
        let found = explain(&line, Subject::default());
        assert_eq!(found.len(), 1, "{found:#?}");
        found[0].diagnosis.cause.clone()
    };
    assert!(at(25).contains("port 25"), "{}", at(25));
    assert!(at(587).contains("submission port"), "{}", at(587));
    assert_ne!(at(25), at(2500));
}

#[test]
fn numbers_that_are_no_replies_are_left_alone() {
    for text in [
        "took 550 ms, 451 messages, port 587, line 535",
        "GET /v1.0/me HTTP/1.1 503 Service Unavailable",
        "2026-05-31 04:55:04.554 +0500 id=450 [450] 5550",
        "",
        "   \n\t",
        "hello",
        "{\"error\": 550",
        "{\"a\":{\"b\":[1,2,{\"c\":\"d\"}]}}",
    ] {
        let found = one(text);
        assert!(!found.diagnosis.known, "{text}: {found:?}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let jwt = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL291dGxvb2sub2ZmaWNlLmNvbSJ9.c2lnbmF0dXJl";
    let opaque = "0.AXoAq1w2E3r4T5y6U7i8O9p0aSdFgHjKlZxCvBnM1Q2W3E4R5T6Y7U8I9O0PqWeRtY";
    let client = "abc8Q~DeFgHiJkLmNoPqRsTuVwXyZ0123456789_";
    let texts = [
        format!("Authorization: Bearer {jwt} was refused"),
        format!("{{\"access_token\":\"{jwt}\",\"refresh_token\":\"{opaque}\"}}"),
        format!("550 5.7.999 no: client_secret={client}&grant_type=client_credentials"),
        format!("password: hunter2hunter2 / 550 5.7.999 rejected {opaque}"),
        "AUTH PLAIN AGFsZXJ0cwBodW50ZXIyaHVudGVyMg==".to_owned(),
        "334 UGFzc3dvcmQ6\nCLIENT -> SERVER: aHVudGVyMmh1bnRlcjI=\nSERVER -> CLIENT: nothing"
            .to_owned(),
    ];
    for text in texts {
        for found in explain(&text, SUBJECT) {
            let shown = serde_json::to_string(&found).unwrap() + &format!("{found:?}");
            for secret in [
                jwt,
                opaque,
                client,
                "hunter2hunter2",
                "aHVudGVyMm",
                "AGFsZXJ0cw",
            ] {
                assert!(!shown.contains(secret), "{text}: {shown}");
            }
        }
    }
}

#[test]
fn a_reply_keeps_its_own_brackets_and_loses_those_around_it() {
    let reply = "535 5.7.3 Authentication unsuccessful [YTXPR0101CA0051.CANPRD01.PROD.OUTLOOK.COM]";

    assert_eq!(one(reply).original, reply);
    assert_eq!(
        one(&format!("status=deferred (said: {reply})")).original,
        reply
    );
}

#[test]
fn control_characters_are_escaped() {
    let found = one("550 5.1.1 \u{1b}[31mno\u{7}\u{202e} such user\u{0}");

    assert_eq!(
        found.original,
        "550 5.1.1 \\u{1b}[31mno\\u{7}\\u{202e} such user\\0"
    );
}

#[test]
fn no_address_of_a_text_becomes_part_of_a_command_unless_it_is_plain() {
    let hostile = "554 5.2.252 SendAsDenied; a not allowed to send as x@y$(reboot).example; z";
    let found = one(hostile);
    assert!(found.diagnosis.remedy.contains("alerts@contoso.com"));

    let host = explain(
        "connect to evil`reboot`.example:587: Connection refused",
        Subject::default(),
    );
    assert!(
        !host[0].diagnosis.remedy.contains('`'),
        "{:?}",
        host[0].diagnosis
    );
}

#[test]
fn much_is_read_only_so_far_and_quickly() {
    let lines: Vec<String> = (0..20_000)
        .map(|n| format!("550 5.{}.{} no {n}", n % 9, n % 700))
        .collect();
    let many = lines.join("\n");
    assert!(explain(&many, SUBJECT).len() <= 16);
    for unit in [
        "{",
        "{\"error\":",
        "550-",
        "550 5.7.1 ",
        "AADSTS",
        "AADSTS1 ",
        "334 e30= ",
        "invalid_grant ",
        "4.4.4 ",
        "eyJ",
        "\\n",
        "é535 ",
    ] {
        let long = unit.repeat(200_000 / unit.len());
        assert!(explain(&long, SUBJECT).len() <= 16, "{unit}");
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("550"),
        Just("535-5.7.8 "),
        Just("5.7.1"),
        Just("4.2."),
        Just("AADSTS"),
        Just("7000215"),
        Just("{\"error\":"),
        Just("\"invalid_grant\""),
        Just("}"),
        Just("334 "),
        Just("e30="),
        Just("\r\n"),
        Just("\\n"),
        Just("\n "),
        Just(" "),
        Just("Bearer "),
        Just("eyJhbGciOiJub25lIn0.e30."),
        Just("é"),
        Just("\u{202e}"),
        Just("\u{0}"),
        Just(":587"),
        Just("Connection refused"),
        Just("not allowed to send as "),
        Just("a@b.example;"),
        Just("said: "),
        Just("b'"),
        Just("'"),
        Just("…"),
        Just("certificate"),
        Just("has expired"),
        Just("SMTP code:"),
        Just("code=\"auth.mfa\""),
        Just("İ"),
        Just("𝟝𝟝𝟘"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn is_well_formed(text: &str) {
    let found = explain(text, SUBJECT);
    assert!((1..=16).contains(&found.len()));
    for one in found {
        assert!(one.original.chars().count() <= 501 * 10);
        assert!(!one.original.contains(|c: char| c.is_control()), "{one:?}");
        assert!(!one.diagnosis.cause.is_empty() && !one.diagnosis.remedy.is_empty());
        assert!(one.diagnosis.remedy.len() < 2000);
    }
}

proptest! {
    #[test]
    fn anything_may_be_pasted(text in any::<String>()) {
        is_well_formed(&text);
    }

    #[test]
    fn anything_that_looks_like_refusals_may_be_pasted(text in pieces()) {
        is_well_formed(&text);
    }
}
