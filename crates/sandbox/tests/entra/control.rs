//! The control API: everything can be changed while the sandbox runs, nothing by halves.

use std::time::Duration;

use postrider_sandbox::TokenProblem;
use postrider_sandbox::scenario::Resource;
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{DAEMON, OUTLOOK, OUTLOOK_DEFAULT, PUBLIC, SECRET, Site};

const CREDENTIALS: [(&str, &str); 4] = [
    ("grant_type", "client_credentials"),
    ("client_id", DAEMON),
    ("client_secret", SECRET),
    ("scope", OUTLOOK_DEFAULT),
];

async fn call(site: &Site, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = site
        .http
        .request(method, site.sandbox.control_url().join(path).unwrap());
    if let Some(body) = body {
        request = request
            .header("content-type", "application/json")
            .body(body.to_string());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (
        status,
        serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null),
    )
}

#[tokio::test]
async fn the_scenario_can_be_read_patched_and_replaced() {
    let site = Site::start().await;
    let (_, before) = call(&site, Method::GET, "v1/scenario", None).await;
    assert_eq!(before["limits"]["connections"], 3);

    let (status, after) = call(
        &site,
        Method::PATCH,
        "v1/scenario",
        Some(json!({ "limits": { "connections": 1 } })),
    )
    .await;
    assert_eq!(
        (
            status,
            &after["limits"]["connections"],
            &after["limits"]["messages_per_minute"]
        ),
        (200, &json!(1), &json!(30))
    );
    let switch = Some(json!({ "smtp_auth_disabled": true }));
    assert_eq!(
        call(
            &site,
            Method::PATCH,
            "v1/scenario/tenant/contoso.com",
            switch.clone()
        )
        .await
        .0,
        200
    );
    assert_eq!(
        call(
            &site,
            Method::PATCH,
            "v1/scenario/user/CEO@contoso.com",
            switch
        )
        .await
        .0,
        200
    );
    let fault = json!({ "at": "token", "times": 1, "effect": { "aadsts": { "code": 90033 } } });
    assert_eq!(
        call(&site, Method::POST, "v1/scenario/fault", Some(fault))
            .await
            .0,
        200
    );
    let scenario = site.sandbox.state().scenario();
    assert!(
        scenario.tenants[0].smtp_auth_disabled
            && scenario.user("ceo@contoso.com").unwrap().smtp_auth_disabled == Some(true)
    );
    site.token(&CREDENTIALS)
        .await
        .is_error(400, "temporarily_unavailable", 90_033);
    site.token(&CREDENTIALS).await.is_ok();

    assert_eq!(
        call(&site, Method::DELETE, "v1/scenario/fault/0", None)
            .await
            .0,
        200
    );
    assert_eq!(
        call(&site, Method::DELETE, "v1/scenario/permission/all", None)
            .await
            .0,
        200
    );
    assert!(site.sandbox.state().scenario().permissions.is_empty());
    let (status, restored) = call(&site, Method::PUT, "v1/scenario", Some(before.clone())).await;
    assert_eq!((status, restored), (200, before));

    let toml = site
        .http
        .get(site.sandbox.control_url().join("v1/scenario.toml").unwrap())
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(
        postrider_sandbox::Scenario::from_toml(&toml).unwrap(),
        *site.sandbox.state().scenario()
    );
}

#[tokio::test]
async fn a_change_that_makes_no_sense_changes_nothing_and_says_why() {
    let site = Site::start().await;
    let before = site.sandbox.state().scenario();
    let cases = [
        (
            Method::PATCH,
            "v1/scenario",
            json!({ "limits": { "conections": 1 } }),
            422,
            "did you mean `connections`?",
        ),
        (
            Method::PATCH,
            "v1/scenario",
            json!({ "user": [], "limits": { "connections": 1 } }),
            422,
            "there is no mailbox",
        ),
        (Method::PATCH, "v1/scenario", json!([]), 422, ""),
        (
            Method::PATCH,
            "v1/scenario/user/nobody@contoso.com",
            json!({}),
            404,
            "there is no `nobody@contoso.com`",
        ),
        (
            Method::POST,
            "v1/scenario/users",
            json!({}),
            404,
            "there is no list `users`",
        ),
        (
            Method::POST,
            "v1/scenario/user",
            json!({ "upn": "x@elsewhere.example" }),
            422,
            "no tenant has the domain",
        ),
        (
            Method::POST,
            "v1/scenario/user",
            json!({ "upn": "x@contosso.com" }),
            422,
            "no tenant has the domain of `x@contosso.com`; did you mean `contoso.com`?",
        ),
        (
            Method::POST,
            "v1/clock",
            json!({ "advance": "yesterday" }),
            400,
            "no span of time",
        ),
        (
            Method::POST,
            "v1/revoke",
            json!({ "user": "nobody@contoso.com" }),
            404,
            "there is no user",
        ),
        (
            Method::POST,
            "v1/expire-secrets",
            json!({ "app": "x" }),
            404,
            "there is no app",
        ),
        (
            Method::DELETE,
            "v1/scenario/fault/0",
            json!({}),
            404,
            "there is no `0`",
        ),
    ];
    for (method, path, body, expected, problem) in cases {
        let (status, answer) = call(&site, method, path, Some(body)).await;
        assert_eq!(status, expected, "{path}: {answer}");
        assert!(
            answer["problems"][0].as_str().unwrap().contains(problem),
            "{path}: {answer}"
        );
    }
    assert_eq!(site.sandbox.state().scenario(), before);
}

