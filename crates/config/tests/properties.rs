//! What holds for any input.

use postrider_config::{Account, Config, Presets, edit};
use proptest::prelude::*;

/// Pieces of settings files, right and wrong.
fn fragments() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "[account.a]",
        "[account.a.auth]",
        "[account.\"\\u0000\"]",
        "[plugins]",
        "[gateway.g]",
        "[gateway.g.device.\"d@b.example\"]",
        "[gateway.g.rehearse]",
        "listen",
        "clients",
        "senders",
        "quirks",
        "from",
        "\"0.0.0.0:25\"",
        "\"10.0.0.0/8\"",
        "[[account]]",
        "\n",
        "\n",
        "\r\n",
        "\t",
        " ",
        "provider",
        "username",
        "sender",
        "server",
        "auth",
        "plugin",
        "password",
        "client_secret",
        "scopes",
        "tenant",
        "flow",
        "timeouts",
        "connect",
        "pins",
        "rotation",
        "reuse_grace",
        "expires",
        "[vault]",
        "passphrase",
        "dirs",
        "=",
        "=",
        " = ",
        ".",
        ",",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "#",
        "\"microsoft365\"",
        "\"a@b.example\"",
        "\"oauth\"",
        "\"basic\"",
        "\"hunter2\"",
        "\"client_credentials\"",
        "{ env = \"X\" }",
        "{ vault = \"x\", expires = 2027-03-01 }",
        "{ command = [\"x\"] }",
        "587",
        "-1",
        "1e400",
        "nan",
        "1979-05-27",
        "true",
        "\u{feff}",
        "é",
        "\u{1f600}",
        "\0",
    ];
    proptest::collection::vec(proptest::sample::select(PIECES), 0..60)
        .prop_map(|pieces| pieces.concat())
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        proptest::sample::select(&["microsoft365", "oauth", "basic", "a@b.example", "30s"][..])
            .prop_map(Value::from),
    ];
    let key = prop_oneof![
        proptest::sample::select(
            &[
                "provider", "username", "sender", "server", "host", "port", "auth", "plugin",
                "password", "env", "inline", "scopes", "expires", "rotation"
            ][..]
        )
        .prop_map(str::to_owned),
        ".{0,10}",
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn parse(octets: Vec<u8>) {
    let text = String::from_utf8_lossy(&octets).into_owned();
    let presets = Presets::builtin();
    match Config::parse_octets(octets, None, &presets) {
        Ok(config) => {
            let _shown = format!("{config:?}");
        }
        Err(errors) => {
            assert!(!errors.problems.is_empty());
            let shown = errors.to_string();
            for problem in &errors.problems {
                if let Some(at) = &problem.location {
                    assert!(at.line >= 1 && at.line <= text.matches('\n').count() + 1);
                    assert!(at.column >= 1);
                    assert!(!at.underline.is_empty());
                    assert!(at.underline.start <= at.source_line.chars().count());
                }
                assert!(
                    !problem.message.contains('\n') && problem.message.len() < 2000,
                    "{problem}"
                );
            }
            assert!(
                shown.chars().all(|c| c == '\n' || !c.is_control()),
                "{shown:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_are_parsed_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        parse(octets);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "(?s).{0,300}") {
        parse(text.into_bytes());
    }

    #[test]
    fn any_shuffled_settings_are_parsed_or_refused(text in fragments()) {
        parse(text.into_bytes());
    }

    #[test]
    fn any_table_of_a_script_is_checked(value in json()) {
        let presets = Presets::builtin();
        match Account::from_value("a", value, &presets) {
            Ok(account) => {
                let _shown = format!("{account:?} {}", serde_json::to_string(&account).unwrap());
            }
            Err(problems) => prop_assert!(!problems.is_empty()),
        }
    }

    #[test]
    fn no_password_is_ever_shown(
        key in proptest::sample::select(&["password", "client_secret", "private_key", "pasword", "smtp-password", "auth.password"][..]),
        quote in proptest::sample::select(&["\"", "'", "\"\"\"", "'''", "", "{ x = \"", "[\"", "\"\n"][..]),
        before in fragments(),
        after in fragments(),
    ) {
        // The key stands on a line of its own, outside any string that `before` left open.
        let before = before.replace(['"', '\''], "");
        let text = format!("{before}\n{key} = {quote}correct-horse{quote}\n{after}");
        if let Err(errors) = Config::parse(&text, None, &Presets::builtin()) {
            let shown = format!("{errors} {errors:?}");
            prop_assert!(!shown.contains("correct-horse"), "{text}\n---\n{shown}");
        }
    }

    #[test]
    fn any_key_to_edit_is_taken_or_refused(key in "[a-z.\"'\\[\\]= \n]{0,20}", value in json()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postrider.toml");
        std::fs::write(&path, "[plugins]\ndirs = []\n").unwrap();
        let outcome = edit::set(&path, &key, value, &Presets::builtin());
        let after = Config::load(&path, &Presets::builtin());
        prop_assert!(after.is_ok(), "{outcome:?} left {after:?}");
    }
}
