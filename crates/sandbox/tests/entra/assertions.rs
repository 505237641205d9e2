//! Client assertions: certificates and federation, with every claim that must be right.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_sandbox::scenario::Federated;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{self, RsaEncoding};
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};

use crate::site::{Answer, DAEMON, OUTLOOK_DEFAULT, SECRET, Site, TENANT};

const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client's key with its certificate.
pub(crate) struct Key {
    pair: ring::rsa::KeyPair,
    pub(crate) certificate: String,
    spki: String,
    thumbprint: String,
}

impl Key {
    pub(crate) fn new() -> Self {
        let private = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        let spki = private
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        let pkcs8 = private.to_pkcs8_der().unwrap();
        let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(pkcs8.as_bytes()),
            &rcgen::PKCS_RSA_SHA256,
        )
        .unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2035, 1, 1);
        let certificate = params.self_signed(&signer).unwrap();
        Self {
            pair: ring::rsa::KeyPair::from_pkcs8(pkcs8.as_bytes()).unwrap(),
            thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate.der())),
            certificate: certificate.pem(),
            spki,
        }
    }

    pub(crate) fn sign(&self, alg: &str, claims: &Value) -> String {
        let padding: &dyn RsaEncoding = if alg == "PS256" {
            &signature::RSA_PSS_SHA256
        } else {
            &signature::RSA_PKCS1_SHA256
        };
        let header = json!({ "alg": alg, "typ": "JWT", "x5t#S256": self.thumbprint });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut octets = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(
                padding,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut octets,
            )
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(octets))
    }
}

