//! Real plugins, loaded as an operator would have them loaded.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use postrider_auth::{AuthErrorKind, LoadError, Loader, LoaderSettings, Op};
use serde_json::json;
use support::{Built, credential};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Where cargo puts the `basic` plugin for this test, which depends on it.
fn built_by_cargo() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().to_owned()
}

fn offered(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn the_basic_plugin_signs_in_with_a_password() {
    let loader = Loader::new(LoaderSettings {
        shipped: vec![built_by_cargo()],
        ..LoaderSettings::default()
    });
    let plugin = loader.load("basic").unwrap();
    assert!(plugin.shipped());
    assert_eq!(plugin.description().ops, [Op::Sasl]);

    let secrets = [("password", "pässwörd-canary")];
    let credential = credential(plugin, json!({}), &secrets, &[]);
    assert!(
        credential.access_token().await.unwrap().is_none(),
        "it uses none"
    );

    let flow = credential
        .begin_sasl(&offered(&["LOGIN", "PLAIN"]), "h", 587)
        .await
        .unwrap();
    assert_eq!((flow.mechanism(), flow.generation()), ("PLAIN", 0));
    let octets = "\0ops@example.org\0pässwörd-canary".as_bytes();
    assert_eq!(flow.initial_response(), Some(octets));
    assert!(!format!("{flow:?}").contains("canary"));

    let mut flow = credential
        .begin_sasl(&offered(&["LOGIN"]), "h", 587)
        .await
        .unwrap();
    assert_eq!((flow.mechanism(), flow.initial_response()), ("LOGIN", None));
    assert_eq!(
        flow.respond(b"Username:").await.unwrap(),
        b"ops@example.org"
    );
    let password = flow.respond(b"Password:").await.unwrap();
    assert_eq!(password, "pässwörd-canary".as_bytes());
    assert!(flow.respond(b"Shoe size:").await.is_err());

    let error = credential
        .begin_sasl(&offered(&["GSSAPI"]), "h", 587)
        .await
        .unwrap_err();
    assert_eq!(error.kind, AuthErrorKind::Unsupported, "{error}");
}

/// Answers one request with a token; returns the request's head.
async fn metadata_service(listener: TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut head).await.unwrap();
    }
    // Facts B1: numbers arrive as strings, refresh_token empty.
    let body = r#"{"access_token":"metadata-token","expires_in":"3599","refresh_token":""}"#;
    let length = body.len();
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(response.as_bytes()).await.unwrap();
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn the_c_plugin_fetches_a_token_and_presents_it() {
    let built = Built::from_file("metadata", "plugins/examples/c-metadata/metadata.c");
    let directory = built.path.parent().unwrap().to_owned();
    let loader = Loader::new(LoaderSettings {
        dirs: vec![directory],
        pins: BTreeMap::from([("metadata".into(), built.pin())]),
        ..LoaderSettings::default()
    });
    let plugin = loader.load("metadata").unwrap();
    assert!(!plugin.shipped());
    assert_eq!(
        (plugin.sha256(), plugin.path()),
        (built.pin().as_str(), built.path.as_path())
    );

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let settings = json!({"resource": "https://outlook.office365.com/", "endpoint": endpoint});

    let refused = credential(Arc::clone(&plugin), settings.clone(), &[], &[]);
    let error = refused.access_token().await.unwrap_err();
    assert_eq!(error.kind, AuthErrorKind::Config, "the operator's to allow");
    assert!(error.message.contains("allow_hosts"), "{error}");

    let credential = credential(plugin, settings, &[], &[endpoint]);
    let offered = offered(&["LOGIN", "XOAUTH2"]);
    let (flow, head) = tokio::join!(
        credential.begin_sasl(&offered, "smtp.office365.com", 587),
        metadata_service(listener)
    );
    let flow = flow.unwrap();
    assert_eq!(flow.mechanism(), "XOAUTH2");
    assert_eq!(
        flow.initial_response(),
        Some(&b"user=ops@example.org\x01auth=Bearer metadata-token\x01\x01"[..])
    );
    assert!(
        head.contains("?api-version=2018-02-01&resource=https%3A%2F%2Foutlook"),
        "{head}"
    );
    assert!(head.to_lowercase().contains("metadata: true"), "{head}");
}

#[test]
fn the_same_content_is_loaded_once_and_different_content_apart() {
    let source = |name: &str| {
        format!(
            "#include \"bad.h\"
             static int32_t describe(pr_sink *out) {{
                 static uint64_t calls;
                 return pr_puts(out, \"{{\\\"name\\\":\\\"{name}\\\",\\\"ops\\\":[\\\"obtain\\\"],\")
                     || pr_puts(out, \"\\\"config_schema\\\":{{}},\\\"version\\\":\\\"\")
                     || pr_put_u64(out, ++calls) || pr_puts(out, \"\\\"}}\");
             }}
             PLUGIN(PR_MAGIC, sizeof(pr_auth_v1), describe, good_begin, good_step)"
        )
    };
    let one = Built::from_text("one", &source("one"));
    let two = Built::from_text("two", &source("two"));
    let copy = tempfile::tempdir().unwrap();
    let copy_of_one = copy.path().join(one.path.file_name().unwrap());
    fs::copy(&one.path, &copy_of_one).unwrap();

    let loader = Loader::new(LoaderSettings::default());
    let pin = one.pin();
    let load = |path: &std::path::Path, pin: &str| loader.load_file(path, Some(pin)).unwrap();
    let first = load(&one.path, &pin);
    let other = load(&two.path, &two.pin());
    let again = load(&copy_of_one, &pin);

    assert_eq!(first.description().name, "one");
    assert_eq!(other.description().name, "two");
    assert_eq!(again.description().version, "1", "described once");
    assert_eq!(again.path(), copy_of_one);
}

#[test]
fn plugins_are_listed_by_name_the_shipped_ones_first() {
    let directories: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let touch = |directory: usize, name: &str| {
        let path = directories[directory].path().join(name);
        fs::write(&path, "").unwrap();
        path
    };
    let suffix = std::env::consts::DLL_SUFFIX;
    let shipped = touch(0, &format!("libpostrider_b{suffix}"));
    touch(1, &format!("libpostrider_b{suffix}"));
    let own = touch(1, &format!("libpostrider_a{suffix}"));
    touch(1, "libpostrider_c.txt");
    touch(1, &format!("libother{suffix}"));

    let loader = Loader::new(LoaderSettings {
        shipped: vec![directories[0].path().to_owned()],
        dirs: vec![directories[1].path().to_owned(), "/nowhere".into()],
        ..LoaderSettings::default()
    });
    let list: Vec<_> = loader
        .list()
        .into_iter()
        .map(|found| (found.name, found.path, found.shipped))
        .collect();
    assert_eq!(
        list,
        [("a".into(), own, false), ("b".into(), shipped, true)]
    );

    for name in ["z", "../b", ""] {
        let error = loader.load(name).unwrap_err();
        assert!(matches!(error, LoadError::NotFound { .. }), "{error}");
    }
}
