//! The `oauth` plugin signs people in here as it does at Entra ID: the test is its network, its
//! clock and the person at the browser.

use std::time::SystemTime;

use postrider_oauth::OAuth;
use postrider_plugin::ErrorKind;
use postrider_plugin::kit::testing::{Driver, Flow, Turn, config};
use postrider_plugin::wire::{
    Action, Answer, Empty, HttpRequest, HttpResponse, IdentitySource, LoginInput, LoginMethod,
    Octets, Op, Secret,
};
use serde_json::json;

use crate::site::{Browser, OUTLOOK, PUBLIC, REDIRECT, Shown, Site, TENANT};

const USER: (&str, &str) = ("svc-mail@contoso.com", "svc-mail-password");
const ADMIN: (&str, &str) = ("admin@contoso.com", "admin-password");

/// A person at the pages of a sign-in: from the first page to the one that ends it.
struct Person<'a> {
    browser: Browser<'a>,
    login: (&'a str, &'a str),
    decision: &'a str,
}

impl Person<'_> {
    async fn go_on(&mut self, mut page: Shown) -> Shown {
        for _ in 0..3 {
            page = match page.title() {
                "Sign in" => {
                    let (login, password) = self.login;
                    let fields = [("login", login), ("passwd", password)];
                    self.browser.submit(&page, &fields).await
                }
                "Permissions requested" => {
                    let decision = [("decision", self.decision)];
                    self.browser.submit(&page, &decision).await
                }
                _ => return page,
            };
        }
        page
    }
}

fn driver(site: &Site, tenant: &str) -> Driver<OAuth> {
    let mut config = config(json!({
        "flow": "authorization_code", "authority": site.sandbox.authority().as_str(),
        "tenant": tenant, "client_id": PUBLIC,
        "scopes": ["openid", "profile", OUTLOOK, "offline_access"],
    }));
    config.username = USER.0.into();
    Driver::create(&config).unwrap()
}

/// The plugin's request, performed.
async fn perform(site: &Site, request: &HttpRequest) -> Answer {
    let method = request.method.parse().unwrap();
    let mut sent = site.http.request(method, &request.url);
    for (name, value) in &request.headers {
        sent = sent.header(name, value);
    }
    if let Some(body) = &request.body {
        sent = sent.body(body.0.clone());
    }
    let response = sent.send().await.unwrap();
    let headers = response.headers().iter();
    Answer::Http(HttpResponse {
        status: response.status().as_u16(),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: Octets(response.bytes().await.unwrap().to_vec()),
    })
}

/// A sign-in to its end.
async fn sign_in(
    site: &Site,
    tenant: &str,
    method: LoginMethod,
    login: (&str, &str),
    decision: &str,
) -> Flow {
    let now = SystemTime::from(site.sandbox.state().now());
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let input = LoginInput {
        now_ms: u64::try_from(now.as_millis()).unwrap(),
        method,
    };
    let mut flow = driver(site, tenant).begin(Op::Login, &input);
    let mut person = Person {
        browser: Browser::new(site),
        login,
        decision,
    };
    while let Turn::Yield(action) = flow.turn() {
        let answer = match action {
            Action::Random(n) => Answer::Random(Octets(vec![7; *n as usize])),
            Action::Listen(_) => Answer::Listening(REDIRECT.into()),
            Action::OpenUrl(open) => {
                let page = person.browser.get(&open.url).await;
                let back = person.go_on(page).await.location.unwrap();
                Answer::Redirect(Secret::new(back.as_str()))
            }
            Action::DeviceCode(code) => {
                let form = [("user_code", code.user_code.as_str())];
                let page = person.browser.post("device", &form).await;
                person.go_on(page).await;
                Answer::Shown(Empty {})
            }
            Action::SleepMs(_) => Answer::Slept(Empty {}),
            Action::Http(request) => perform(site, request).await,
            other => panic!("{other:?}"),
        };
        flow.answer(answer);
    }
    flow
}

#[tokio::test]
async fn a_sign_in_tells_who_it_was_whoever_was_hinted() {
    let site = Site::start().await;
    let tid = site.sandbox.state().scenario().tenants[0].id.to_string();
    for (tenant, method, who) in [
        (TENANT, LoginMethod::Browser, USER),
        (tid.as_str(), LoginMethod::Browser, ADMIN),
        (TENANT, LoginMethod::DeviceCode, USER),
    ] {
        let flow = sign_in(&site, tenant, method, who, "accept").await;
        let tokens = flow.tokens();
        assert!(tokens.refresh_token.is_some());
        assert_eq!(tokens.scope.as_deref(), Some(OUTLOOK));
        let identity = tokens.identity.as_ref().unwrap();
        assert_eq!(identity.usernames, [who.0]);
        assert_eq!(identity.tenant.as_deref(), Some(tid.as_str()));
        assert_eq!(identity.source, IdentitySource::IdToken);
    }
}

#[tokio::test]
async fn each_way_a_sign_in_fails_is_told_apart() {
    let site = Site::start().await;
    let declined = sign_in(&site, TENANT, LoginMethod::Browser, USER, "cancel").await;
    failed(&declined, ErrorKind::Denied, "access_denied", "AADSTS65004");
    let declined = sign_in(&site, TENANT, LoginMethod::DeviceCode, USER, "cancel").await;
    failed(&declined, ErrorKind::Denied, "authorization_declined", "");

    let state = site.sandbox.state();
    state.change(|s| s.tenants[0].user_consent = false).unwrap();
    let unapproved = sign_in(&site, TENANT, LoginMethod::Browser, USER, "").await;
    failed(
        &unapproved,
        ErrorKind::Denied,
        "access_denied",
        "AADSTS90094",
    );
    let unapproved = sign_in(&site, TENANT, LoginMethod::DeviceCode, USER, "").await;
    failed(
        &unapproved,
        ErrorKind::Denied,
        "access_denied",
        "AADSTS90094",
    );

    // Nobody decides, and the code lapses by the sandbox's clock.
    state
        .change(|s| {
            s.tenants[0].user_consent = true;
            s.tokens.device_code = postrider_sandbox::scenario::Span::seconds(0);
        })
        .unwrap();
    let lapsed = sign_in(&site, TENANT, LoginMethod::DeviceCode, USER, "").await;
    failed(&lapsed, ErrorKind::NeedsUser, "expired_token", "");
}

#[track_caller]
fn failed(flow: &Flow, kind: ErrorKind, error: &str, number: &str) {
    let found = flow.error();
    assert_eq!(found.kind, kind, "{found:?}");
    assert_eq!(found.detail.oauth_error.as_deref(), Some(error));
    assert!(found.detail.message.contains(number), "{found:?}");
}
