//! What a client can look up before it knows anything.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

use crate::site::{Answer, DAEMON, OUTLOOK_DEFAULT, SECRET, Site, TENANT};

async fn look_up(site: &Site, path: &str) -> Answer {
    Answer::read(site.http.get(site.url(path)).send().await.unwrap()).await
}

#[tokio::test]
async fn the_configuration_has_every_field_and_leads_to_real_endpoints() {
    let site = Site::start().await;
    let configuration = look_up(&site, "contoso.com/v2.0/.well-known/openid-configuration").await;
    assert_eq!(configuration.status, 200);
    for field in [
        "token_endpoint",
        "token_endpoint_auth_methods_supported",
        "jwks_uri",
        "response_modes_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
        "response_types_supported",
        "scopes_supported",
        "issuer",
        "request_uri_parameter_supported",
        "userinfo_endpoint",
        "authorization_endpoint",
        "device_authorization_endpoint",
        "http_logout_supported",
        "frontchannel_logout_supported",
        "end_session_endpoint",
        "claims_supported",
        "kerberos_endpoint",
        "tenant_region_scope",
        "cloud_instance_name",
        "cloud_graph_host_name",
        "msgraph_host",
        "rbac_url",
    ] {
        assert!(configuration.json.get(field).is_some(), "{field}");
    }
    let tid = site.sandbox.state().scenario().tenants[0].id.to_string();
    assert_eq!(
        configuration.text("issuer"),
        site.url(&format!("{tid}/v2.0"))
    );
    for endpoint in [
        "token_endpoint",
        "authorization_endpoint",
        "device_authorization_endpoint",
        "jwks_uri",
        "userinfo_endpoint",
        "end_session_endpoint",
    ] {
        let answer = site
            .http
            .get(configuration.text(endpoint))
            .send()
            .await
            .unwrap();
        assert_ne!(answer.status(), 404, "{endpoint}");
    }
}

#[tokio::test]
async fn the_issuer_of_common_is_a_template() {
    let site = Site::start().await;
    for (segment, issuer) in [
        ("common", "{tenantid}/v2.0"),
        ("organizations", "{tenantid}/v2.0"),
        ("consumers", "9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"),
    ] {
        let configuration = look_up(
            &site,
            &format!("{segment}/v2.0/.well-known/openid-configuration"),
        )
        .await;
        assert_eq!(configuration.text("issuer"), site.url(issuer));
    }
}

#[tokio::test]
async fn an_unknown_tenant_is_named() {
    let site = Site::start().await;
    let answer = look_up(
        &site,
        "fabrikam.example/v2.0/.well-known/openid-configuration",
    )
    .await;
    answer.is_error(400, "invalid_tenant", 90_002);
    assert!(
        answer
            .text("error_description")
            .contains("Tenant 'fabrikam.example' not found.")
    );
    look_up(&site, "fabrikam.example/discovery/v2.0/keys")
        .await
        .is_error(400, "invalid_tenant", 90_002);
}

#[tokio::test]
async fn the_published_keys_check_the_tokens() {
    let site = Site::start().await;
    let keys = look_up(&site, &format!("{TENANT}/discovery/v2.0/keys")).await;
    let key = &keys.json["keys"][0];
    for field in ["kty", "use", "kid", "x5t", "n", "e", "x5c", "issuer"] {
        assert!(!key[field].is_null(), "{field}");
    }
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", DAEMON),
        ("client_secret", SECRET),
        ("scope", OUTLOOK_DEFAULT),
    ];
    let answer = site.token(&form).await;
    let token = answer.text("access_token");

    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let part = |name: &str| decode(key[name].as_str().unwrap());
    RsaPublicKeyComponents {
        n: part("n"),
        e: part("e"),
    }
    .verify(
        &RSA_PKCS1_2048_8192_SHA256,
        signed.as_bytes(),
        &decode(signature),
    )
    .unwrap();
    let header: serde_json::Value =
        serde_json::from_slice(&decode(signed.split('.').next().unwrap())).unwrap();
    assert_eq!(
        (
            &header["typ"],
            &header["alg"],
            &header["kid"],
            &header["x5t"]
        ),
        (&"JWT".into(), &"RS256".into(), &key["kid"], &key["x5t"])
    );
}

#[tokio::test]
async fn a_signed_in_user_can_read_their_own_claims() {
    let site = Site::start().await;
    let userinfo = |token: String| {
        site.http
            .get(site.url("oidc/userinfo"))
            .bearer_auth(token)
            .send()
    };
    let answer = site.person("openid profile email").await;
    answer.is_ok();

    let response = userinfo(answer.text("access_token").to_owned())
        .await
        .unwrap();
    let claims: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(claims["email"], "svc-mail@contoso.com");
    assert_eq!(userinfo("junk".to_owned()).await.unwrap().status(), 401);
}

#[tokio::test]
async fn elsewhere_there_is_nothing() {
    let site = Site::start().await;
    for (path, status) in [
        ("", 200),
        ("nothing/here", 404),
        ("error?code=700016", 200),
        ("error?code=x", 404),
    ] {
        assert_eq!(
            site.http.get(site.url(path)).send().await.unwrap().status(),
            status,
            "{path}"
        );
    }
}
