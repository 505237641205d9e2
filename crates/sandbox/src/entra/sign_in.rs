//! A person signing in: who they are, their second step, their consent.
//!
//! A sign-in belongs to the browser it began in: every form carries its unguessable name,
//! and the browser's cookie must fit. Whatever a form says, the same gates are passed in
//! the same order, so no step can be skipped.

mod course;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use jiff::SignedDuration;

use super::aadsts::Aadsts;
use super::form::Form;
use super::redirect::Redirect;
use super::store::{Prompt, Purpose, SignIn};
use super::{Entra, pages};
use course::{Course, Gate};

/// How long a person may take.
const PATIENCE: SignedDuration = SignedDuration::from_mins(30);

/// Begins a sign-in and shows its first page, or goes straight through it when the browser
/// is signed in already.
pub(crate) fn begin(entra: &Entra, headers: &HeaderMap, purpose: Purpose) -> Response {
    let browser = browser(headers).unwrap_or_else(|| entra.state.handle());
    let scenario = entra.state.scenario();
    let now = entra.state.now();
    let mut sign_in = SignIn {
        purpose,
        browser: browser.clone(),
        user: None,
        mfa: false,
        expires: now.saturating_add(PATIENCE).unwrap_or(now),
    };
    let Ok(course) = Course::new(entra, &scenario, &sign_in) else {
        return pages::error(
            entra,
            headers,
            &Aadsts::malformed("the request's app or device is gone"),
        );
    };
    let signed_in = entra
        .store()
        .sessions
        .get(&browser)
        .cloned()
        .unwrap_or_default();
    let known: Vec<_> = signed_in
        .into_iter()
        .filter(|s| course.could_be(&s.user))
        .collect();
    let (prompt, hint) = match &sign_in.purpose {
        Purpose::Authorize(request) | Purpose::AdminConsent(request) => {
            (request.prompt, request.login_hint.clone())
        }
        Purpose::Device { .. } => (Prompt::SelectAccount, None),
    };
    let choose = match (prompt, known.as_slice()) {
        (Prompt::Needed | Prompt::Consent | Prompt::None, [only]) => {
            sign_in.user = Some(only.user.clone());
            sign_in.mfa = only.mfa;
            false
        }
        (Prompt::Login, _) | (_, []) => false,
        _ => true,
    };

    let ctx = entra.state.handle();
    entra.store().sign_ins.insert(ctx.clone(), sign_in.clone());
    let response = if prompt == Prompt::None {
        silent(entra, headers, &ctx, &course, &sign_in)
    } else if choose {
        let users: Vec<_> = known
            .iter()
            .filter_map(|s| scenario.user_by_id(s.user.as_str()))
            .collect();
        pages::choose_account(&ctx, &course.app.name, &users)
    } else {
        step(
            entra,
            headers,
            &ctx,
            &course,
            &sign_in,
            hint.as_deref(),
            None,
        )
    };
    pages::with_browser(response, &browser)
}

/// `POST /sign-in`: the next step of a sign-in.
pub(crate) async fn next(
    Shared(entra): Shared<Entra>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = match Form::from_body(&headers, &body) {
        Ok(form) => form,
        Err(error) => return pages::error(&entra, &headers, &error),
    };
    let ctx = form.get("ctx").unwrap_or_default();
    let sign_in = entra.store().sign_ins.get(ctx).cloned();
    let Some(mut sign_in) = sign_in.filter(|s| browser(&headers).as_deref() == Some(&s.browser))
    else {
        return pages::error(
            &entra,
            &headers,
            &Aadsts::malformed("no such sign-in in this browser, or it took too long"),
        );
    };
    let scenario = entra.state.scenario();
    let Ok(course) = Course::new(&entra, &scenario, &sign_in) else {
        return pages::error(
            &entra,
            &headers,
            &Aadsts::malformed("the sign-in's app or device is gone"),
        );
    };

    let mut problem = None;
    if let Some(login) = form.get("login") {
        (sign_in.user, sign_in.mfa) = (None, false);
        match course.authenticate(login, form.get("passwd").unwrap_or_default()) {
            Ok(user) => sign_in.user = Some(user.object_id.clone()),
            Err(error) => {
                entra.log_refusal("sign-in", login, &error);
                problem = Some(error);
            }
        }
    } else if let Some(account) = form.get("account") {
        let signed_in = entra
            .store()
            .sessions
            .get(&sign_in.browser)
            .cloned()
            .unwrap_or_default();
        let user = scenario
            .user(account)
            .filter(|u| course.could_be(&u.object_id));
        let picked = user.and_then(|u| signed_in.into_iter().find(|s| s.user == u.object_id));
        sign_in.mfa = picked.as_ref().is_some_and(|p| p.mfa);
        sign_in.user = picked.map(|p| p.user);
    } else if form.has("account") {
        (sign_in.user, sign_in.mfa) = (None, false);
    } else if form.get("mfa") == Some("approve") && sign_in.user.is_some() {
        sign_in.mfa = true;
    }

    if let Some(slot) = entra.store().sign_ins.get_mut(ctx) {
        *slot = sign_in.clone();
    }
    match (course.gate(&sign_in), form.get("decision")) {
        (Gate::Decision(user, _), Some("accept")) => course.accept(
            &entra,
            &headers,
            ctx,
            &sign_in,
            user,
            form.get("everyone").is_some(),
        ),
        (Gate::Decision(..), Some("cancel")) => course.decline(&entra, &headers, ctx),
        _ => step(
            &entra,
            &headers,
            ctx,
            &course,
            &sign_in,
            form.get("login"),
            problem.as_ref(),
        ),
    }
}

