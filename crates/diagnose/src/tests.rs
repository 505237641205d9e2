use super::*;
use crate::catalogue::{GraphEntry, Meaning, NetworkEntry, OauthEntry, Phrase, SmtpEntry};

const FILE: &str = include_str!("catalogue.toml");

#[test]
fn the_catalogue_follows_its_schema() {
    let schema = serde_json::from_str(include_str!("catalogue.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let check = |text: &str| -> Vec<String> {
        let table: toml::Table = toml::from_str(text).unwrap();
        let value = serde_json::to_value(table).unwrap();
        let said = |problem: jsonschema::ValidationError<'_>| {
            format!("{}: {problem}", problem.instance_path())
        };
        schema.iter_errors(&value).map(said).collect()
    };

    assert_eq!(check(FILE), Vec::<String>::new());
    for (right, wrong) in [
        ("who = \"you\"", "who = \"me\""),
        ("verdict = \"admin\"", "verdict = \"credential\""),
        ("reply = [535]", "replies = [535]"),
        ("source = \"", "sauce = \""),
    ] {
        assert!(FILE.contains(right), "{right}");
        assert_ne!(check(&FILE.replacen(right, wrong, 1)), Vec::<String>::new());
    }
}

#[test]
fn the_catalogue_has_no_fewer_entries_than_it_is_to_have() {
    let table: toml::Table = toml::from_str(FILE).unwrap();
    let count = |kind: &str| table[kind].as_array().unwrap().len();
    let all = count("smtp") + count("oauth") + count("graph") + count("network");

    assert!(all >= 200, "{all}");
    assert!(count("graph") >= 10 && count("network") >= 25);
}

/// Each entry is the first that fits a refusal made of its own conditions: no other stands in
/// its way.
#[test]
fn every_entry_can_be_reached() {
    let first = |phrases: &[Phrase]| phrases.first().map(Phrase::example).unwrap_or_default();
    for (index, entry) in CATALOGUE.smtp.iter().enumerate() {
        let enhanced = entry.enhanced.first().map(String::as_str);
        let transient = enhanced.is_some_and(|status| status.starts_with('4'));
        let some = if transient { 459 } else { 559 };
        let reply = entry.reply.first().copied().unwrap_or(some);
        let text = first(&entry.contains);
        let fits = |other: &SmtpEntry| other.matches(reply, enhanced, &text);
        let found = CATALOGUE.smtp.iter().position(fits);
        assert_eq!(found, Some(index), "shadowed: {}", entry.meaning.code);
    }
    for (index, entry) in CATALOGUE.oauth.iter().enumerate() {
        let error = entry.error.first().map_or("x", String::as_str);
        let suberror = entry.suberror.first().map(String::as_str);
        let aadsts = entry.aadsts.first().copied();
        let text = first(&entry.contains);
        let fits = |other: &OauthEntry| other.matches(error, suberror, aadsts, &text);
        let found = CATALOGUE.oauth.iter().position(fits);
        assert_eq!(found, Some(index), "shadowed: {}", entry.meaning.code);
    }
    for (index, entry) in CATALOGUE.graph.iter().enumerate() {
        let error = entry.error.first().map_or("x", String::as_str);
        let status = entry.status.first().copied().unwrap_or(400);
        let text = first(&entry.contains);
        let fits = |other: &GraphEntry| other.matches(status, error, &text);
        let found = CATALOGUE.graph.iter().position(fits);
        assert_eq!(found, Some(index), "shadowed: {}", entry.meaning.code);
    }
    for (index, entry) in CATALOGUE.network.iter().enumerate() {
        let trouble = entry.trouble.first().copied().unwrap_or(Trouble::Tls);
        let port = entry.port.first().copied();
        let text = first(&entry.contains);
        let fits = |other: &NetworkEntry| other.matches(trouble, port, &text);
        let found = CATALOGUE.network.iter().position(fits);
        assert_eq!(found, Some(index), "shadowed: {}", entry.meaning.code);
    }
}

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
