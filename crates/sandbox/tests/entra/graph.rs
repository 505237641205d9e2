//! Graph: what the token allows and nothing more, and what is made here works elsewhere.

use postrider_sandbox::scenario::{
    DirectoryRole, Effect, Fault, FaultPoint, GRAPH_COMMAND_LINE_TOOLS, GraphRules, HttpAnswer,
    ProvisioningStatus, ServicePlan, Span,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::assertions::Key;
use crate::sending::{message, pool};
use crate::site::{Answer, Browser, DAEMON, OUTLOOK_DEFAULT, SECRET, Site, peek};

const EVERYTHING: &str = "User.Read Application.ReadWrite.All Directory.Read.All Policy.Read.All \
    DelegatedPermissionGrant.ReadWrite.All AppRoleAssignment.ReadWrite.All Mail.Send";
const EXCHANGE: &str = "00000002-0000-0ff1-ce00-000000000000";
const MY_ROLES: &str = "me/transitiveMemberOf/microsoft.graph.directoryRole?$count=true";
const SEND_AS_APP: &str = "7146a1f0-8703-45b3-9eae-527a64c00995";

/// A status and a body.
#[derive(Debug)]
struct Told(u16, Value);

impl Told {
    #[track_caller]
    fn is_error(&self, status: u16, code: &str) {
        assert_eq!(
            (self.0, self.1["error"]["code"].as_str()),
            (status, Some(code)),
            "{self:?}"
        );
        assert!(self.1["error"]["innerError"]["request-id"].is_string());
    }

    #[track_caller]
    fn found(self, status: u16) -> Value {
        assert_eq!(self.0, status, "{self:?}");
        self.1
    }
}

/// Graph with one token.
struct Graph<'a> {
    site: &'a Site,
    token: String,
}

impl Graph<'_> {
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Told {
        let mut request = self
            .site
            .http
            .request(method, self.site.url(&format!("v1.0/{path}")))
            .header("authorization", format!("Bearer {}", self.token))
            .header("consistencylevel", "eventual");
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        Told(status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Told {
        self.call(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Told {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Told {
        self.call(Method::PATCH, path, Some(body)).await
    }

    /// The one object of a filtered list.
    async fn only(&self, path: &str) -> Value {
        let found = self.get(path).await.found(200);
        assert_eq!(found["value"].as_array().unwrap().len(), 1, "{found}");
        found["value"][0].clone()
    }
}

/// A person who agrees to these, through the command-line client.
async fn person<'a>(site: &'a Site, upn: &str, scope: &str) -> Graph<'a> {
    let password = format!("{}-password", upn.split('@').next().unwrap());
    let client = ("client_id", GRAPH_COMMAND_LINE_TOOLS);
    let landed = Browser::new(site)
        .arrive_as(upn, &password, &[client, ("scope", scope)])
        .await;
    let answer = site.redeem(landed.param("code"), &[client]).await;
    Graph {
        site,
        token: answer.text("access_token").to_owned(),
    }
}

async fn admin(site: &Site) -> Graph<'_> {
    person(site, "admin@contoso.com", EVERYTHING).await
}

/// The daemon by itself, with these application permissions.
async fn daemon<'a>(site: &'a Site, roles: &[&str]) -> Graph<'a> {
    let consent: Vec<_> = roles
        .iter()
        .map(|r| serde_json::from_value(json!(r)).unwrap())
        .collect();
    site.sandbox
        .state()
        .change(|s| s.apps[0].application_consent.extend(consent))
        .unwrap();
    let answer = token(site, DAEMON, SECRET, "https://graph.microsoft.com/.default").await;
    Graph {
        site,
        token: answer.text("access_token").to_owned(),
    }
}

async fn token(site: &Site, client: &str, secret: &str, scope: &str) -> Answer {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client),
        ("client_secret", secret),
        ("scope", scope),
    ];
    site.token(&form).await
}

fn named(name: &str) -> Value {
    json!({ "displayName": name })
}