#[tokio::test]
async fn a_fault_that_makes_no_sense_is_not_set() {
    let site = Site::start().await;
    let token = |more: Value| {
        let mut fault = json!({ "at": "token", "effect": "hang" });
        fault
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        fault
    };
    let odd_type = json!({ "http": { "status": 200, "content_type": "a\nb" } });
    for (fault, problem) in [
        (token(json!({ "at": "tokens" })), "did you mean `token`?"),
        (token(json!({ "effect": "hung" })), "did you mean `hang`?"),
        (
            token(json!({ "lasts": "1h", "until": "2031-01-31T00:00:00Z" })),
            "lasts and until exclude each other",
        ),
        (token(json!({ "effect": odd_type })), "content_type"),
        (
            token(json!({ "at": "keys", "effect": "lose_reply" })),
            "LoseReply cannot happen at Keys",
        ),
    ] {
        let told = format!("{fault}");
        let (status, answer) = call(&site, Method::POST, "v1/scenario/fault", Some(fault)).await;
        assert_eq!(status, 422, "{told}: {answer}");
        assert!(
            answer["problems"][0].as_str().unwrap().contains(problem),
            "{told}: {answer}"
        );
    }
    assert!(site.sandbox.state().scenario().faults.is_empty());
}

#[tokio::test]
async fn other_sites_pages_cannot_change_anything() {
    let site = Site::start().await;
    let url = site
        .sandbox
        .control_url()
        .join("v1/scenario/fault/all")
        .unwrap();
    let foreign = site
        .http
        .delete(url.clone())
        .header("origin", "https://site.example")
        .send()
        .await
        .unwrap();
    assert_eq!(foreign.status(), 403);
    let rebound = site
        .http
        .get(url.join("/v1/scenario").unwrap())
        .header("host", "site.example")
        .send()
        .await
        .unwrap();
    assert_eq!(rebound.status(), 421);
    let simple = site
        .http
        .post(url.join("/v1/revoke").unwrap())
        .header("content-type", "text/plain")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(simple.status(), 415);
    let inbox = site
        .http
        .get(url.join("/inbox").unwrap())
        .header("host", "site.example")
        .send()
        .await
        .unwrap();
    assert_eq!(inbox.status(), 421, "the inbox is guarded too");
}

#[tokio::test]
async fn revoking_ends_refresh_tokens_and_if_asked_access_tokens() {
    let site = Site::start().await;
    let scope = format!("{OUTLOOK} offline_access");
    let answer = site.person(&scope).await;
    let (access, refresh) = (answer.text("access_token"), answer.text("refresh_token"));
    let verdict = || {
        site.sandbox
            .state()
            .verify_token(access, Resource::Exchange)
    };

    let someone_else = Some(json!({ "user": "ceo@contoso.com", "access_tokens": true }));
    assert_eq!(
        call(&site, Method::POST, "v1/revoke", someone_else).await.1["revoked"],
        0
    );
    site.refresh(refresh, &[]).await.is_ok();

    let (_, told) = call(
        &site,
        Method::POST,
        "v1/revoke",
        Some(json!({ "user": "svc-mail@contoso.com" })),
    )
    .await;
    assert_eq!(told["revoked"], 2);
    let answer = site.refresh(refresh, &[]).await;
    answer.is_error(400, "invalid_grant", 50_173);
    assert_eq!(answer.json["suberror"], "bad_token");
    assert!(verdict().is_ok(), "an access token lives on, as Entra's do");

    call(
        &site,
        Method::POST,
        "v1/revoke",
        Some(json!({ "app": PUBLIC, "access_tokens": true })),
    )
    .await;
    assert_eq!(verdict(), Err(TokenProblem::Revoked));
}

