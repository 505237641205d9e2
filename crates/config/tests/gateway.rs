//! What `[gateway.NAME]` comes to, and that no way of writing it makes an open relay.
#![allow(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a failure is a failed test"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider_config::{
    CertificateFiles, Config, Gateway, GatewayTls, Presets, Problem, Quirk, check_device_name,
    parse_expiry,
};
use proptest::prelude::*;

/// One with OAuth, one with a password; `reports` sends as another.
const ACCOUNTS: &str = "[account.alerts]
provider = 'microsoft365'
username = 'alerts@contoso.com'
auth = { plugin = 'oauth', flow = 'client_credentials', tenant = 'contoso.com', client_id = '11111111-2222-3333-4444-555555555555', client_secret = { env = 'S' } }
[account.reports]
username = 'svc@contoso.com'
sender = 'Reports <Reports@contoso.com>'
server = { host = 'smtp.contoso.com' }
recipients_per_message = 7
auth = { plugin = 'basic', password = { env = 'P' } }
";

fn load(gateways: &str) -> Result<Config, Vec<Problem>> {
    let path = Path::new("/etc/postrider/postrider.toml");
    let text = format!("{ACCOUNTS}{gateways}");
    Config::parse(&text, Some(path), &Presets::builtin()).map_err(|errors| errors.problems)
}

/// `[gateway.office]` with `account = 'alerts'` and these keys.
fn office(keys: &str) -> Result<Gateway, Vec<Problem>> {
    let config = load(&format!("[gateway.office]\naccount = 'alerts'\n{keys}\n"))?;
    Ok(config.gateways["office"].clone())
}

/// The only problem of such a table: its key after `gateway.office`, and what it says.
fn fault(keys: &str) -> (String, String) {
    let problems = office(keys).unwrap_err();
    let [problem] = problems.as_slice() else {
        panic!("{problems:#?}");
    };
    assert!(problem.line().is_some_and(|line| line > 11), "{problem:#?}");
    assert!(problem.suggestion.is_some(), "{problem:#?}");
    let key = problem.key.strip_prefix("gateway.office").unwrap();
    let key = key.strip_prefix('.').unwrap_or(key).to_owned();
    (key, problem.to_string())
}

fn addresses(gateway: &Gateway, device: &str) -> Vec<String> {
    let senders = &gateway.device(device).senders;
    senders.addresses.iter().cloned().collect()
}

#[test]
fn an_account_is_all_that_is_needed() {
    let gateway = office("").unwrap();
    assert_eq!(gateway.listen, ["127.0.0.1:2525".parse().unwrap()]);
    assert_eq!(gateway.tls, GatewayTls::Starttls);
    assert_eq!(gateway.certificate, None);
    let clients: Vec<String> = gateway.clients.iter().map(ToString::to_string).collect();
    assert_eq!(clients, ["127.0.0.0/8", "::1"]);
    assert!(gateway.quirks.is_empty() && !gateway.hide_client);
    assert_eq!(
        (gateway.connections, gateway.connections_per_client),
        (1000, 20)
    );
    assert_eq!(gateway.idle_timeout, Duration::from_mins(5));
    assert_eq!(gateway.observe, None);
    assert_eq!(gateway.rehearse, None);

    let printer = gateway.device("printer-2");
    assert_eq!(printer.account, "alerts");
    assert_eq!(addresses(&gateway, "printer-2"), ["alerts@contoso.com"]);
    assert!(!printer.rewrite_from && printer.recipient_domains.is_none());
    assert_eq!(printer.max_message_octets, 150 << 20);
    assert_eq!(printer.clients, gateway.clients);
}

#[test]
fn the_only_account_is_the_default_and_among_several_one_is_named() {
    let only = "[account.ops]\nusername = 'ops@contoso.com'\nserver = { host = 'smtp.contoso.com' }\nauth = { plugin = 'basic', password = { env = 'P' } }\n[gateway.office]\n";
    let config = Config::parse(only, None, &Presets::builtin()).unwrap();
    assert_eq!(config.gateways["office"].defaults.account, "ops");

    let problems = load("[gateway.office]\n").unwrap_err();
    assert!(
        problems[0].message.starts_with("`account` is missing"),
        "{problems:?}"
    );
    let problems = Config::parse("[gateway.office]\n", None, &Presets::builtin()).unwrap_err();
    assert!(
        problems.to_string().contains("postrider setup"),
        "{problems}"
    );
}