#[tokio::test]
async fn an_app_made_here_sends_once_exchange_knows_it() {
    let site = Site::start().await;
    let graph = admin(&site).await;
    let app = graph
        .post(
            "applications",
            json!({
                "displayName": "Made", "tags": ["mark"], "notes": "why",
                "requiredResourceAccess": [{
                    "resourceAppId": EXCHANGE,
                    "resourceAccess": [{ "id": SEND_AS_APP, "type": "Role" }],
                }],
            }),
        )
        .await
        .found(201);
    let (id, client) = (app["id"].as_str().unwrap(), app["appId"].as_str().unwrap());
    let made = graph
        .post(
            &format!("applications/{id}/addPassword"),
            json!({ "passwordCredential": named("first") }),
        )
        .await
        .found(200);
    let secret = made["secretText"].as_str().unwrap().to_owned();
    assert_eq!(made["hint"], secret[..3]);

    // Not installed, then without a permission, then complete.
    token(&site, client, &secret, OUTLOOK_DEFAULT)
        .await
        .is_error(400, "unauthorized_client", 700_016);
    let principal = graph
        .post("servicePrincipals", json!({ "appId": client }))
        .await
        .found(201);
    graph
        .post("servicePrincipals", json!({ "appId": client }))
        .await
        .is_error(409, "Request_MultipleObjectsWithSameKeyValue");
    let answer = token(&site, client, &secret, OUTLOOK_DEFAULT).await;
    assert!(site.outlook_claims(&answer).roles.is_empty());
    let exchange = graph
        .only(&format!("servicePrincipals?$filter=appId eq '{EXCHANGE}'"))
        .await;
    assert_eq!(exchange["appRoles"][0]["id"], SEND_AS_APP);
    let assignment = json!({
        "principalId": principal["id"], "resourceId": exchange["id"], "appRoleId": SEND_AS_APP,
    });
    let path = format!(
        "servicePrincipals/{}/appRoleAssignedTo",
        exchange["id"].as_str().unwrap()
    );
    graph.post(&path, assignment.clone()).await.found(201);
    graph
        .post(&path, assignment)
        .await
        .is_error(400, "Request_BadRequest");
    let answer = token(&site, client, &secret, OUTLOOK_DEFAULT).await;
    let claims = site.outlook_claims(&answer);
    assert_eq!(claims.roles, ["SMTP.SendAsApp"]);
    assert_eq!(claims.oid, principal["id"]);

    // What only Exchange's PowerShell does.
    let send = || async {
        let pool = pool(&site, answer.text("access_token"));
        pool.send(&message("svc-mail@contoso.com")).await
    };
    let refused = send().await.unwrap_err();
    assert_eq!(refused.reply().unwrap().code, 535);
    site.sandbox
        .state()
        .change(|s| {
            let app = s.apps.iter_mut().find(|a| a.client_id == *client).unwrap();
            app.exchange_service_principal = true;
            let mut permission = s.permissions[1].clone();
            client.clone_into(&mut permission.trustee);
            s.permissions.push(permission);
        })
        .unwrap();
    assert!(send().await.unwrap().is_complete());

    // A secret that is removed stops, the id of one is none, and so does what is deleted.
    token(
        &site,
        client,
        made["keyId"].as_str().unwrap(),
        OUTLOOK_DEFAULT,
    )
    .await
    .is_error(401, "invalid_client", 7_000_215);
    let remove = format!("applications/{id}/removePassword");
    let key = json!({ "keyId": made["keyId"] });
    graph.post(&remove, key.clone()).await.found(204);
    graph
        .post(&remove, key)
        .await
        .is_error(400, "Request_BadRequest");
    token(&site, client, &secret, OUTLOOK_DEFAULT)
        .await
        .is_error(401, "invalid_client", 7_000_215);
    graph
        .call(Method::DELETE, &format!("applications/{id}"), None)
        .await
        .found(204);
    token(&site, client, &secret, OUTLOOK_DEFAULT)
        .await
        .is_error(400, "unauthorized_client", 700_016);
}