#[tokio::test]
async fn a_new_password_ends_public_clients_tokens_only() {
    let site = Site::start().await;
    let scope = format!("{OUTLOOK} offline_access");
    let public = site.person(&scope).await.text("refresh_token").to_owned();
    let landed = crate::site::Browser::new(&site)
        .arrive_as(
            "svc-mail@contoso.com",
            "svc-mail-password",
            &[("client_id", DAEMON), ("scope", &scope)],
        )
        .await;
    let daemon = [("client_id", DAEMON), ("client_secret", SECRET)];
    let confidential = site
        .redeem(landed.param("code"), &daemon)
        .await
        .text("refresh_token")
        .to_owned();

    let (status, _) = call(
        &site,
        Method::PATCH,
        "v1/scenario/user/svc-mail@contoso.com",
        Some(json!({ "password": "new" })),
    )
    .await;
    assert_eq!(status, 200);

    site.refresh(&public, &[])
        .await
        .is_error(400, "invalid_grant", 50_173);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", DAEMON),
        ("client_secret", SECRET),
        ("refresh_token", confidential.as_str()),
    ];
    site.token(&form).await.is_ok();
}

#[tokio::test]
async fn secrets_expire_and_the_clock_moves() {
    let site = Site::start().await;
    site.token(&CREDENTIALS).await.is_ok();
    let (status, _) = call(
        &site,
        Method::POST,
        "v1/expire-secrets",
        Some(json!({ "app": DAEMON })),
    )
    .await;
    assert_eq!(status, 200);
    site.token(&CREDENTIALS)
        .await
        .is_error(401, "invalid_client", 7_000_222);

    let before = site.sandbox.state().now();
    let (_, told) = call(
        &site,
        Method::POST,
        "v1/clock",
        Some(json!({ "advance": "2h" })),
    )
    .await;
    let after: jiff::Timestamp = told["now"].as_str().unwrap().parse().unwrap();
    assert!(after.duration_since(before).unsigned_abs() >= Duration::from_hours(2));
}

#[tokio::test]
async fn the_log_can_be_followed_and_emptied() {
    let site = Site::start().await;
    site.token(&[
        ("grant_type", "client_credentials"),
        ("client_id", DAEMON),
        ("scope", OUTLOOK_DEFAULT),
    ])
    .await;
    let (_, log) = call(&site, Method::GET, "v1/log", None).await;
    let entry = &log["entries"][0];
    assert_eq!(
        (&entry["area"], &entry["what"], &entry["outcome"]),
        (
            &json!("entra"),
            &json!("token client_credentials"),
            &json!("refused")
        )
    );
    assert!(entry["why"].as_str().unwrap().contains("AADSTS7000218"));
    let number = entry["number"].as_u64().unwrap();
    assert_eq!(
        call(&site, Method::GET, &format!("v1/log?after={number}"), None)
            .await
            .1["entries"],
        json!([])
    );
    assert_eq!(call(&site, Method::DELETE, "v1/log", None).await.0, 204);
    assert_eq!(
        call(&site, Method::GET, "v1/log", None).await.1["entries"],
        json!([])
    );
}

#[tokio::test]
async fn token_requests_are_counted_by_grant_type() {
    let site = Site::start().await;
    let answer = site.person(&format!("{OUTLOOK} offline_access")).await;
    let refresh = answer.text("refresh_token");
    site.refresh(refresh, &[]).await.is_ok();
    site.refresh("mangled", &[]).await;
    site.token(&CREDENTIALS).await.is_ok();
    let device = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", PUBLIC),
        ("device_code", "unknown"),
    ];
    site.token(&device).await;
    site.token(&[("client_id", PUBLIC)]).await;
    let fault = json!({ "at": "token", "times": 1, "effect": { "aadsts": { "code": 90033 } } });
    call(&site, Method::POST, "v1/scenario/fault", Some(fault)).await;
    site.token(&CREDENTIALS).await;

    let tally = |requests: u64, granted: u64, refused: u64, faults: u64| json!({ "requests": requests, "granted": granted, "refused": refused, "faults": faults });
    let path = "v1/token-requests";
    let (_, counts) = call(&site, Method::GET, path, None).await;
    assert_eq!(
        counts,
        json!({
            "authorization_code": tally(1, 1, 0, 0),
            "refresh_token": tally(2, 1, 1, 0),
            "client_credentials": tally(2, 1, 0, 1),
            "device_code": tally(1, 0, 1, 0),
            "other": tally(1, 0, 1, 0),
        })
    );
    assert_eq!(call(&site, Method::DELETE, path, None).await.0, 204);
    let (_, counts) = call(&site, Method::GET, path, None).await;
    assert_eq!(counts["refresh_token"], tally(0, 0, 0, 0));
}