#[test]
fn all_that_is_written_counts() {
    let gateway = office(
        "listen = ['192.168.1.5:587', '[fd00::5]:587']
         tls = 'offered'
         certificate = 'tls/office.pem'
         key = '/etc/ssl/office.key'
         hostname = 'mail.contoso.com'
         clients = ['192.168.1.0/24', 'fd00::/8', '127.0.0.1']
         hide_client = true
         quirks = ['login_nul', 'bare_lf']
         connections = 50
         connections_per_client = 5
         idle_timeout = '1m'
         session_timeout = '10m'
         senders = ['@Contoso.com', 'Scanner@fabrikam.com']
         rewrite_from = true
         recipient_domains = ['Contoso.com']
         messages_per_minute = 10
         messages_per_day = 500
         max_message = '20MiB'
         recipients_per_message = 20",
    )
    .unwrap();
    assert_eq!(gateway.listen.len(), 2);
    assert_eq!(gateway.tls, GatewayTls::Offered);
    let files = CertificateFiles {
        certificate: PathBuf::from("/etc/postrider/tls/office.pem"),
        key: PathBuf::from("/etc/ssl/office.key"),
    };
    assert_eq!(gateway.certificate, Some(files));
    assert_eq!(gateway.hostname.as_deref(), Some("mail.contoso.com"));
    assert_eq!(
        gateway.quirks,
        BTreeSet::from([Quirk::BareLf, Quirk::LoginNul])
    );
    let printer = gateway.device("printer-2");
    let set = |text: &str| BTreeSet::from([text.to_owned()]);
    assert_eq!(printer.senders.domains, set("contoso.com"));
    assert_eq!(printer.senders.addresses, set("scanner@fabrikam.com"));
    assert!(printer.rewrite_from);
    let domains = printer.recipient_domains.as_ref().unwrap();
    assert!(domains.contains("contoso.com"));
    assert_eq!(printer.messages_per_minute, Some(10));
    assert_eq!(printer.messages_per_day, Some(500));
    assert_eq!(printer.max_message_octets, 20 << 20);
    assert_eq!(printer.recipients_per_message, 20);
}

#[test]
fn a_device_has_its_own_settings_and_else_the_gateways() {
    let gateway = office(
        "messages_per_minute = 10
         clients = ['127.0.0.0/8']
         [gateway.office.device.'scanner@contoso.com']
         account = 'reports'
         clients = ['127.0.0.7']
         messages_per_day = 5
         [gateway.office.device.ups]
         senders = ['ups@contoso.com']",
    )
    .unwrap();
    let scanner = gateway.device("scanner@contoso.com");
    assert_eq!(scanner.account, "reports");
    // Of the other account, as the gateway names none of its own.
    assert_eq!(
        addresses(&gateway, "scanner@contoso.com"),
        ["reports@contoso.com", "svc@contoso.com"]
    );
    assert_eq!(scanner.recipients_per_message, 7);
    assert_eq!(
        (scanner.messages_per_minute, scanner.messages_per_day),
        (Some(10), Some(5))
    );
    assert_eq!(scanner.clients.len(), 1);
    assert_eq!(addresses(&gateway, "ups"), ["ups@contoso.com"]);
    assert_eq!(gateway.device("ups").account, "alerts");
    assert_eq!(gateway.device("anything else"), &gateway.defaults);
}

#[test]
fn there_is_no_way_to_do_without_a_password() {
    for written in [
        "auth = 'none'",
        "auth = false",
        "require_auth = false",
        "allow_anonymous = true",
        "mynetworks = ['192.168.1.0/24']",
        "relay_networks = ['192.168.1.0/24']",
        "open_relay = true",
        "device.printer = { auth = 'none' }",
    ] {
        let (_, said) = fault(written);
        assert!(
            said.contains("never takes mail without a password"),
            "{said}"
        );
        assert!(said.contains("gateway credential add"), "{said}");
    }
    // They are no suggestion either.
    let (_, said) = fault("require_auht = true");
    assert!(!said.contains("require_auth`"), "{said}");
}