/// The end of a sign-in whose person is known and agrees to whatever is asked.
pub(super) fn agreed(
    entra: &Entra,
    headers: &HeaderMap,
    sign_in: &SignIn,
) -> Result<Response, Aadsts> {
    let scenario = entra.state.scenario();
    let course = Course::new(entra, &scenario, sign_in)?;
    let ctx = entra.state.handle();
    entra.store().sign_ins.insert(ctx.clone(), sign_in.clone());
    Ok(match course.gate(sign_in) {
        Gate::Passed(user) => course.finish(entra, headers, &ctx, sign_in, user),
        Gate::Decision(user, _) => course.accept(entra, headers, &ctx, sign_in, user, false),
        Gate::Refused(error) | Gate::Returned(error) => return Err(error),
        Gate::Login | Gate::SecondStep(_) => return Err(Aadsts::new(50_058, &[])),
    })
}

/// `GET /{tenant}/oauth2/v2.0/logout`
pub(crate) async fn logout(
    Shared(entra): Shared<Entra>,
    Path(_tenant): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if let Some(browser) = browser(&headers) {
        entra.store().sessions.remove(&browser);
    }
    let scenario = entra.state.scenario();
    let back = Form::from_query(query.as_deref()).ok().and_then(|form| {
        let wanted = form.get("post_logout_redirect_uri")?;
        scenario
            .apps
            .iter()
            .find_map(|app| Redirect::find(app, wanted))
    });
    match back {
        Some(redirect) => pages::see(redirect.url.as_str()),
        None => pages::notice("Signed out", "You signed out of this browser."),
    }
}

/// The page the sign-in is at, or its end.
fn step(
    entra: &Entra,
    headers: &HeaderMap,
    ctx: &str,
    course: &Course<'_>,
    sign_in: &SignIn,
    login: Option<&str>,
    problem: Option<&Aadsts>,
) -> Response {
    match course.gate(sign_in) {
        Gate::Login => pages::sign_in(
            entra,
            headers,
            ctx,
            &course.app.name,
            login,
            problem,
            course.scenario,
            &course.path,
        ),
        Gate::Refused(error) => {
            entra.log_refusal("sign-in", course.app.client_id.as_str(), &error);
            pages::sign_in(
                entra,
                headers,
                ctx,
                &course.app.name,
                login,
                Some(&error),
                course.scenario,
                &course.path,
            )
        }
        Gate::SecondStep(user) => pages::second_step(ctx, user),
        Gate::Returned(error) => course.give_up(entra, headers, ctx, &error),
        Gate::Decision(user, permissions) => {
            pages::decide(ctx, &course.decision(user, permissions))
        }
        Gate::Passed(user) => course.finish(entra, headers, ctx, sign_in, user),
    }
}

/// `prompt=none`: no page may be shown.
fn silent(
    entra: &Entra,
    headers: &HeaderMap,
    ctx: &str,
    course: &Course<'_>,
    sign_in: &SignIn,
) -> Response {
    let error = match course.gate(sign_in) {
        Gate::Passed(user) => return course.finish(entra, headers, ctx, sign_in, user),
        Gate::Login => Aadsts::new(50_058, &[]),
        Gate::SecondStep(_) => {
            Aadsts::new(50_076, &[course.app.client_id.as_str()]).under("interaction_required")
        }
        Gate::Decision(..) => {
            Aadsts::new(65_001, &[course.app.client_id.as_str(), &course.app.name])
                .under("consent_required")
        }
        Gate::Refused(error) | Gate::Returned(error) => error,
    };
    course.give_up(entra, headers, ctx, &error)
}

/// The browser's own name, from its cookie.
fn browser(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == pages::BROWSER_COOKIE && value.len() == 43)
        .map(|(_, value)| value.to_owned())
}