#[tokio::test]
async fn a_certificate_added_here_signs_and_the_others_stay() {
    let site = Site::start().await;
    let graph = admin(&site).await;
    let app = graph
        .only(&format!("applications?$filter=appId eq '{DAEMON}'"))
        .await;
    let path = format!("applications/{}", app["id"].as_str().unwrap());
    let (first, second) = (Key::new(), Key::new());
    let entry = |key: &Key| {
        let lines = key
            .certificate
            .lines()
            .filter(|line| !line.starts_with('-'));
        json!({ "type": "AsymmetricX509Cert", "usage": "Verify", "displayName": "postrider",
                "key": lines.collect::<String>() })
    };
    graph
        .patch(&path, json!({ "keyCredentials": [entry(&first)] }))
        .await
        .found(204);
    // Without $select the key does not come; its entry still stands for it.
    let kept = graph.get(&path).await.found(200)["keyCredentials"][0].clone();
    assert_eq!(kept["key"], Value::Null);
    let both = json!({ "keyCredentials": [kept, entry(&second)] });
    graph.patch(&path, both).await.found(204);
    for (key, jti) in [(&first, "1"), (&second, "2")] {
        let claims = crate::assertions::claims(&site, jti, &json!({}));
        crate::assertions::present(&site, &key.sign("PS256", &claims))
            .await
            .is_ok();
    }
    let told = graph
        .get(&format!("{path}?$select=keyCredentials"))
        .await
        .found(200);
    assert_eq!(told["keyCredentials"][1]["key"], entry(&second)["key"]);
    graph
        .patch(&path, json!({ "keyCredentials": [] }))
        .await
        .found(204);
    let claims = crate::assertions::claims(&site, "3", &json!({}));
    crate::assertions::present(&site, &second.sign("PS256", &claims))
        .await
        .is_error(401, "invalid_client", 700_027);
    graph
        .patch(&path, json!({ "keyCredentials": [{ "key": "AAAA" }] }))
        .await
        .is_error(400, "Request_BadRequest");
}

#[tokio::test]
async fn consent_given_here_is_consent_at_the_sign_in() {
    let site = Site::start().await;
    let graph = admin(&site).await;
    let scenario = site.sandbox.state().scenario();
    let client = scenario.apps[1].object_id.to_string();
    let exchange = graph
        .only(&format!("servicePrincipals?$filter=appId eq '{EXCHANGE}'"))
        .await;
    let grant = json!({
        "clientId": client, "consentType": "AllPrincipals", "principalId": null,
        "resourceId": exchange["id"], "scope": "SMTP.Send",
    });
    let made = graph
        .post("oauth2PermissionGrants", grant.clone())
        .await
        .found(201);
    graph
        .post("oauth2PermissionGrants", grant)
        .await
        .is_error(409, "Request_MultipleObjectsWithSameKeyValue");
    let page = Browser::new(&site)
        .arrive_as("svc-mail@contoso.com", "svc-mail-password", &[])
        .await;
    assert!(
        page.maybe("code").is_some(),
        "no consent was asked for: {page:?}"
    );

    let listed = graph
        .only(&format!(
            "oauth2PermissionGrants?$filter=clientId eq '{client}'"
        ))
        .await;
    assert_eq!(listed, made);
    let path = format!("oauth2PermissionGrants/{}", made["id"].as_str().unwrap());
    graph
        .patch(&path, json!({ "scope": "SMTP.Send IMAP.AccessAsUser.All" }))
        .await
        .found(204);
    assert_eq!(
        graph.get(&path).await.found(200)["scope"],
        "SMTP.Send IMAP.AccessAsUser.All"
    );
    graph.call(Method::DELETE, &path, None).await.found(204);
    graph
        .get(&path)
        .await
        .is_error(404, "Request_ResourceNotFound");
    assert!(site.sandbox.state().scenario().apps[1].consent.is_empty());
}

