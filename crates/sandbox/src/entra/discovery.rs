//! What a client can look up: the OpenID configuration, the signing keys, a user's own claims.

use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::scenario::{FaultPoint, Resource};

use super::{CONSUMERS, Entra, TenantPath, answer, issue};

/// `GET /{tenant}/v2.0/.well-known/openid-configuration`
pub(crate) async fn configuration(
    Shared(entra): Shared<Entra>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = entra.fault(FaultPoint::Discovery, "", &headers).await {
        return response;
    }
    match TenantPath::resolve(&entra.state.scenario(), &tenant) {
        Ok(path) => answer::json(&document(&entra, &path)),
        Err(error) => answer::error(&entra, &headers, &error),
    }
}

fn document(entra: &Entra, path: &TenantPath) -> Value {
    let (segment, issuer) = match path {
        TenantPath::Tenant(id) => (id.to_string(), id.to_string()),
        // The issuer of `common` is a template: which tenant it will be, nobody knows yet.
        TenantPath::Common => ("common".to_owned(), "{tenantid}".to_owned()),
        TenantPath::Organizations => ("organizations".to_owned(), "{tenantid}".to_owned()),
        TenantPath::Consumers => ("consumers".to_owned(), CONSUMERS.to_owned()),
    };
    let at = |rest: &str| entra.url(&format!("{segment}/{rest}"));
    // Unconfirmed: the values from `claims_supported` on; only their names are published.
    json!({
        "token_endpoint": at("oauth2/v2.0/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": at("discovery/v2.0/keys"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": entra.url(&format!("{issuer}/v2.0")),
        "request_uri_parameter_supported": false,
        "userinfo_endpoint": entra.url("oidc/userinfo"),
        "authorization_endpoint": at("oauth2/v2.0/authorize"),
        "device_authorization_endpoint": at("oauth2/v2.0/devicecode"),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "end_session_endpoint": at("oauth2/v2.0/logout"),
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nonce", "preferred_username", "name", "tid", "ver", "email"],
        "kerberos_endpoint": at("kerberos"),
        "tenant_region_scope": null,
        "cloud_instance_name": "sandbox",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": graph_host(entra),
        "rbac_url": "https://pas.windows.net",
    })
}

/// Graph is served beside Entra ID: the host and port of both.
fn graph_host(entra: &Entra) -> String {
    let authority = entra.state.authority();
    let host = authority.host_str().unwrap_or("localhost");
    authority
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// `GET /{tenant}/discovery/v2.0/keys`
pub(crate) async fn keys(
    Shared(entra): Shared<Entra>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = entra.fault(FaultPoint::Keys, "", &headers).await {
        return response;
    }
    match TenantPath::resolve(&entra.state.scenario(), &tenant) {
        Ok(path) => {
            let issuer = document(&entra, &path)["issuer"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            answer::json(&json!({ "keys": [entra.state.key().jwk(&issuer)] }))
        }
        Err(error) => answer::error(&entra, &headers, &error),
    }
}

/// `GET /oidc/userinfo`, with an access token for Graph
pub(crate) async fn userinfo(Shared(entra): Shared<Entra>, headers: HeaderMap) -> Response {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "))
        .unwrap_or_default();
    let scenario = entra.state.scenario();
    let user = entra
        .state
        .verify_token(token, Resource::Graph)
        .ok()
        .filter(|claims| claims.has_scope("openid"))
        .and_then(|claims| scenario.user_by_id(&claims.oid).map(|user| (claims, user)));
    match user {
        Some((claims, user)) => answer::json(&json!({
            "sub": issue::pairwise(user.object_id.as_str(), &claims.appid),
            "name": user.name,
            "email": user.upn,
        })),
        None => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
        )
            .into_response(),
    }
}
