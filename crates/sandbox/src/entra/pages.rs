//! The pages a person sees: plain HTML forms that work without scripts.
//!
//! Every text that came from outside is escaped; pages cannot be framed, load nothing, and
//! are never cached. Each field has a label and an id, so that people, screen readers and
//! browser tests find it.

use std::fmt::Write as _;

use axum::extract::{RawQuery, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::html::Escaped;
use crate::scenario::{App, Permission, Scenario, User};

use super::aadsts::Aadsts;
use super::answer::{Trailer, error_uri};
use super::form::Form;
use super::redirect::Redirect;
use super::store::ResponseMode;
use super::{Entra, TenantPath};

/// The cookie that tells browsers apart.
pub(crate) const BROWSER_COOKIE: &str = "sandbox_browser";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:30rem;margin:3rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}\
h1{font-size:1.4rem}label{display:block;margin-top:1rem}input:not([type=checkbox]){width:100%;padding:.5rem;font:inherit;box-sizing:border-box}\
button{margin:1.2rem .6rem 0 0;padding:.5rem 1.4rem;font:inherit}[role=alert]{border-left:4px solid #b10e1e;padding:.5rem 1rem;background:#fdf3f4;overflow-wrap:anywhere}\
footer{margin-top:3rem;color:#5a5a5a;font-size:.85rem}code{overflow-wrap:anywhere}";

/// A form that asks for a user's name and password.
#[allow(clippy::too_many_arguments, reason = "all of it is on the page")]
pub(crate) fn sign_in(
    entra: &Entra,
    headers: &HeaderMap,
    ctx: &str,
    app: &str,
    login: Option<&str>,
    problem: Option<&Aadsts>,
    scenario: &Scenario,
    path: &TenantPath,
) -> Response {
    let mut names = String::new();
    let here = |u: &&User| {
        u.password.is_some() && scenario.tenant_of(&u.upn).is_some_and(|t| path.admits(t))
    };
    for user in scenario.users.iter().filter(here) {
        let _ = write!(names, "<option value=\"{}\">", Escaped(&user.upn));
    }
    let body = format!(
        "<p>to continue to {app}</p>{alert}\
         <form method=\"post\" action=\"/sign-in\">{ctx}\
         <label for=\"login\">User name</label>\
         <input id=\"login\" name=\"login\" type=\"text\" value=\"{login}\" list=\"users\" autocomplete=\"username\" required autofocus>\
         <datalist id=\"users\">{names}</datalist>\
         <label for=\"passwd\">Password</label>\
         <input id=\"passwd\" name=\"passwd\" type=\"password\" autocomplete=\"current-password\">\
         <button id=\"submit\" type=\"submit\">Sign in</button></form>",
        app = Escaped(app),
        alert = problem
            .map(|p| alert(entra, headers, p))
            .unwrap_or_default(),
        ctx = hidden("ctx", ctx),
        login = Escaped(login.unwrap_or_default()),
    );
    page(StatusCode::OK, "Sign in", &body)
}

/// A form that asks which of the signed-in users it shall be.
pub(crate) fn choose_account(ctx: &str, app: &str, users: &[&User]) -> Response {
    let mut buttons = String::new();
    for user in users {
        let upn = Escaped(&user.upn);
        let _ = write!(
            buttons,
            "<button name=\"account\" value=\"{upn}\">{upn}</button>"
        );
    }
    let body = format!(
        "<p>to continue to {}</p><form method=\"post\" action=\"/sign-in\">{}{buttons}\
         <button id=\"other\" name=\"account\" value=\"\">Use another account</button></form>",
        Escaped(app),
        hidden("ctx", ctx),
    );
    page(StatusCode::OK, "Pick an account", &body)
}

/// A form that stands for a second factor.
pub(crate) fn second_step(ctx: &str, user: &User) -> Response {
    let body = format!(
        "<p>{} has a second step. In the sandbox it is one button.</p>\
         <form method=\"post\" action=\"/sign-in\">{}\
         <button id=\"approve\" name=\"mfa\" value=\"approve\">Approve</button></form>",
        Escaped(&user.upn),
        hidden("ctx", ctx),
    );
    page(StatusCode::OK, "Approve sign in request", &body)
}

/// What a person is asked to agree to.
pub(crate) struct Decision<'a> {
    pub(crate) app: &'a App,
    pub(crate) user: &'a User,
    pub(crate) permissions: Vec<Permission>,
    /// A device asks, not this browser.
    pub(crate) device: bool,
    /// An administrator decides for the organisation.
    pub(crate) for_everyone: bool,
}

/// The consent page.
pub(crate) fn decide(ctx: &str, decision: &Decision<'_>) -> Response {
    let mut list = String::new();
    for permission in &decision.permissions {
        let _ = write!(
            list,
            "<li><code>{}</code></li>",
            Escaped(&permission.to_string())
        );
    }
    let app = Escaped(&decision.app.name);
    let question = match (decision.device, decision.for_everyone) {
        (true, _) => format!(
            "Are you trying to sign in to {app} on another device? Only go on if you started this yourself."
        ),
        (_, true) => format!("{app} asks for these permissions for everyone in the organisation."),
        _ => format!("{app} would like to:"),
    };
    let everyone = if decision.user.admin && !decision.for_everyone {
        "<p><label for=\"everyone\"><input id=\"everyone\" name=\"everyone\" type=\"checkbox\" value=\"yes\"> Consent on behalf of your organization</label></p>"
    } else {
        ""
    };
    let body = format!(
        "<p>Signed in as {user}</p><p>{question}</p><ul>{list}</ul>\
         <form method=\"post\" action=\"/sign-in\">{ctx}{everyone}\
         <button id=\"accept\" name=\"decision\" value=\"accept\">Accept</button>\
         <button id=\"cancel\" name=\"decision\" value=\"cancel\">Cancel</button></form>",
        user = Escaped(&decision.user.upn),
        ctx = hidden("ctx", ctx),
    );
    page(StatusCode::OK, "Permissions requested", &body)
}

/// The page on which a person enters a device's code.
pub(crate) fn enter_code(problem: bool) -> Response {
    let alert = if problem {
        "<p role=\"alert\" id=\"error\">That code did not work. Check the code and try again.</p>"
    } else {
        ""
    };
    let body = format!(
        "{alert}<form method=\"post\" action=\"/device\">\
         <label for=\"user_code\">Code shown on your device</label>\
         <input id=\"user_code\" name=\"user_code\" type=\"text\" autocomplete=\"off\" required autofocus>\
         <button id=\"submit\" type=\"submit\">Next</button></form>"
    );
    page(StatusCode::OK, "Enter code", &body)
}

/// A page that only says something.
pub(crate) fn notice(title: &str, text: &str) -> Response {
    page(StatusCode::OK, title, &format!("<p>{}</p>", Escaped(text)))
}

/// An error that cannot travel to the client.
pub(crate) fn error(entra: &Entra, headers: &HeaderMap, error: &Aadsts) -> Response {
    page(
        StatusCode::BAD_REQUEST,
        "Sorry, but we’re having trouble signing you in.",
        &alert(entra, headers, error),
    )
}

/// An error that travels to the client.
pub(crate) fn return_error(
    entra: &Entra,
    headers: &HeaderMap,
    redirect: &Redirect,
    mode: ResponseMode,
    state: Option<&str>,
    error: &Aadsts,
) -> Response {
    let trailer = Trailer::new(entra, headers);
    let (description, uri) = (trailer.describe(error), error_uri(entra, error));
    let mut pairs = vec![
        ("error", error.error.as_ref()),
        ("error_description", &description),
        ("error_uri", &uri),
    ];
    if let Some(suberror) = &error.suberror {
        pairs.push(("error_subcode", suberror));
    }
    pairs.extend(state.map(|state| ("state", state)));
    give_back(redirect, mode, &pairs)
}

/// Sends the browser back to the client with these parameters.
pub(crate) fn give_back(
    redirect: &Redirect,
    mode: ResponseMode,
    pairs: &[(&str, &str)],
) -> Response {
    let mut url = redirect.url.clone();
    match mode {
        ResponseMode::Query => {
            url.query_pairs_mut().extend_pairs(pairs);
            see(url.as_str())
        }
        ResponseMode::Fragment => {
            let fragment: String = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(pairs)
                .finish();
            url.set_fragment(Some(&fragment));
            see(url.as_str())
        }
        ResponseMode::FormPost => {
            let fields: String = pairs
                .iter()
                .map(|(name, value)| hidden(name, value))
                .collect();
            let body = format!(
                "<form method=\"post\" action=\"{}\">{fields}<button id=\"submit\" type=\"submit\" autofocus>Continue</button></form>",
                Escaped(url.as_str())
            );
            page(StatusCode::OK, "Working…", &body)
        }
    }
}

/// A redirect that a browser follows with GET.
pub(crate) fn see(location: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(location) else {
        return page(
            StatusCode::BAD_REQUEST,
            "Error",
            "<p>The redirect URI cannot be followed.</p>",
        );
    };
    (
        StatusCode::FOUND,
        [
            (header::LOCATION, location),
            (
                header::CACHE_CONTROL,
                HeaderValue::from_static("no-store, no-cache"),
            ),
        ],
    )
        .into_response()
}

/// Gives the browser its name.
pub(crate) fn with_browser(mut response: Response, browser: &str) -> Response {
    let cookie = format!("{BROWSER_COOKIE}={browser}; Path=/; Secure; HttpOnly; SameSite=Lax");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// `GET /error?code=n`: what an error's `error_uri` leads to.
pub(crate) async fn about_error(RawQuery(query): RawQuery) -> Response {
    let code = Form::from_query(query.as_deref())
        .ok()
        .and_then(|form| form.get("code")?.parse().ok());
    match code {
        Some(code) => notice("Error", &Aadsts::new(code, &[]).to_string()),
        None => not_found().await,
    }
}

/// `GET /`
pub(crate) async fn front(Shared(entra): Shared<Entra>) -> Response {
    let scenario = entra.state.scenario();
    let mut rows = String::new();
    for tenant in &scenario.tenants {
        let configuration = format!("/{}/v2.0/.well-known/openid-configuration", tenant.id);
        let _ = write!(
            rows,
            "<li>{} <a href=\"{configuration}\">configuration</a></li>",
            Escaped(&tenant.name)
        );
    }
    page(
        StatusCode::OK,
        "Sandbox sign-in",
        &format!(
            "<p>This stands in for Entra ID.</p><ul>{rows}</ul><p><a href=\"/device\">Enter a device’s code</a></p>"
        ),
    )
}

/// Anything else.
pub(crate) async fn not_found() -> Response {
    page(
        StatusCode::NOT_FOUND,
        "Not found",
        "<p>There is nothing here.</p>",
    )
}

fn alert(entra: &Entra, headers: &HeaderMap, error: &Aadsts) -> String {
    let description = Trailer::new(entra, headers).describe(error);
    format!(
        "<p role=\"alert\" id=\"error\">{}</p>",
        Escaped(&description)
    )
}

fn hidden(name: &str, value: &str) -> String {
    format!(
        "<input type=\"hidden\" name=\"{}\" value=\"{}\">",
        Escaped(name),
        Escaped(value)
    )
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>{body}</main>\
         <footer>Postrider sandbox. Type no real password here.</footer></body></html>",
        title = Escaped(title),
    );
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store, no-cache"),
        ),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            HeaderName::from_static("content-security-policy"),
            HeaderValue::from_static(
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
            ),
        ),
    ];
    (status, headers, html).into_response()
}
