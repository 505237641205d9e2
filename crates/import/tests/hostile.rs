//! Files that nobody should write: whatever stands in them, an import ends, stays small and
//! shows no secret.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;

use postrider_import::{
    Files, ImportError, ImportErrorKind, Imported, MAX_FILE_OCTETS, Options, emailproxy, msmtp,
    postfix, sasl_xoauth2,
};
use proptest::prelude::*;
use serde_json::json;
use zeroize::Zeroizing;

/// What must not be seen.
const SECRET: &str = "hunter2";

/// `main` under its name, `master.cf`, and `other` under every other name.
struct Three<'a> {
    main: &'a str,
    master: &'a str,
    other: &'a str,
}

impl Files for Three<'_> {
    fn read(&self, path: &str) -> Result<Option<Zeroizing<String>>, String> {
        let text = match path {
            "main" => self.main,
            "master.cf" => self.master,
            _ => self.other,
        };
        Ok(Some(Zeroizing::new(text.to_owned())))
    }
}

/// What every importer makes of the files.
fn all(files: &Three<'_>) -> [Result<Imported, ImportError>; 4] {
    let options = Options::default();
    [
        msmtp("main", files, &options),
        postfix("main", files, &options),
        sasl_xoauth2("main", "/passwords", files, &options),
        emailproxy("main", Some("cache"), files, None, &options),
    ]
}

/// Everything that is shown of an import.
fn shown(imported: &Result<Imported, ImportError>) -> String {
    let mut shown = format!("{imported:?}");
    match imported {
        Ok(imported) => {
            let accounts = imported.accounts.iter().map(|it| (&it.name, &it.settings));
            let gateways = imported.gateways.iter().map(|it| (&it.name, &it.settings));
            for (name, settings) in accounts.chain(gateways) {
                write!(shown, "{name} {}", json!(settings)).unwrap();
            }
            write!(shown, "{}", json!(imported.not_carried)).unwrap();
        }
        Err(error) => write!(shown, "{error}").unwrap(),
    }
    shown
}

fn is_fit(imported: &Result<Imported, ImportError>) -> Result<(), TestCaseError> {
    let is_line = |text: &str| text.len() < 2000 && !text.contains(char::is_control);
    match imported {
        Ok(imported) => {
            for account in &imported.accounts {
                prop_assert!(!account.name.is_empty() && account.name.len() <= 64);
            }
            prop_assert!(imported.not_carried.len() <= 1001);
            for left in &imported.not_carried {
                let lines = [&left.what, &left.why, &left.place.file];
                let lines = lines.into_iter().chain(left.instead.as_ref());
                for line in lines {
                    prop_assert!(is_line(line), "{line}");
                }
            }
        }
        Err(error) => prop_assert!(is_line(&error.to_string()), "{error}"),
    }
    Ok(())
}

/// Lines that the formats are made of. Where a secret stands in them, nobody may see it.
const PIECES: [&str; 56] = [
    "account a",
    "account b : a",
    "account c : a, b",
    "defaults",
    "host h",
    "port 465",
    "auth on",
    "auth hunter2",
    "auth oauthbearer",
    "user u@h",
    "user u",
    "from u@h",
    "password hunter2",
    "password \"hunter2\"",
    "passwordeval echo hunter2",
    "passwordeval printf 'hunter2'",
    "passwordeval pass u",
    "tls_fingerprint x",
    "[SMTP-25]",
    "[SMTP-x]",
    "[a@b]",
    "[@]",
    "[emailproxy]",
    "server_address = h",
    "server_port = 465",
    "token_url = https://login.microsoftonline.com/t/oauth2/v2.0/token",
    "client_id = c",
    "client_secret = hunter2",
    "client_secret_encrypted = hunter2",
    "token_salt = AA==",
    "refresh_token = hunter2",
    "allow_catch_all_accounts = 1",
    "relayhost = [h]:587",
    "relayhost = h, [i]",
    "smtp_sasl_auth_enable = yes",
    "smtp_sasl_mechanism_filter = xoauth2",
    "smtp_sasl_password_maps = static:u@h:hunter2",
    "smtp_sasl_password_maps = static:u:hunter2",
    "smtp_sasl_password_maps = static:{hunter2}",
    "smtp_sasl_password_maps = inline:{[h]:587=u@h:hunter2, {k = hunter2}}",
    "smtp_sasl_password_maps = inline:{ hunter2",
    "smtp_sasl_password_maps = pipemap:{static:hunter2, fail:x}",
    "smtp_sasl_password_maps = u@h:hunter2",
    "smtp_sasl_password_maps = hunter2",
    "smtp_sasl_password_maps = texthash:/p, regexp:/p, ldap:/x",
    "sender_dependent_relayhost_maps = regexp:/p",
    "inet_interfaces = $x",
    "mynetworks = 10.0.0.0/8 !x",
    "x = ${x?{y}:{$x}}",
    "[h]:587 u@h:hunter2",
    "u@h u:hunter2",
    "/.+/ u@h:hunter2",
    "/^u@h$/ [h]:587",
    "hunter2",
    "smtp inet n - y - - smtpd",
    "465 inet n - y - - smtpd -o smtpd_tls_wrappermode=yes",
];

