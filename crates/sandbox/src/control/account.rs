//! The account page: an administrator's switches, for people, without a script.
//!
//! Each button is a form that carries a merge patch for one thing of the scenario, and a name
//! that only this page knows. Together with the guard's look at where a form comes from, no
//! other site can press one.

use std::fmt::Write as _;

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use serde_json::{Value, json};

use crate::html::Escaped;
use crate::scenario::Scenario;

use super::{Control, Problem, find, list_of, merge_patch};

/// Where the page is, and where its forms go.
pub(super) const PATH: &str = "/account";

const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// One switch: what it is called, the key it sets, and its positions.
struct Switch {
    label: &'static str,
    key: &'static str,
    positions: &'static [(&'static str, &'static str)],
}

const fn switch(
    label: &'static str,
    key: &'static str,
    positions: &'static [(&'static str, &'static str)],
) -> Switch {
    Switch {
        label,
        key,
        positions,
    }
}

const ON_OFF: &[(&str, &str)] = &[("off", "false"), ("on", "true")];
const ALLOWED: &[(&str, &str)] = &[("allowed", "false"), ("blocked", "true")];
const YES_NO: &[(&str, &str)] = &[("yes", "true"), ("no", "false")];

const TENANT: &[Switch] = &[
    switch("Authenticated SMTP", "smtp_auth_disabled", ALLOWED),
    switch(
        "SMTP passwords (Basic)",
        "basic_auth",
        &[
            ("enabled", "\"enabled\""),
            ("disabled", "\"disabled\""),
            ("retired", "\"retired\""),
        ],
    ),
    switch("Security defaults", "security_defaults", ON_OFF),
    switch("Device code flow", "block_device_code", ALLOWED),
    switch("People consent themselves", "user_consent", YES_NO),
    switch("People register apps", "user_app_registration", YES_NO),
    switch("Exchange Online", "exchange_online", YES_NO),
    switch("Aliases in From", "send_from_alias", YES_NO),
    switch("Client secrets", "secrets_forbidden", ALLOWED),
];

const USER: &[Switch] = &[
    switch(
        "Authenticated SMTP",
        "smtp_auth_disabled",
        &[
            ("as the organisation", "null"),
            ("allowed", "false"),
            ("blocked", "true"),
        ],
    ),
    switch(
        "Mailbox",
        "mailbox",
        &[
            ("licensed", "\"licensed\""),
            ("shared", "\"shared\""),
            ("licence gone", "\"unlicensed\""),
            ("none", "\"none\""),
        ],
    ),
    switch(
        "Licence",
        "plans",
        &[
            ("as the mailbox", "null"),
            (
                "foundation only",
                "[{\"name\":\"EXCHANGE_S_FOUNDATION\",\"status\":\"Success\"}]",
            ),
            (
                "pending",
                "[{\"name\":\"EXCHANGE_S_STANDARD\",\"status\":\"PendingProvisioning\"}]",
            ),
            (
                "disabled",
                "[{\"name\":\"EXCHANGE_S_STANDARD\",\"status\":\"Disabled\"}]",
            ),
        ],
    ),
    switch(
        "Account",
        "account",
        &[
            ("enabled", "\"enabled\""),
            ("disabled", "\"disabled\""),
            ("locked", "\"locked\""),
            ("password expired", "\"password_expired\""),
        ],
    ),
    switch("Second step at sign-in", "mfa", ON_OFF),
    switch(
        "Conditional Access",
        "blocked_by_conditional_access",
        ALLOWED,
    ),
    switch(
        "Mailbox full",
        "mailbox_full",
        &[("no", "false"), ("yes", "true")],
    ),
    switch("Global administrator", "admin", YES_NO),
];

const APP: &[Switch] = &[
    switch("Enterprise application", "service_principal", YES_NO),
    switch(
        "Service principal in Exchange",
        "exchange_service_principal",
        YES_NO,
    ),
    switch("Public client flows", "public_client", ON_OFF),
];

/// `GET /account`
pub(super) async fn page(Shared(control): Shared<Control>) -> Response {
    let scenario = control.state.scenario();
    let mut body = String::new();
    let forms = Forms {
        token: &control.form_token,
        scenario: &serde_json::to_value(scenario.as_ref()).unwrap_or_default(),
    };
    body.push_str("<h2>Organisations</h2>");
    for tenant in &scenario.tenants {
        forms.section(
            &mut body,
            "tenant",
            tenant.id.as_str(),
            &tenant.name,
            TENANT,
        );
    }
    body.push_str("<h2>People and mailboxes</h2>");
    for user in &scenario.users {
        forms.section(&mut body, "user", &user.upn, &user.upn, USER);
    }
    forms.permissions(&mut body, &scenario);
    body.push_str("<h2>Apps</h2>");
    for app in &scenario.apps {
        forms.section(&mut body, "app", app.client_id.as_str(), &app.name, APP);
        let consent = json!([{ "by": "everyone", "permissions": app.delegated }]);
        forms.choice(
            &mut body,
            ("app", app.client_id.as_str()),
            "Consent to what it asks for",
            &[
                (
                    "nobody's",
                    json!({ "consent": [], "application_consent": [] }),
                ),
                (
                    "the organisation's",
                    json!({ "consent": consent, "application_consent": app.application }),
                ),
            ],
        );
    }
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Account</title><link rel=\"stylesheet\" href=\"/inbox/style.css\"></head>\
         <body><header><h1>Sandbox account</h1><a href=\"/inbox\">inbox</a> \
         <span class=\"dim\">as TOML: <a href=\"/v1/scenario.toml\">scenario</a></span></header>\
         <main>{body}</main></body></html>"
    );
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_FRAME_OPTIONS, "DENY"),
        // Without one a browser does not say where a form comes from.
        (REFERRER_POLICY, "same-origin"),
    ];
    (headers, Html(html)).into_response()
}