/// Claims that are right, with some replaced; `null` removes one.
pub(crate) fn claims(site: &Site, jti: &str, changes: &Value) -> Value {
    let now = site.sandbox.state().now().as_second();
    let mut claims = json!({
        "aud": site.token_endpoint(), "iss": DAEMON, "sub": DAEMON, "jti": jti,
        "nbf": now, "iat": now, "exp": now + 300,
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

pub(crate) async fn present(site: &Site, assertion: &str) -> Answer {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", DAEMON),
        ("client_assertion_type", KIND),
        ("client_assertion", assertion),
        ("scope", OUTLOOK_DEFAULT),
    ];
    site.token(&form).await
}

#[tokio::test]
async fn a_certificate_proves_the_client_by_ps256_and_by_rs256() {
    let key = Key::new();
    let site = Site::with(|s| s.apps[0].certificates = vec![key.certificate.clone().into()]).await;
    let tid = site.sandbox.state().scenario().tenants[0].id.to_string();
    for (alg, tenant) in [("PS256", TENANT), ("RS256", tid.as_str())] {
        let aud = site.url(&format!("{tenant}/oauth2/v2.0/token"));
        let answer = present(
            &site,
            &key.sign(alg, &claims(&site, alg, &json!({ "aud": aud }))),
        )
        .await;
        assert_eq!(site.outlook_claims(&answer).appidacr, "2");
    }
}

#[tokio::test]
async fn every_claim_of_an_assertion_is_checked() {
    let (key, stranger) = (Key::new(), Key::new());
    let site = Site::with(|s| s.apps[0].certificates = vec![key.certificate.clone().into()]).await;
    let now = site.sandbox.state().now().as_second();
    let cases = [
        (json!({ "aud": "https://elsewhere.example/token" }), 700_023),
        (
            json!({ "aud": site.url("common/oauth2/v2.0/token") }),
            700_023,
        ),
        (json!({ "aud": null }), 700_023),
        (json!({ "sub": "someone" }), 700_021),
        (json!({ "iss": "https://issuer.example" }), 700_213),
        (json!({ "exp": now - 301 }), 700_024),
        (json!({ "exp": null }), 700_024),
        (json!({ "exp": "soon" }), 700_024),
        (json!({ "nbf": now + 301, "exp": now + 900 }), 700_024),
    ];
    for (i, (changes, code)) in cases.into_iter().enumerate() {
        let assertion = key.sign("PS256", &claims(&site, &i.to_string(), &changes));
        present(&site, &assertion)
            .await
            .is_error(401, "invalid_client", code);
    }
    let unnumbered = key.sign("PS256", &claims(&site, "", &json!({ "jti": null })));
    present(&site, &unnumbered)
        .await
        .is_error(400, "invalid_request", 9_002_313);

    let foreign = present(
        &site,
        &stranger.sign("PS256", &claims(&site, "s", &json!({}))),
    )
    .await;
    foreign.is_error(401, "invalid_client", 700_027);
    assert!(
        foreign
            .text("error_description")
            .contains("[Reason - The key was not found.]")
    );

    let good = key.sign("PS256", &claims(&site, "good", &json!({})));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let (_, other_signature) = foreign_signature(&stranger, &site);
    present(&site, &format!("{signed}.{other_signature}"))
        .await
        .is_error(401, "invalid_client", 700_027);
    // A signature of one padding does not pass under the name of the other.
    let rs256 = key.sign("RS256", &claims(&site, "pad", &json!({})));
    let as_ps256 = rs256.replacen(&header("RS256", &key), &header("PS256", &key), 1);
    assert_ne!(rs256, as_ps256);
    present(&site, &as_ps256)
        .await
        .is_error(401, "invalid_client", 700_027);
    for alg in ["none", "HS256", "ES256"] {
        let renamed = rs256.replacen(&header("RS256", &key), &header(alg, &key), 1);
        present(&site, &renamed)
            .await
            .is_error(401, "invalid_client", 700_027);
    }
    present(&site, "no.jwt")
        .await
        .is_error(400, "invalid_request", 9_002_313);
    present(&site, &good).await.is_ok();
}

fn foreign_signature(key: &Key, site: &Site) -> (String, String) {
    let token = key.sign("PS256", &claims(site, "f", &json!({})));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    (signed.to_owned(), signature.to_owned())
}

fn header(alg: &str, key: &Key) -> String {
    URL_SAFE_NO_PAD
        .encode(json!({ "alg": alg, "typ": "JWT", "x5t#S256": key.thumbprint }).to_string())
}

#[tokio::test]
async fn a_certificate_that_expired_proves_nothing() {
    let key = Key::new();
    let site = Site::with(|s| s.apps[0].certificates = vec![key.certificate.clone().into()]).await;
    let ten_years_after_it = std::time::Duration::from_hours(24 * 365 * 10);
    site.sandbox.state().advance(ten_years_after_it);
    let answer = present(
        &site,
        &key.sign("PS256", &claims(&site, "late", &json!({}))),
    )
    .await;
    answer.is_error(401, "invalid_client", 700_027);
    assert!(
        answer
            .text("error_description")
            .contains("[Reason - The key used is expired.]")
    );
}

#[tokio::test]
async fn an_assertion_works_once() {
    let key = Key::new();
    let site = Site::with(|s| s.apps[0].certificates = vec![key.certificate.clone().into()]).await;
    let assertion = key.sign("PS256", &claims(&site, "one", &json!({})));
    present(&site, &assertion).await.is_ok();
    present(&site, &assertion)
        .await
        .is_error(401, "invalid_client", 700_027);
    present(&site, &key.sign("PS256", &claims(&site, "two", &json!({}))))
        .await
        .is_ok();
}

#[tokio::test]
async fn half_an_assertion_or_two_proofs_are_malformed() {
    let site = Site::start().await;
    let base = [
        ("grant_type", "client_credentials"),
        ("client_id", DAEMON),
        ("scope", OUTLOOK_DEFAULT),
    ];
    for (more, code) in [
        (vec![("client_assertion", "a.b.c")], 900_144),
        (vec![("client_assertion_type", KIND)], 900_144),
        (
            vec![
                ("client_assertion", "a.b.c"),
                ("client_assertion_type", "other"),
            ],
            9_002_313,
        ),
        (
            vec![
                ("client_assertion", "a.b.c"),
                ("client_assertion_type", KIND),
                ("client_secret", SECRET),
            ],
            9_002_313,
        ),
    ] {
        let form: Vec<_> = base.into_iter().chain(more).collect();
        site.token(&form)
            .await
            .is_error(400, "invalid_request", code);
    }
}

#[tokio::test]
async fn another_issuers_assertion_stands_for_the_app_it_was_registered_with() {
    let (key, stranger) = (Key::new(), Key::new());
    let (issuer, subject) = (
        "https://issuer.example",
        "system:serviceaccount:mail:sender",
    );
    let site = Site::with(|s| {
        let keys = vec![stranger.spki.clone(), key.spki.clone()];
        let audience = "api://AzureADTokenExchange".to_owned();
        s.apps[0].federated = vec![Federated {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            audience,
            keys,
        }];
    })
    .await;
    let right =
        json!({ "iss": issuer, "sub": subject, "aud": "api://AzureADTokenExchange", "jti": null });
    let assertion = |changes: &[(&str, &str)]| {
        let mut claims = claims(&site, "", &right);
        for (name, value) in changes {
            claims[*name] = (*value).into();
        }
        key.sign("RS256", &claims)
    };
    assert_eq!(
        site.outlook_claims(&present(&site, &assertion(&[])).await)
            .appidacr,
        "2"
    );
    for change in [
        ("sub", "system:serviceaccount:mail:Sender"),
        ("aud", "api://other"),
        ("iss", "https://issuer.example/"),
    ] {
        present(&site, &assertion(&[change]))
            .await
            .is_error(401, "invalid_client", 700_213);
    }
    let unknown = Key::new().sign("RS256", &claims(&site, "", &right));
    present(&site, &unknown)
        .await
        .is_error(401, "invalid_client", 700_027);
    let numbered = assertion(&[("jti", "7")]);
    present(&site, &numbered).await.is_ok();
    present(&site, &numbered)
        .await
        .is_error(401, "invalid_client", 700_027);
}