#[tokio::test]
async fn a_token_allows_what_it_holds_and_no_more() {
    let site = Site::start().await;
    let denied = "Authorization_RequestDenied";
    let reader = person(&site, "svc-mail@contoso.com", "User.Read").await;
    assert_eq!(
        reader.get("me").await.found(200)["mail"],
        "svc-mail@contoso.com"
    );
    reader.get("users/svc-mail@contoso.com").await.found(200);
    reader
        .get("users/admin@contoso.com")
        .await
        .is_error(403, denied);
    reader
        .get("users/admin@contoso.com/licenseDetails")
        .await
        .is_error(403, denied);
    reader.get("applications").await.is_error(403, denied);
    reader
        .get("oauth2PermissionGrants")
        .await
        .is_error(403, denied);
    reader
        .get("policies/identitySecurityDefaultsEnforcementPolicy")
        .await
        .is_error(403, denied);
    reader
        .post("applications", named("x"))
        .await
        .is_error(403, denied);
    assert_eq!(
        reader.get("organization").await.found(200)["value"][0]["verifiedDomains"][0]["isInitial"],
        true
    );

    for (token, why) in [("", "none"), ("x.y.z", "no JWT")] {
        let nobody = Graph {
            site: &site,
            token: token.to_owned(),
        };
        let told = nobody.get("me").await;
        assert_eq!(told.0, 401, "{why}");
        told.is_error(401, "InvalidAuthenticationToken");
    }
    let outlook = token(&site, DAEMON, SECRET, OUTLOOK_DEFAULT).await;
    let wrong = Graph {
        site: &site,
        token: outlook.text("access_token").to_owned(),
    };
    wrong
        .get("organization")
        .await
        .is_error(401, "InvalidAuthenticationToken");

    // An app without permissions, then with those over its own alone.
    let bare = daemon(&site, &[]).await;
    bare.get("me").await.is_error(400, "Request_BadRequest");
    bare.get("applications").await.is_error(403, denied);
    let owner = daemon(&site, &["Application.ReadWrite.OwnedBy"]).await;
    let (own, other) = {
        let scenario = site.sandbox.state().scenario();
        (
            scenario.apps[0].registration_id.to_string(),
            scenario.apps[1].registration_id.to_string(),
        )
    };
    owner
        .post(&format!("applications/{own}/addPassword"), json!({}))
        .await
        .is_error(403, denied);
    site.sandbox
        .state()
        .change(|s| {
            let principal = s.apps[0].object_id.clone();
            s.apps[0].owners.push(principal);
        })
        .unwrap();
    owner
        .post(&format!("applications/{own}/addPassword"), json!({}))
        .await
        .found(200);
    owner
        .post(&format!("applications/{other}/addPassword"), json!({}))
        .await
        .is_error(403, denied);
}