#[tokio::test]
async fn the_life_of_tokens_and_of_a_fault_can_be_set_while_it_runs() {
    let site = Site::start().await;
    let brief = json!({ "tokens": { "access_min": "2m", "access_max": "2m",
        "rotation": "strict", "refresh_in_percent": 50 } });
    let (status, _) = call(&site, Method::PATCH, "v1/scenario", Some(brief)).await;
    assert_eq!(status, 200);
    let answer = site.token(&CREDENTIALS).await;
    assert_eq!(
        (&answer.json["expires_in"], &answer.json["refresh_in"]),
        (&json!(120), &json!(60))
    );

    let fault = json!({ "at": "token", "lasts": "12h", "effect": { "aadsts": { "code": 90033 } } });
    let (_, scenario) = call(&site, Method::POST, "v1/scenario/fault", Some(fault)).await;
    assert_eq!(scenario["fault"][0]["lasts"], Value::Null);
    assert!(scenario["fault"][0]["until"].is_string());
    let hours = |n: u64| Some(json!({ "advance": format!("{n}h") }));
    call(&site, Method::POST, "v1/clock", hours(11)).await;
    site.token(&CREDENTIALS)
        .await
        .is_error(400, "temporarily_unavailable", 90_033);
    call(&site, Method::POST, "v1/clock", hours(1)).await;
    site.token(&CREDENTIALS).await.is_ok();
}

#[tokio::test]
async fn a_program_is_told_where_everything_is() {
    let site = Site::start().await;
    let (status, told) = call(&site, Method::GET, "v1/address", None).await;
    let authority = site.sandbox.authority().as_str().trim_end_matches('/');
    assert_eq!(
        (status, told),
        (
            200,
            json!({
                "smtp_host": "localhost", "smtp_port": site.sandbox.smtp_addr().port(),
                "authority": authority, "graph": authority, "ca_file": site.sandbox.ca_file(),
            })
        )
    );
}

#[tokio::test]
async fn a_person_flips_switches_and_no_other_page_does() {
    let site = Site::start().await;
    let page = site.sandbox.control_url().join("account").unwrap();
    let html = site.http.get(page.clone()).send().await.unwrap();
    assert!(
        html.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("form-action 'self'")
    );
    let html = html.text().await.unwrap();
    assert!(!html.contains("<script"));
    let (_, rest) = html.split_once("name=\"token\" value=\"").unwrap();
    let (token, _) = rest.split_once('"').unwrap();
    let origin = page.origin().ascii_serialization();
    let press = |origin: &str, fields: &[(&str, &str)]| {
        let request = site.http.post(page.clone()).header("origin", origin);
        let form = crate::site::encoded(fields);
        let request = request.header("content-type", crate::site::FORM).body(form);
        async { request.send().await.unwrap().status().as_u16() }
    };
    let off = [
        ("token", token),
        ("list", "tenant"),
        ("which", "contoso.com"),
        ("patch", r#"{"smtp_auth_disabled":true}"#),
    ];
    let disabled = || site.sandbox.state().scenario().tenants[0].smtp_auth_disabled;
    assert_eq!(press("https://site.example", &off).await, 403);
    assert_eq!(press(&origin, &off[1..]).await, 400);
    assert!(!disabled());
    assert_eq!(press(&origin, &off).await, 303);
    assert!(disabled());
    let html = site.http.get(page.clone()).send().await.unwrap();
    let html = html.text().await.unwrap();
    assert!(html.contains(
        "value=\"{&quot;smtp_auth_disabled&quot;:true}\" aria-pressed=\"true\">blocked<"
    ));

    let rights = || site.sandbox.state().scenario().permissions.len();
    let before = rights();
    let mut add = vec![("token", token), ("list", "permission"), ("which", "")];
    add.extend([
        ("mailbox", "ceo@contoso.com"),
        ("trustee", "svc-mail@contoso.com"),
        ("right", "send_as"),
    ]);
    assert_eq!(press(&origin, &add).await, 303);
    assert_eq!(rights(), before + 1);
    let last = before.to_string();
    let remove = [
        ("token", token),
        ("list", "permission"),
        ("which", last.as_str()),
        ("remove", "yes"),
    ];
    assert_eq!(press(&origin, &remove).await, 303);
    assert_eq!(rights(), before);
}