#[test]
fn a_devices_password_is_not_written_here_and_the_command_that_makes_one_is_named() {
    for written in [
        "password = 'hunter2'",
        "passwords = { printer = 'hunter2' }",
        "credential = 'hunter2'",
        "device.printer = { password = 'hunter2' }",
    ] {
        let (_, said) = fault(written);
        let command = "postrider gateway credential add DEVICE --gateway office";
        assert!(said.contains(command), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    // It is not what a slip of the pen is taken for.
    let (_, said) = fault("pasword = 'hunter2'");
    assert!(!said.contains("`password`"), "{said}");
}

#[test]
fn others_than_this_machine_are_let_in_by_name() {
    let (key, said) = fault("listen = '192.168.1.5:2525'");
    assert_eq!(key, "listen");
    assert!(said.contains("clients = [\"192.168.1.0/24\"]"), "{said}");
    for listen in [
        "'0.0.0.0:2525'",
        "'[::]:2525'",
        "['127.0.0.1:1', '[fd00::1]:1']",
    ] {
        fault(&format!("listen = {listen}"));
        office(&format!("listen = {listen}\nclients = ['10.1.0.0/16']")).unwrap();
    }
    for here in ["'127.0.0.1:1'", "'[::1]:1'", "'[::ffff:127.0.0.1]:1'"] {
        office(&format!("listen = {here}")).unwrap();
    }
}

#[test]
fn the_internet_is_no_client_unless_danger_is_written() {
    for network in [
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0/1",
        "2000::/3",
        "::ffff:0:0/96",
    ] {
        let clients = format!("clients = ['10.0.0.0/8', '{network}']");
        let (key, said) = fault(&clients);
        assert_eq!(key, "clients");
        assert!(said.contains("danger_clients_anywhere"), "{said}");
        office(&format!("{clients}\ndanger_clients_anywhere = true")).unwrap();
    }
    let (_, said) = fault("clients = ['192.168.1.7/24']");
    assert!(
        said.contains("write \"192.168.1.0/24\" for the network"),
        "{said}"
    );
    fault("clients = ['*']");
}

#[test]
fn passwords_in_clear_stay_within_a_network_of_ones_own() {
    let plain = |more: &str| format!("tls = 'danger_plaintext'\n{more}");
    // Whatever danger is written elsewhere, and on this machine, too.
    let (key, said) = fault(&plain(""));
    assert_eq!(key, "tls");
    assert!(said.contains("does not say from whom"), "{said}");
    for network in [
        "192.0.2.0/24",
        "0.0.0.0/0",
        "2001:db8::/48",
        "100.64.0.0/10",
    ] {
        let (key, said) = fault(&plain(&format!(
            "listen = '192.168.7.1:25'\nclients = ['{network}']\ndanger_clients_anywhere = true"
        )));
        assert_eq!(key, "clients");
        assert!(said.contains("no private network"), "{said}");
    }
    let (key, said) = fault(&plain(
        "listen = '0.0.0.0:25'\nclients = ['192.168.7.0/24']",
    ));
    assert_eq!(key, "listen");
    assert!(said.contains("on every network of this machine"), "{said}");
    let (key, _) = fault(
        &plain("clients = ['127.0.0.1']\ncertificate = 'a'\nkey = 'b'").replace("\nkey = 'b'", ""),
    );
    assert_eq!(key, "certificate");

    let vlan = office(&plain(
        "listen = '192.168.7.1:25'\nclients = ['192.168.7.0/24']",
    ))
    .unwrap();
    assert_eq!(vlan.tls, GatewayTls::DangerPlaintext);
    office(&plain("clients = ['127.0.0.1', '::1']")).unwrap();
}

#[test]
fn a_certificate_has_its_key() {
    let (key, said) = fault("certificate = 'a.pem'");
    assert!(
        key == "certificate" && said.contains("needs `key`"),
        "{said}"
    );
    let (key, said) = fault("key = 'a.key'");
    assert!(
        key == "key" && said.contains("needs `certificate`"),
        "{said}"
    );
}

#[test]
fn senders_are_never_everybody() {
    for (senders, expected) in [
        ("'*'", "rewrite_from = true"),
        ("'*@contoso.com'", "\"@contoso.com\""),
        ("'@*'", "rewrite_from = true"),
        ("'contoso.com'", "write \"@contoso.com\""),
    ] {
        let (key, said) = fault(&format!("senders = [{senders}]"));
        assert!(key == "senders" && said.contains(expected), "{said}");
    }
    assert!(office("senders = []").is_err());
    let (_, said) = fault("recipient_domains = ['@contoso.com']");
    assert!(said.contains("write \"contoso.com\""), "{said}");
}

#[test]
fn international_domains_are_compared_in_their_ascii_form() {
    let gateway = office("senders = ['a@b\u{fc}cher.example', '@xn--bcher-kva.example']").unwrap();
    let senders = &gateway.defaults.senders;
    assert!(senders.addresses.contains("a@xn--bcher-kva.example"));
    assert!(senders.domains.contains("xn--bcher-kva.example"));
}

#[test]
fn accounts_and_words_are_known_or_the_nearest_is_named() {
    let misspelt = load("[gateway.office]\naccount = 'alert'\n").unwrap_err();
    assert_eq!(
        misspelt[0].suggestion.as_deref(),
        Some("did you mean \"alerts\"?")
    );
    let (key, said) = fault("device.ups = { account = 'report' }");
    assert!(
        key == "device.ups.account" && said.contains("\"reports\""),
        "{said}"
    );
    let (_, said) = fault("quirks = ['bare_fl']");
    assert!(said.contains("did you mean \"bare_lf\"?"), "{said}");
    let (_, said) = fault("tls = 'startls'");
    assert!(said.contains("did you mean \"starttls\"?"), "{said}");
    let (_, said) = fault("lisen = '127.0.0.1:25'");
    assert!(said.contains("did you mean `listen`?"), "{said}");
    let (_, said) = fault("listen = 'localhost:25'");
    assert!(said.contains("write \"127.0.0.1:25\""), "{said}");
}

#[test]
fn observing_needs_an_account_that_still_has_a_password() {
    let gateway = office("mode = 'observe'\nobserve_account = 'reports'").unwrap();
    assert_eq!(gateway.observe.as_deref(), Some("reports"));
    assert_eq!(gateway.defaults.account, "alerts");
    // One word turns it off again.
    let gateway = office("observe_account = 'reports'").unwrap();
    assert_eq!(gateway.observe, None);

    let (key, said) = fault("mode = 'observe'");
    assert!(key == "mode" && said.contains("observe_account"), "{said}");
    let (key, said) = fault("mode = 'observe'\nobserve_account = 'alerts'");
    assert!(
        key == "observe_account" && said.contains("OAuth already"),
        "{said}"
    );
    let (_, said) = fault("mode = 'observe'\nobserve_account = 'report'");
    assert!(said.contains("did you mean \"reports\"?"), "{said}");
}

#[test]
fn a_rehearsal_begins_and_ends_for_those_it_names() {
    let gateway = office(
        "rehearse = { from = '2026-12-01T09:00:00+01:00', until = 2026-12-02, devices = ['ups'] }",
    )
    .unwrap();
    let rehearse = gateway.rehearse.unwrap();
    let at = |text| parse_expiry(text).unwrap();
    assert_eq!(rehearse.from, at("2026-12-01T08:00:00Z"));
    assert_eq!(rehearse.until, Some(at("2026-12-02")));
    assert_eq!(rehearse.devices, Some(BTreeSet::from(["ups".to_owned()])));
    let all = office("rehearse = { from = 2026-12-01 }").unwrap();
    let all = all.rehearse.unwrap();
    assert_eq!((all.until, all.devices), (None, None));
    assert!(office("rehearse = { from = 2026-12-01, devices = [] }").is_err());

    let (key, said) = fault("rehearse = { from = '2026-12-02', until = '2026-12-02' }");
    assert!(
        key == "rehearse.until" && said.contains("not later"),
        "{said}"
    );
    let (_, said) = fault("rehearse = {}");
    assert!(said.contains("`from` is missing"), "{said}");
    let problems = office("rehearse = { from = '09:00' }").unwrap_err();
    assert!(
        problems[0].message.contains("neither a day"),
        "{problems:?}"
    );
}

#[test]
fn a_devices_clients_are_some_of_the_gateways() {
    let (key, said) = fault("device.ups = { clients = ['127.0.0.1', '10.0.0.0/8'] }");
    assert_eq!(key, "device.ups.clients");
    assert!(said.contains("do not hold \"10.0.0.0/8\""), "{said}");
    let wider = "clients = ['127.0.0.1']\ndevice.ups = { clients = ['127.0.0.0/8'] }";
    fault(wider);
    office("device.ups = { clients = ['127.3.0.0/16'] }").unwrap();
}

#[test]
fn no_message_is_taken_that_the_queue_refuses() {
    let (key, said) = fault("max_message = '151MiB'");
    assert!(key == "max_message" && said.contains("[queue]"), "{said}");
    let (key, _) = fault("device.ups = { max_message = '1GiB' }");
    assert_eq!(key, "device.ups.max_message");
}

#[test]
fn no_two_listeners_share_a_port() {
    let two = |one: &str, other: &str| {
        load(&format!(
            "[gateway.b]\naccount = 'alerts'\nclients = ['10.0.0.0/8']\nlisten = {one}
             [gateway.a]\naccount = 'alerts'\nclients = ['10.0.0.0/8']\nlisten = {other}\n"
        ))
    };
    let problems = two("'10.0.0.1:25'", "['10.0.0.1:26', '10.0.0.1:25']").unwrap_err();
    assert_eq!(problems.len(), 1);
    // The later one is at fault, wherever its name is in the alphabet.
    assert_eq!(problems[0].key, "gateway.a.listen");
    assert_eq!(problems[0].line(), Some(18));
    assert!(
        problems[0]
            .message
            .contains("[gateway.b] listens on 10.0.0.1:25"),
        "{problems:?}"
    );
    let problems = two("'0.0.0.0:25'", "'10.0.0.1:25'").unwrap_err();
    assert!(
        problems[0].message.contains("which takes 10.0.0.1:25 too"),
        "{problems:?}"
    );
    two("'10.0.0.1:25'", "'10.0.0.2:25'").unwrap();
    two("'127.0.0.1:0'", "'127.0.0.1:0'").unwrap();

    let twice = office("listen = ['127.0.0.1:25', '127.0.0.1:25']").unwrap_err();
    assert_eq!(twice.len(), 1);
    let defaults = "[gateway.a]\naccount = 'alerts'\n[gateway.b]\naccount = 'alerts'\n";
    assert!(load(defaults).is_err());
    let metrics = "[serve]\nmetrics = '127.0.0.1:2525'\n[gateway.a]\naccount = 'alerts'\n";
    let problems = load(metrics).unwrap_err();
    assert!(problems[0].message.contains("`metrics`"), "{problems:?}");
}

#[test]
fn a_device_is_called_as_its_settings_page_allows() {
    for good in ["printer-2", "scanner@contoso.com", "UPS_1", "a+b.c", "7"] {
        assert_eq!(check_device_name(good), Ok(()), "{good}");
    }
    let long = "x".repeat(64);
    for bad in [
        "",
        " ",
        "a b",
        "a/b",
        "../x",
        "@contoso.com",
        "-x",
        "dr\u{fc}cker",
        "a\0",
        &long,
    ] {
        assert!(check_device_name(bad).is_err(), "{bad:?}");
    }
    let problems = office("device.'a/b' = {}").unwrap_err();
    assert_eq!(problems[0].key, "gateway.office.device.\"a/b\"");
}

#[test]
fn one_mistake_is_one_problem() {
    // A broken account is not also an unknown one.
    let text = "[account.a]\nusername = 'x'\n[gateway.g]\naccount = 'a'\n";
    let errors = Config::parse(text, None, &Presets::builtin()).unwrap_err();
    assert!(
        errors
            .problems
            .iter()
            .all(|problem| problem.key.starts_with("account.a")),
        "{errors}"
    );
}

/// Pieces of a gateway's table.
fn keys() -> impl Strategy<Value = String> {
    const LINES: &[&str] = &[
        "listen = '0.0.0.0:25'",
        "listen = '127.0.0.1:25'",
        "listen = '192.0.2.1:25'",
        "listen = ['[::]:25', '10.0.0.1:26']",
        "tls = 'danger_plaintext'",
        "tls = 'offered'",
        "tls = 'implicit'",
        "clients = ['0.0.0.0/0']",
        "clients = ['10.0.0.0/8']",
        "clients = ['192.0.2.0/24', '127.0.0.1']",
        "clients = ['128.0.0.0/1', '0.0.0.0/1']",
        "danger_clients_anywhere = true",
        "senders = ['@contoso.com']",
        "senders = ['*']",
        "rewrite_from = true",
        "auth = 'none'",
        "require_auth = false",
        "device.a = { clients = ['0.0.0.0/0'] }",
        "device.a = { senders = ['*'] }",
        "device.a = { account = 'reports', rewrite_from = true }",
    ];
    proptest::collection::vec(proptest::sample::select(LINES), 0..6)
        .prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_no_open_relay(keys in keys()) {
        let Ok(gateway) = office(&keys) else { return Ok(()) };
        let danger = keys.contains("danger_clients_anywhere");
        let outside = "8.8.8.8".parse().unwrap();
        let lets_in = gateway.clients.iter().any(|network| network.contains(outside));
        prop_assert!(danger || !lets_in, "{keys}");
        if gateway.tls == GatewayTls::DangerPlaintext {
            prop_assert!(!lets_in, "{keys}");
            prop_assert!(gateway.listen.iter().all(|at| !at.ip().is_unspecified()));
            prop_assert!(keys.contains("clients = "));
        }
        let here = gateway.listen.iter().all(|at| at.ip().is_loopback());
        prop_assert!(here || keys.contains("clients = "), "{keys}");
        for device in ["a", "b"] {
            let device = gateway.device(device);
            let senders = device.senders.addresses.iter().chain(&device.senders.domains);
            let named: Vec<&String> = senders.collect();
            prop_assert!(!named.is_empty() && named.iter().all(|name| name.contains("contoso.com")));
            prop_assert!(!device.clients.is_empty() && !device.account.is_empty());
        }
    }
}