#[tokio::test]
async fn a_persons_roles_decide_what_a_broad_token_may_do() {
    let site = Site::start().await;
    // An administrator consented for everyone: the token is broad, the person is not.
    site.sandbox
        .state()
        .change(|s| {
            let tools = s
                .apps
                .iter_mut()
                .find(|a| a.client_id == *GRAPH_COMMAND_LINE_TOOLS)
                .unwrap();
            tools.consent = serde_json::from_value(json!([{
                "by": "everyone", "permissions": EVERYTHING.split_whitespace().collect::<Vec<_>>(),
            }]))
            .unwrap();
        })
        .unwrap();
    let denied = "Authorization_RequestDenied";
    let nobody = person(&site, "svc-mail@contoso.com", EVERYTHING).await;
    let daemon = site.sandbox.state().scenario().apps[0].clone();
    let path = format!("applications/{}", daemon.registration_id);
    nobody.get(&path).await.found(200);
    nobody
        .patch(&path, named("taken"))
        .await
        .is_error(403, denied);
    nobody
        .post(&format!("{path}/addPassword"), json!({}))
        .await
        .is_error(403, denied);
    let services = nobody.get("servicePrincipals").await.found(200);
    let by_id = |app_id: &str| {
        let all = services["value"].as_array().unwrap();
        all.iter().find(|p| p["appId"] == app_id).unwrap().clone()
    };
    let grant = json!({
        "clientId": daemon.object_id, "consentType": "AllPrincipals",
        "resourceId": by_id(EXCHANGE)["id"], "scope": "SMTP.Send",
    });
    nobody
        .post("oauth2PermissionGrants", grant.clone())
        .await
        .is_error(403, denied);
    // People may register apps, and manage those they own, unless the tenant says otherwise.
    let own = nobody.post("applications", named("own")).await.found(201);
    let own = format!("applications/{}/addPassword", own["id"].as_str().unwrap());
    nobody.post(&own, json!({})).await.found(200);
    site.sandbox
        .state()
        .change(|s| s.tenants[0].user_app_registration = false)
        .unwrap();
    nobody
        .post("applications", named("more"))
        .await
        .is_error(403, denied);

    // An application administrator consents to Exchange's permissions, not to Graph's own.
    site.sandbox
        .state()
        .change(|s| s.users[0].roles = vec![DirectoryRole::ApplicationAdministrator])
        .unwrap();
    nobody
        .post("oauth2PermissionGrants", grant)
        .await
        .found(201);
    let graph = by_id("00000003-0000-0000-c000-000000000000");
    let role = graph["appRoles"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["value"] == "Mail.Send")
        .unwrap();
    let assignment = json!({
        "principalId": daemon.object_id, "resourceId": graph["id"], "appRoleId": role["id"],
    });
    let path = format!(
        "servicePrincipals/{}/appRoleAssignedTo",
        graph["id"].as_str().unwrap()
    );
    nobody
        .post(&path, assignment.clone())
        .await
        .is_error(403, denied);
    admin(&site).await.post(&path, assignment).await.found(201);
}

#[tokio::test]
async fn only_an_administrator_consents_to_an_administrators_permissions() {
    let site = Site::start().await;
    let page = Browser::new(&site)
        .arrive_as(
            "svc-mail@contoso.com",
            "svc-mail-password",
            &[
                ("client_id", GRAPH_COMMAND_LINE_TOOLS),
                ("scope", "Application.ReadWrite.All"),
            ],
        )
        .await;
    assert!(page.description().starts_with("AADSTS90094: "), "{page:?}");
}

#[tokio::test]
async fn roles_and_licences_are_told_as_far_as_the_token_goes() {
    let site = Site::with(|s| {
        s.users[0].plans = Some(vec![
            ServicePlan::new("EXCHANGE_S_FOUNDATION"),
            ServicePlan {
                status: ProvisioningStatus::PendingProvisioning,
                ..ServicePlan::new("EXCHANGE_S_STANDARD")
            },
        ]);
        s.users[2].roles = vec![DirectoryRole::ExchangeAdministrator];
    })
    .await;
    let graph = admin(&site).await;
    let roles = graph.get(MY_ROLES).await.found(200);
    assert_eq!(roles["@odata.count"], 2);
    assert_eq!(
        roles["value"][0]["roleTemplateId"],
        "62e90394-69f5-4237-9190-012177145e10"
    );
    assert_eq!(
        peek(&graph.token)["wids"][1],
        "29232cdf-9323-42fd-ade2-1d097af3e4de"
    );
    let narrow = person(&site, "admin@contoso.com", "User.Read").await;
    let roles = narrow.get(MY_ROLES).await.found(200);
    assert_eq!(roles["value"][0]["roleTemplateId"], Value::Null);
    narrow
        .get("me/transitiveMemberOf/microsoft.graph.directoryRole")
        .await
        .is_error(400, "Request_BadRequest");

    let licences = graph
        .get("users/svc-mail@contoso.com/licenseDetails")
        .await
        .found(200);
    let plans = &licences["value"][0]["servicePlans"];
    assert_eq!(
        plans[0]["servicePlanId"],
        "113feb6c-3fe4-4440-bddc-54d774bf0318"
    );
    assert_eq!(plans[1]["provisioningStatus"], "PendingProvisioning");
    let shared = graph
        .get("users/alerts@contoso.com/licenseDetails")
        .await
        .found(200);
    assert_eq!(shared["value"], json!([]));

    // Such plans are no mailbox over SMTP either.
    let answer = token(&site, DAEMON, SECRET, OUTLOOK_DEFAULT).await;
    let refused = pool(&site, answer.text("access_token"))
        .send(&message("svc-mail@contoso.com"))
        .await
        .unwrap_err();
    assert_eq!(refused.reply().unwrap().code, 535);
}