fn soup() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        5 => prop::sample::select(&PIECES[..]).prop_map(str::to_owned),
        // No line that goes on with one of these: what was a password could become a name.
        1 => ".{0,40}".prop_map(|text: String| text.trim_start().to_owned()),
    ];
    let lines = prop::collection::vec(line, 0..30).prop_map(|lines| lines.join("\n"));
    let object = prop::sample::select(vec![
        r#"{"client_id":"c","client_secret":"hunter2","refresh_token":"hunter2"}"#,
        r#"{"client_id":"c","client_secret":hunter2}"#,
        r#"{"refresh_token":"hunter2","proxy":"https://u:hunter2@h"}"#,
    ]);
    prop_oneof![4 => lines, 1 => object.prop_map(str::to_owned)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_files_are_imported_or_refused_and_no_secret_is_shown(
        main in soup(), master in soup(), other in soup(),
    ) {
        let files = Three { main: &main, master: &master, other: &other };
        for imported in all(&files) {
            is_fit(&imported)?;
            let shown = shown(&imported);
            prop_assert!(!shown.contains(SECRET), "{shown}");
        }
    }
}

/// `piece` as often as a file has room for it, with its number where `{}` stands.
fn full_of(start: &str, piece: &str) -> String {
    let mut text = start.to_owned();
    for number in 1.. {
        let more = piece.replace("{}", &number.to_string());
        if text.len() + more.len() > MAX_FILE_OCTETS {
            break;
        }
        text.push_str(&more);
    }
    text
}

#[test]
fn a_file_that_is_full_of_one_thing_costs_no_more_than_its_length() {
    let relay = "relayhost = [h]:587\nsmtp_sasl_auth_enable = yes\n\
                 smtp_sasl_password_maps = texthash:/p\n\
                 sender_dependent_relayhost_maps = texthash:/p\n";
    let texts = [
        full_of("x = ", "${"),
        full_of("x = ", "${x?"),
        full_of("x = ", "$x"),
        full_of("a = b\nx = ${a?{", "${"),
        full_of(&format!("y = {}\nx = ", "y".repeat(50_000)), "${y?}"),
        full_of("mynetworks =", " !{}"),
        full_of(relay, "p{} = $relayhost\n"),
        full_of("smtp_sasl_password_maps = inline:", "{"),
        full_of("", "[SMTP-{}]\nserver_address=h\nserver_port=1\n"),
        full_of(
            "[SMTP-1]\nserver_address=h\nserver_port=1\n",
            "[a@b.{}]\ntoken_url=x\nclient_id=c\n",
        ),
        full_of("[a@b]\n", "k{} = v\n"),
        full_of("[a@b]\nx=", " y\n"),
        full_of("account a\npassword p\n", "account a{} : a\n"),
        full_of(
            "account a\npassword p\n",
            "account a{} : a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a\n",
        ),
        full_of("", "["),
    ];
    let others = [
        full_of("", "a{}@h [h]:587\n"),
        full_of("", "[h{}]:587 u@h:p\n"),
        full_of("", "s{}@h u@h:p\n"),
    ];
    let master = full_of("", "{} inet n - y - - smtpd -o smtpd_tls_cert_file=$x\n");
    for main in &texts {
        assert_bounded(&Three {
            main,
            master: "",
            other: "",
        });
    }
    for other in &others {
        assert_bounded(&Three {
            main: relay,
            master: &master,
            other,
        });
    }
}

#[track_caller]
fn assert_bounded(files: &Three<'_>) {
    for imported in all(files) {
        is_fit(&imported).unwrap();
        let (accounts, gateways) = imported.map_or((0, 0), |imported| {
            (imported.accounts.len(), imported.gateways.len())
        });
        assert!(
            accounts <= 1000 && gateways <= 100,
            "{accounts}, {gateways}"
        );
    }
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let main = "#".repeat(MAX_FILE_OCTETS + 1);
    let files = Three {
        main: &main,
        master: "",
        other: "",
    };
    for imported in all(&files) {
        assert_eq!(imported.unwrap_err().kind, ImportErrorKind::Unreadable);
    }
}
