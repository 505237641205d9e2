//! How the application proves itself.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use postrider_plugin::ErrorKind;
use postrider_plugin::kit::testing::Flow;
use postrider_plugin::wire::FailureKind;
use ring::digest::{SHA256, digest};
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, UnparsedPublicKey,
};
use serde_json::{Value, json};

use crate::host::*;
use crate::keys::{key, other_key};

const WITH_CERTIFICATE: [&str; 2] = ["private_key", "certificate"];

/// Answers what a signing flow asks for, up to its HTTP request.
fn sign(flow: &mut Flow, private_key: &str, certificate: Option<&str>) {
    give_secret(flow, "private_key", private_key);
    if let Some(certificate) = certificate {
        give_secret(flow, "certificate", certificate);
    }
    give_random(flow, 7);
}

/// Checks the assertion's signature; gives its header and claims.
#[track_caller]
fn verified(flow: &Flow, parameters: &'static RsaParameters) -> (Value, Value) {
    assert_eq!(
        value(flow, "client_assertion_type").as_deref(),
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
    );
    let assertion = value(flow, "client_assertion").unwrap();
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    let [header, claims, signature] = assertion.split('.').collect::<Vec<_>>()[..] else {
        panic!("not a JWS: {assertion}");
    };
    let signed = &assertion[..header.len() + 1 + claims.len()];
    UnparsedPublicKey::new(parameters, &key().public)
        .verify(signed.as_bytes(), &decode(signature))
        .unwrap();
    (
        serde_json::from_slice(&decode(header)).unwrap(),
        serde_json::from_slice(&decode(claims)).unwrap(),
    )
}

#[test]
fn a_certificate_signs_what_microsoft_asks_for() {
    let driver = driver(&microsoft("client_credentials", &WITH_CERTIFICATE));
    let mut flow = obtain(&driver, None);
    sign(&mut flow, &key().pkcs8_pem, Some(&key().certificate_pem));

    let (header, claims) = verified(&flow, &RSA_PSS_2048_8192_SHA256);
    let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, &key().certificate_der));
    assert_eq!(
        header,
        json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint })
    );
    assert_eq!(
        claims,
        json!({
            "aud": TOKEN_ENDPOINT,
            "iss": CLIENT_ID,
            "sub": CLIENT_ID,
            "jti": BASE64_URL_SAFE_NO_PAD.encode([7; 16]),
            "nbf": NOW_MS / 1000,
            "iat": NOW_MS / 1000,
            "exp": NOW_MS / 1000 + 600,
        })
    );
    assert_eq!(value(&flow, "client_id").as_deref(), Some(CLIENT_ID));
    assert_eq!(value(&flow, "client_secret"), None);
    flow.answer(granted());
    flow.tokens();
}

#[test]
fn keys_of_either_form_sign_with_either_algorithm() {
    let both = format!("{}{}", key().certificate_pem, key().pkcs8_pem);
    for (pem, certificate) in [
        (&key().pkcs1_pem, &key().certificate_pem),
        (&key().pkcs8_pem, &key().certificate_pem),
        (&both, &both),
    ] {
        let mut config = microsoft("client_credentials", &WITH_CERTIFICATE);
        config
            .settings
            .insert("assertion_alg".into(), "RS256".into());
        let mut flow = obtain(&driver(&config), None);
        sign(&mut flow, pem, Some(certificate));
        let (header, _) = verified(&flow, &RSA_PKCS1_2048_8192_SHA256);
        assert_eq!(header["alg"], "RS256");
    }
}

#[test]
fn another_provider_may_know_the_key_without_a_certificate() {
    let more = json!({ "assertion_audience": "https://id.example.org" });
    let driver = driver(&generic("client_credentials", more, &["private_key"]));
    let mut flow = obtain(&driver, None);
    sign(&mut flow, &key().pkcs8_pem, None);
    let (header, claims) = verified(&flow, &RSA_PSS_2048_8192_SHA256);
    assert_eq!(header, json!({ "alg": "PS256", "typ": "JWT" }));
    assert_eq!(claims["aud"], "https://id.example.org");
}

