use super::*;
use crate::catalogue::Meaning;

const SUBJECT: Subject<'_> = Subject {
    account: "alerts",
    username: "svc-mail@contoso.com",
    sender: "ceo@contoso.com",
    tenant: "contoso.onmicrosoft.com",
    client_id: "0f1e",
    server: "smtp.office365.com:587",
};

#[test]
fn only_what_concerns_an_account_and_passes_has_a_pause() {
    for Meaning {
        code,
        scope,
        verdict,
        pause_minutes,
        ..
    } in CATALOGUE.smtp.iter().map(|entry| &entry.meaning)
    {
        let slows_down = (*scope, *verdict) == (Scope::Account, Verdict::Retry);
        assert!(pause_minutes.is_none() || slows_down, "{code}");
    }
}

#[test]
fn send_as_denied_names_both_addresses() {
    let found = smtp(
        554,
        Some("5.2.252"),
        "SendAsDenied; svc-mail@contoso.com not allowed to send as ceo@contoso.com; …",
        SUBJECT,
    );

    assert_eq!(found.code, "smtp.send_as_denied");
    assert!(found.remedy.contains(
        "Add-RecipientPermission ceo@contoso.com -Trustee svc-mail@contoso.com -AccessRights SendAs"
    ));
    assert!(!found.retryable());
}

#[test]
fn the_sender_that_the_server_names_goes_before_the_accounts() {
    let text = "SendAsDenied; svc-mail@contoso.com not allowed to send as boss@contoso.com; x";

    let found = smtp(554, Some("5.2.252"), text, SUBJECT);

    assert!(
        found
            .remedy
            .contains("Add-RecipientPermission boss@contoso.com -Trustee svc-mail@contoso.com"),
        "{}",
        found.remedy
    );

    let hostile = "not allowed to send as a@b$(calc);";
    let found = smtp(554, Some("5.2.252"), hostile, SUBJECT);
    assert!(found.remedy.contains("ceo@contoso.com"), "{}", found.remedy);
}

#[test]
fn the_tenant_switch_is_told_from_the_mailbox_switch() {
    let text = "Authentication unsuccessful, SmtpClientAuthentication is disabled for the ";
    let tenant = smtp(535, Some("5.7.139"), &format!("{text}Tenant."), SUBJECT);
    let mailbox = smtp(535, Some("5.7.139"), &format!("{text}Mailbox."), SUBJECT);

    assert_eq!(tenant.code, "auth.smtp_disabled_tenant");
    assert_eq!(mailbox.code, "auth.smtp_disabled_mailbox");
}

#[test]
fn what_the_catalogue_does_not_know_follows_its_class() {
    assert_eq!(
        smtp(450, None, "greylisted", SUBJECT).verdict,
        Verdict::Retry
    );
    assert_eq!(smtp(571, None, "no", SUBJECT).verdict, Verdict::Permanent);
    assert_eq!(smtp(250, None, "ok", SUBJECT).code, "smtp.unexpected");
}

#[test]
fn an_aadsts_code_says_more_than_the_error() {
    let expired = oauth(
        "invalid_client",
        None,
        Some("AADSTS7000222: The provided client secret keys for app '0f1e' are expired."),
        SUBJECT,
    );
    let plain = oauth("invalid_client", None, None, SUBJECT);

    assert_eq!(expired.code, "auth.client_secret_expired");
    assert_eq!(plain.code, "auth.client_rejected");
    assert_eq!(oauth("teapot", None, None, SUBJECT).code, "auth.failed");
}

#[test]
fn a_name_that_is_not_known_is_said_by_its_kind() {
    let found = smtp(535, Some("5.7.8"), "no", Subject::default());

    assert!(
        found.remedy.contains("account (account)"),
        "{}",
        found.remedy
    );
}

#[test]
fn aadsts_codes_are_found_anywhere() {
    assert_eq!(aadsts_code("x AADSTS50011: y"), Some(50011));
    assert_eq!(aadsts_code("AADSTS: none"), None);
    assert_eq!(aadsts_code(""), None);
}