#[tokio::test]
async fn a_tenants_policy_shortens_secrets_or_forbids_them() {
    let site = Site::with(|s| s.tenants[0].secret_lifetime = Some(Span::days(30))).await;
    let graph = admin(&site).await;
    let app = graph
        .only(&format!("applications?$filter=appId eq '{DAEMON}'"))
        .await;
    let path = format!("applications/{}/addPassword", app["id"].as_str().unwrap());
    let made = graph.post(&path, json!({})).await.found(200);
    let now = site.sandbox.state().now();
    let ends: jiff::Timestamp = made["endDateTime"].as_str().unwrap().parse().unwrap();
    assert_eq!(ends.duration_since(now).as_hours(), 30 * 24);
    let secret = made["secretText"].as_str().unwrap();
    token(&site, DAEMON, secret, OUTLOOK_DEFAULT).await.is_ok();
    site.sandbox
        .state()
        .advance(std::time::Duration::from_hours(30 * 24));
    token(&site, DAEMON, secret, OUTLOOK_DEFAULT)
        .await
        .is_error(401, "invalid_client", 7_000_222);

    let graph = admin(&site).await;
    site.sandbox
        .state()
        .change(|s| s.tenants[0].secrets_forbidden = true)
        .unwrap();
    graph
        .post(&path, json!({}))
        .await
        .is_error(400, "CredentialTypeNotAllowedAsPerAppPolicy");
}

#[tokio::test]
async fn what_is_new_may_take_a_while_to_show() {
    let site = Site::with(|s| {
        s.graph = GraphRules {
            propagation: Some(Span::seconds(5)),
            propagation_requests: Some(1),
        };
    })
    .await;
    let graph = admin(&site).await;
    let app = graph.post("applications", named("new")).await.found(201);
    let path = format!("applications/{}", app["id"].as_str().unwrap());
    graph
        .get(&path)
        .await
        .is_error(404, "Request_ResourceNotFound");
    graph
        .get(&path)
        .await
        .is_error(404, "Request_ResourceNotFound");
    site.sandbox
        .state()
        .advance(std::time::Duration::from_secs(5));
    graph.get(&path).await.found(200);
    // A secret is not believed at once.
    let made = graph
        .post(&format!("{path}/addPassword"), json!({}))
        .await
        .found(200);
    let client = app["appId"].as_str().unwrap();
    graph
        .post("servicePrincipals", json!({ "appId": client }))
        .await
        .found(201);
    let secret = made["secretText"].as_str().unwrap();
    assert_eq!(
        token(&site, client, secret, OUTLOOK_DEFAULT).await.status,
        400
    );
    token(&site, client, secret, OUTLOOK_DEFAULT)
        .await
        .is_error(401, "invalid_client", 7_000_215);
    site.sandbox
        .state()
        .advance(std::time::Duration::from_secs(5));
    token(&site, client, secret, OUTLOOK_DEFAULT).await.is_ok();
}