#[test]
fn unusable_keys_are_named_and_not_quoted() {
    let key_pem = key().pkcs8_pem.as_str();
    let certificate_pem = key().certificate_pem.as_str();
    let other = other_key();
    let encrypted = key_pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let torn = &key_pem[..key_pem.len() / 2];
    let shuffled = key_pem.replacen("MII", "AAA", 1);
    let ec = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n";
    let cases = [
        (
            key_pem,
            other.certificate_pem.as_str(),
            "do not belong together",
        ),
        (
            other.pkcs8_pem.as_str(),
            certificate_pem,
            "do not belong together",
        ),
        (key_pem, "", "certificate holds no PEM"),
        (key_pem, key_pem, "certificate holds no PEM"),
        ("", certificate_pem, "private_key holds no PEM"),
        (certificate_pem, certificate_pem, "private_key holds no PEM"),
        (torn, certificate_pem, "private_key is damaged"),
        (&encrypted, certificate_pem, "private_key is encrypted"),
        (
            &shuffled,
            certificate_pem,
            "private_key is not an RSA key of",
        ),
        (ec, certificate_pem, "private_key is not an RSA key"),
    ];
    let driver = driver(&microsoft("client_credentials", &WITH_CERTIFICATE));
    for (private_key, certificate, expected) in cases {
        let mut flow = obtain(&driver, None);
        sign(&mut flow, private_key, Some(certificate));
        let error = flow.error();
        assert_eq!(error.kind, ErrorKind::Config, "{error}");
        assert!(error.detail.message.contains(expected), "{error}");
        let quoted = private_key
            .lines()
            .filter(|line| line.len() > 30 && !line.starts_with("-----"))
            .any(|line| format!("{error:?}").contains(line));
        assert!(!quoted, "{error:?}");
    }
}

#[test]
fn a_federated_assertion_is_sent_as_it_is_and_read_each_time() {
    let driver = driver(&microsoft("client_credentials", &["assertion"]));
    for assertion in ["eyJh.eyJp.c2ln", "eyJi.eyJq.c2lo"] {
        let mut flow = obtain(&driver, None);
        give_secret(&mut flow, "assertion", &format!("{assertion}\n"));
        assert_eq!(value(&flow, "client_assertion").as_deref(), Some(assertion));
        assert_eq!(
            value(&flow, "client_assertion_type").as_deref(),
            Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        );
        flow.answer(granted());
        flow.tokens();
    }
}

#[test]
fn basic_encodes_odd_characters_before_they_are_joined() {
    let more = json!({ "client_id": "ma:il er", "client_auth": "basic" });
    let driver = driver(&generic("client_credentials", more, &["client_secret"]));
    let mut flow = obtain(&driver, None);
    give_secret(&mut flow, "client_secret", "p%:ä+&=~*");

    let header = field(&flow, "authorization").unwrap();
    let pair = BASE64_STANDARD
        .decode(header.strip_prefix("Basic ").unwrap())
        .unwrap();
    assert_eq!(
        String::from_utf8(pair).unwrap(),
        "ma%3Ail+er:p%25%3A%C3%A4%2B%26%3D%7E*"
    );
    assert_eq!(
        form(&flow),
        pairs(&[("grant_type", "client_credentials"), ("scope", "mail.send")])
    );
}

#[test]
fn a_public_client_sends_its_name_alone() {
    let driver = driver(&generic(
        "device_code",
        json!({ "client_auth": "none" }),
        &[],
    ));
    let flow = obtain(&driver, Some("refresh-1"));
    assert_eq!(value(&flow, "client_id").as_deref(), Some("mailer"));
    assert_eq!(value(&flow, "client_secret"), None);
    assert_eq!(field(&flow, "authorization"), None);
}

#[test]
fn a_secret_the_host_does_not_have_is_a_matter_of_settings() {
    let driver = driver(&microsoft("client_credentials", &["client_secret"]));
    let mut flow = obtain(&driver, None);
    flow.fail(
        FailureKind::Missing,
        "environment variable OPS_SECRET is not set",
    );
    let error = flow.error();
    assert_eq!(error.kind, ErrorKind::Config);
    assert!(error.detail.message.contains("client_secret"), "{error}");
}