/// `POST /account`: a button was pressed.
pub(super) async fn press(
    Shared(control): Shared<Control>,
    body: Bytes,
) -> Result<Response, Problem> {
    let field = |wanted: &str| {
        url::form_urlencoded::parse(&body)
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    };
    if field("token") != *control.form_token {
        return Err(Problem::bad("the form is not from this sandbox's page"));
    }
    let (list, which) = (field("list"), field("which"));
    control.tell("switched", &format!("{list} {which} {}", field("patch")));
    control.edit(|current| {
        let items = list_of(current, &list)?;
        if field("remove") == "yes" {
            let index = find(items, &which)?;
            items.remove(index);
        } else if which.is_empty() {
            items.push(json!({
                "mailbox": field("mailbox"), "trustee": field("trustee"), "right": field("right"),
            }));
        } else {
            let patch = serde_json::from_str(&field("patch"))
                .map_err(|error| Problem::bad(error.to_string()))?;
            let index = find(items, &which)?;
            merge_patch(&mut items[index], patch);
        }
        Ok(())
    })?;
    Ok(Redirect::to(PATH).into_response())
}

/// The page's forms, with the scenario they are about.
struct Forms<'a> {
    token: &'a str,
    scenario: &'a Value,
}

impl Forms<'_> {
    fn section(
        &self,
        body: &mut String,
        list: &str,
        which: &str,
        title: &str,
        switches: &[Switch],
    ) {
        let _ = write!(
            body,
            "<h3>{} <span class=\"dim\">{}</span></h3>",
            Escaped(title),
            Escaped(if title == which { "" } else { which })
        );
        for switch in switches {
            let positions: Vec<(&str, Value)> = switch
                .positions
                .iter()
                .map(|(name, value)| {
                    let value: Value = serde_json::from_str(value).unwrap_or_default();
                    (*name, json!({ switch.key: value }))
                })
                .collect();
            self.choice(body, (list, which), switch.label, &positions);
        }
    }

    /// One switch: a button for each position, the one it is in pressed.
    fn choice(
        &self,
        body: &mut String,
        (list, which): (&str, &str),
        label: &str,
        positions: &[(&str, Value)],
    ) {
        let item = self.item(list, which);
        let holds = |patch: &Value| {
            patch
                .as_object()
                .is_some_and(|p| p.iter().all(|(key, value)| item[key.as_str()] == *value))
        };
        self.open(body, list, which);
        let _ = write!(body, "<span>{}</span> ", Escaped(label));
        for (name, patch) in positions {
            let _ = write!(
                body,
                "<button name=\"patch\" value=\"{}\" aria-pressed=\"{}\">{}</button> ",
                Escaped(&patch.to_string()),
                holds(patch),
                Escaped(name)
            );
        }
        body.push_str("</form>");
    }

    fn permissions(&self, body: &mut String, scenario: &Scenario) {
        body.push_str("<h2>Rights over mailboxes</h2>");
        for (at, permission) in scenario.permissions.iter().enumerate() {
            self.open(body, "permission", &at.to_string());
            let right = serde_json::to_value(permission.right).unwrap_or_default();
            let _ = write!(
                body,
                "<span>{} has {} for {}</span> <button name=\"remove\" value=\"yes\">remove</button></form>",
                Escaped(&permission.trustee),
                Escaped(right.as_str().unwrap_or_default()),
                Escaped(&permission.mailbox)
            );
        }
        let users = scenario.users.iter().map(|user| user.upn.as_str());
        let apps = scenario.apps.iter().map(|app| app.client_id.as_str());
        self.open(body, "permission", "");
        select(body, "trustee", users.clone().chain(apps));
        select(
            body,
            "right",
            ["send_as", "send_on_behalf", "full_access"].into_iter(),
        );
        select(body, "mailbox", users);
        body.push_str("<button>add</button></form>");
    }

    fn open(&self, body: &mut String, list: &str, which: &str) {
        let _ = write!(
            body,
            "<form method=\"post\" action=\"{PATH}\">\
             <input type=\"hidden\" name=\"token\" value=\"{}\">\
             <input type=\"hidden\" name=\"list\" value=\"{list}\">\
             <input type=\"hidden\" name=\"which\" value=\"{}\">",
            Escaped(self.token),
            Escaped(which)
        );
    }

    fn item(&self, list: &str, which: &str) -> &Value {
        self.scenario[list]
            .as_array()
            .and_then(|items| find(items, which).ok().map(|index| &items[index]))
            .unwrap_or(&Value::Null)
    }
}

fn select<'a>(body: &mut String, name: &str, options: impl Iterator<Item = &'a str>) {
    let _ = write!(body, "<select name=\"{name}\" aria-label=\"{name}\">");
    for option in options {
        let _ = write!(body, "<option>{}</option>", Escaped(option));
    }
    body.push_str("</select> ");
}