#[tokio::test]
async fn faults_strike_one_call_and_requests_are_counted() {
    let site = Site::start().await;
    let graph = admin(&site).await;
    let throttled = HttpAnswer {
        status: 429,
        retry_after: Some(7),
        ..HttpAnswer::default()
    };
    let add = "POST applications/{id}/addPassword";
    let fault = |call: &str, effect| Fault {
        only_for: Some(call.to_owned()),
        times: Some(1),
        ..Fault::new(FaultPoint::Graph, effect)
    };
    site.sandbox
        .state()
        .change(|s| {
            s.faults = vec![
                fault(add, Effect::Http(throttled)),
                fault(add, Effect::LoseReply),
            ];
        })
        .unwrap();
    site.sandbox.state().clear_graph_requests();
    let app = graph
        .only(&format!("applications?$filter=appId eq '{DAEMON}'"))
        .await;
    let path = format!("applications/{}", app["id"].as_str().unwrap());
    let url = format!("{path}/addPassword");
    assert_eq!(graph.post(&url, json!({})).await.0, 429);
    let secrets = || site.sandbox.state().scenario().apps[0].secrets.len();
    assert_eq!(secrets(), 1);
    let lost = site
        .http
        .post(site.url(&format!("v1.0/{url}")))
        .header("authorization", format!("Bearer {}", graph.token));
    assert!(lost.send().await.is_err());
    assert_eq!(secrets(), 2, "the secret was made, and nobody knows it");
    let counted = site.sandbox.state().graph_requests();
    assert_eq!((counted["GET applications"], counted[add]), (1, 2));
}

#[tokio::test]
async fn lists_come_in_pages_and_queries_are_not_guessed_at() {
    let site = Site::start().await;
    let graph = admin(&site).await;
    let first = graph
        .get("applications?$top=2&$select=appId")
        .await
        .found(200);
    assert_eq!(first["value"].as_array().unwrap().len(), 2);
    let next = first["@odata.nextLink"].as_str().unwrap();
    let next = next.strip_prefix(&site.url("v1.0/")).unwrap();
    let second = graph.get(next).await.found(200);
    assert_eq!(
        second["value"],
        json!([{ "appId": GRAPH_COMMAND_LINE_TOOLS }])
    );
    assert_eq!(second.get("@odata.nextLink"), None);
    graph
        .get("applications?$filter=appId ne 'x'")
        .await
        .is_error(400, "Request_BadRequest");
    graph
        .get("applications?$orderby=appId")
        .await
        .is_error(400, "Request_BadRequest");
    graph.get("groups").await.is_error(400, "BadRequest");
    graph
        .get("applications/nothing")
        .await
        .is_error(404, "Request_ResourceNotFound");
}

#[tokio::test]
async fn mail_sent_here_reaches_the_same_inbox() {
    let site = Site::start().await;
    let graph = admin(&site).await;
    let send = |from: &str| {
        use base64::Engine as _;
        let mime =
            format!("From: {from}\r\nTo: svc-mail@contoso.com\r\nSubject: hello\r\n\r\nx\r\n");
        site.http
            .post(site.url("v1.0/me/sendMail"))
            .header("authorization", format!("Bearer {}", graph.token))
            .header("content-type", "text/plain")
            .body(base64::engine::general_purpose::STANDARD.encode(mime))
            .send()
    };
    assert_eq!(send("ceo@contoso.com").await.unwrap().status(), 403);
    assert_eq!(send("admin@contoso.com").await.unwrap().status(), 202);
    let arrived = site.sandbox.inbox().wait_for(1).await;
    assert_eq!(arrived[0].summary.subject, "hello");
    graph
        .post("me/sendMail", json!({}))
        .await
        .is_error(400, "ErrorMimeContentInvalidBase64String");
}

#[tokio::test]
async fn a_desktop_redirect_takes_no_proof_of_its_client() {
    let site = Site::with(|s| {
        s.apps[0].public_redirect_uris = std::mem::take(&mut s.apps[0].redirect_uris);
    })
    .await;
    let landed = Browser::new(&site)
        .arrive_as(
            "svc-mail@contoso.com",
            "svc-mail-password",
            &[("client_id", DAEMON)],
        )
        .await;
    let code = landed.param("code");
    let with_secret = [("client_id", DAEMON), ("client_secret", SECRET)];
    site.redeem(code, &with_secret)
        .await
        .is_error(401, "invalid_client", 700_025);
    site.redeem(code, &with_secret[..1]).await.is_ok();
}
