//! Whether a scenario makes sense, and the parts of it that may be left out.

use std::collections::BTreeSet;

use axum::http::HeaderValue;

use super::suggest::suggestion;
use super::{
    App, EVERYONE, Effect, FaultPoint, GRAPH_COMMAND_LINE_TOOLS, Guid, Right, Scenario,
    ScenarioError, TenantKind,
};

impl Scenario {
    /// Fills in what may be left out, then checks.
    pub(crate) fn completed(mut self) -> Result<Self, ScenarioError> {
        for user in &mut self.users {
            if user.object_id.is_empty() {
                user.object_id = Guid::derived(&format!("user {}", user.upn));
            }
            if user.name.is_empty() {
                user.name.clone_from(&user.upn);
            }
        }
        self.install_command_line_tools();
        for app in &mut self.apps {
            if app.registration_id.is_empty() {
                app.registration_id = Guid::derived(&format!("application {}", app.client_id));
            }
            for secret in &mut app.secrets {
                if secret.key_id.is_empty() {
                    let name = format!("secret {} {}", app.client_id, secret.value.reveal());
                    secret.key_id = Guid::derived(&name);
                }
            }
            if app.object_id.is_empty() {
                app.object_id = Guid::derived(&format!("service principal {}", app.client_id));
            }
        }
        for tenant in &mut self.tenants {
            if tenant.name.is_empty() {
                tenant.name = tenant.domains.first().cloned().unwrap_or_default();
            }
        }
        self.check()?;
        Ok(self)
    }

    /// Every tenant has it: the first one stands for its home.
    fn install_command_line_tools(&mut self) {
        let home = self
            .tenants
            .iter()
            .find(|t| t.kind == TenantKind::Organization);
        let (Some(home), Some(client_id)) = (home, Guid::parse(GRAPH_COMMAND_LINE_TOOLS)) else {
            return;
        };
        if self.app(client_id.as_str()).is_none() {
            let tools = App::new(
                client_id,
                "Microsoft Graph Command Line Tools",
                home.id.as_str(),
            );
            self.apps.push(App {
                multi_tenant: true,
                public_client: true,
                public_redirect_uris: vec!["http://localhost".to_owned()],
                ..tools
            });
        }
    }

    /// Finds everything that contradicts itself.
    ///
    /// # Errors
    /// All problems at once.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let mut problems = Vec::new();
        self.check_tenants(&mut problems);
        self.check_users(&mut problems);
        self.check_apps(&mut problems);
        self.check_permissions(&mut problems);
        self.check_numbers(&mut problems);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ScenarioError { problems })
        }
    }

    fn check_tenants(&self, problems: &mut Vec<String>) {
        let mut seen = BTreeSet::new();
        if self.tenants.is_empty() {
            problems.push("there is no tenant".to_owned());
        }
        for tenant in &self.tenants {
            if tenant.domains.is_empty() {
                problems.push(format!("tenant {} has no domain", tenant.id));
            }
            for name in tenant
                .domains
                .iter()
                .map(String::as_str)
                .chain([tenant.id.as_str()])
            {
                if name.is_empty()
                    || !name
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
                {
                    problems.push(format!("tenant {}: `{name}` is no domain", tenant.id));
                }
                if !seen.insert(name.to_ascii_lowercase()) {
                    problems.push(format!("tenant {}: `{name}` is named twice", tenant.id));
                }
            }
        }
    }

    fn check_users(&self, problems: &mut Vec<String>) {
        let mut addresses = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for user in &self.users {
            if !ids.insert(&user.object_id) {
                problems.push(format!("user {}: another user has its object_id", user.upn));
            }
            for address in std::iter::once(&user.upn).chain(&user.aliases) {
                if !is_address(address) {
                    problems.push(format!("user {}: `{address}` is no address", user.upn));
                } else if self.tenant_of(address).is_none() {
                    let domain = address.rsplit('@').next().unwrap_or_default();
                    problems.push(format!(
                        "user {}: no tenant has the domain of `{address}`{}",
                        user.upn,
                        suggestion(domain, self.domains())
                    ));
                }
                if !addresses.insert(address.to_ascii_lowercase()) {
                    problems.push(format!("user {}: `{address}` is taken", user.upn));
                }
            }
        }
    }

    fn check_apps(&self, problems: &mut Vec<String>) {
        let mut ids = BTreeSet::new();
        for app in &self.apps {
            let mut problem =
                |text: String| problems.push(format!("app {}: {text}", app.client_id));
            if !ids.insert(&app.client_id) {
                problem("is there twice".to_owned());
            }
            if self.tenant(&app.tenant).is_none() {
                let near = suggestion(&app.tenant, self.domains());
                problem(format!("there is no tenant `{}`{near}", app.tenant));
            }
            let redirects = app.redirect_uris.iter();
            for uri in redirects
                .chain(&app.public_redirect_uris)
                .chain(&app.spa_redirect_uris)
            {
                if let Some(why) = redirect_problem(uri) {
                    problem(format!("redirect URI `{uri}` {why}"));
                }
            }
            for certificate in &app.certificates {
                if let Err(why) =
                    crate::jwt::VerifyingKey::from_pem(&certificate.pem).and_then(|key| {
                        key.thumbprint()
                            .map(|_| ())
                            .ok_or_else(|| "it is a bare key".to_owned())
                    })
                {
                    problem(format!("a certificate is not usable: {why}"));
                }
            }
            for federated in &app.federated {
                for pem in &federated.keys {
                    if let Err(why) = crate::jwt::VerifyingKey::from_pem(pem) {
                        problem(format!(
                            "a key of issuer `{}` is not usable: {why}",
                            federated.issuer
                        ));
                    }
                }
            }
            for who in app
                .consent
                .iter()
                .map(|c| &c.by)
                .chain(app.assigned_users.iter().flatten())
            {
                if who != EVERYONE && self.user(who).is_none() {
                    let near = suggestion(who, self.upns());
                    problem(format!("there is no user `{who}`{near}"));
                }
            }
        }
    }

    fn check_permissions(&self, problems: &mut Vec<String>) {
        for permission in &self.permissions {
            if self.user(&permission.mailbox).is_none() {
                problems.push(format!(
                    "permission: there is no mailbox `{}`{}",
                    permission.mailbox,
                    suggestion(&permission.mailbox, self.upns())
                ));
            }
            let app = self.app(&permission.trustee);
            if self.user(&permission.trustee).is_none() && app.is_none() {
                let apps = self.apps.iter().map(|app| app.client_id.as_str());
                problems.push(format!(
                    "permission: `{}` is neither a user nor an app{}",
                    permission.trustee,
                    suggestion(&permission.trustee, self.upns().chain(apps))
                ));
            }
            if app.is_some() && permission.right != Right::FullAccess {
                problems.push(format!(
                    "permission: app {} can only have full_access",
                    permission.trustee
                ));
            }
        }
    }

    fn upns(&self) -> impl Iterator<Item = &str> {
        self.users.iter().map(|user| user.upn.as_str())
    }

    fn domains(&self) -> impl Iterator<Item = &str> {
        self.tenants
            .iter()
            .flat_map(|tenant| tenant.domains.iter().map(String::as_str))
    }

    fn check_numbers(&self, problems: &mut Vec<String>) {
        let tokens = &self.tokens;
        if tokens.access_min > tokens.access_max {
            problems.push("tokens: access_min is above access_max".to_owned());
        }
        if tokens.refresh_in_percent.is_some_and(|p| p == 0 || p > 100) {
            problems.push("tokens: refresh_in_percent is not between 1 and 100".to_owned());
        }
        for fault in &self.faults {
            if fault.only_for.is_some() && !fault.at.knows_subject() {
                problems.push(format!(
                    "fault: nobody is known at {:?} for whom alone it could happen",
                    fault.at
                ));
            }
            if fault.lasts.is_some() && fault.until.is_some() {
                problems.push("fault: lasts and until exclude each other".to_owned());
            }
            let fits = match &fault.effect {
                Effect::Delay(_) | Effect::Close | Effect::Hang => true,
                Effect::Aadsts(_) => fault.at.is_http() && fault.at != FaultPoint::Graph,
                Effect::Http(answer) => {
                    if !(200..=599).contains(&answer.status) {
                        problems.push(format!("fault: {} is no HTTP status", answer.status));
                    }
                    if HeaderValue::from_str(&answer.content_type).is_err() {
                        problems.push("fault: its content_type is no header's value".to_owned());
                    }
                    fault.at.is_http()
                }
                Effect::Reply(text) => {
                    let code = text.get(..3).and_then(|c| c.parse::<u16>().ok());
                    let line =
                        text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.len() <= 500;
                    if !line
                        || !code.is_some_and(|c| (200..600).contains(&c))
                        || text.as_bytes().get(3) != Some(&b' ')
                    {
                        problems.push(format!("fault: `{}` is no SMTP reply", text.escape_debug()));
                    }
                    !fault.at.is_http()
                }
                Effect::HideStarttls => fault.at == FaultPoint::SmtpEhlo,
                Effect::InjectPlaintext(_) => fault.at == FaultPoint::SmtpStarttls,
                Effect::LoseReply => {
                    matches!(
                        fault.at,
                        FaultPoint::SmtpMessage | FaultPoint::Token | FaultPoint::Graph
                    )
                }
            };
            if !fits {
                problems.push(format!(
                    "fault: {:?} cannot happen at {:?}",
                    fault.effect, fault.at
                ));
            }
        }
    }
}

/// One `@`, something on both sides, nothing that could break a line or a header.
fn is_address(text: &str) -> bool {
    let plain = |s: &str| {
        !s.is_empty()
            && s.chars()
                .all(|c| !c.is_whitespace() && !c.is_control() && !"<>\"()[],;:\\@".contains(c))
    };
    text.len() <= 254
        && text
            .split_once('@')
            .is_some_and(|(local, domain)| plain(local) && plain(domain))
}

/// What Entra would not let be registered.
fn redirect_problem(uri: &str) -> Option<&'static str> {
    let Ok(url) = url::Url::parse(uri) else {
        return Some("is no URI");
    };
    match (url.scheme(), url.host_str()) {
        ("javascript" | "data" | "file" | "vbscript" | "blob" | "about", _) => {
            Some("cannot be redirected to")
        }
        ("http", Some("localhost" | "127.0.0.1")) => None,
        ("http", Some("[::1]")) => Some("names [::1], which Entra does not support"),
        ("http", _) => Some("is http, which only localhost may be"),
        _ if url.fragment().is_some() => Some("has a fragment"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{DEFAULT_TOML, Mailbox};

    fn broken(toml: &str) -> String {
        Scenario::from_toml(&format!("{DEFAULT_TOML}\n{toml}"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_default_scenario_holds_what_it_promises() {
        let scenario = Scenario::default();
        let tenant = scenario.tenant("contoso.onmicrosoft.com").unwrap();
        assert!(tenant.has_domain("contoso.com"));
        for upn in [
            "svc-mail@contoso.com",
            "admin@contoso.com",
            "ceo@contoso.com",
        ] {
            assert_eq!(
                scenario.user(upn).unwrap().mailbox,
                Mailbox::Licensed,
                "{upn}"
            );
        }
        assert!(scenario.allows("alerts@contoso.com", "svc-mail@contoso.com", Right::SendAs));
        assert!(!scenario.allows("ceo@contoso.com", "svc-mail@contoso.com", Right::SendAs));
        assert!(
            scenario
                .apps
                .iter()
                .any(|a| a.public_client && a.redirect_uris == ["http://localhost"])
        );
        let daemon = scenario
            .apps
            .iter()
            .find(|a| !a.secrets.is_empty())
            .unwrap();
        assert!(scenario.allows(
            "svc-mail@contoso.com",
            daemon.client_id.as_str(),
            Right::FullAccess
        ));
    }

    #[test]
    fn a_scenario_survives_json_and_toml() {
        let scenario = Scenario::default();
        let json = serde_json::to_value(&scenario).unwrap();
        assert_eq!(Scenario::from_json(json).unwrap(), scenario);
        let toml = toml::to_string(&scenario).unwrap();
        assert_eq!(Scenario::from_toml(&toml).unwrap(), scenario);
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let error = broken(
            "[[user]]\nupn = \"x@fabrikam.example\"\n\
             [[permission]]\nmailbox = \"nobody@contoso.com\"\ntrustee = \"svc-mail@contoso.com\"\nright = \"send_as\"",
        );
        assert!(
            error.contains("no tenant has the domain of `x@fabrikam.example`"),
            "{error}"
        );
        assert!(
            error.contains("there is no mailbox `nobody@contoso.com`"),
            "{error}"
        );
    }

    #[test]
    fn slips_are_named() {
        let cases = [
            ("[[user]]\nupn = \"admin@contoso.com\"", "is taken"),
            ("[[user]]\nupn = \"a b@contoso.com\"", "is no address"),
            (
                "[[user]]\nupn = \"x@contoso.com\"\npasswort = \"x\"",
                "unknown field `passwort`, expected one of",
            ),
            (
                "[[user]]\nupn = \"x@contoso.com\"\npasswort = \"x\"",
                "did you mean `password`?",
            ),
            (
                "[[permission]]\nmailbox = \"svc-mial@contoso.com\"\ntrustee = \"admin@contoso.com\"\nright = \"send_as\"",
                "there is no mailbox `svc-mial@contoso.com`; did you mean `svc-mail@contoso.com`?",
            ),
            (
                "[[fault]]\nat = \"token\"\neffect = { reply = \"451 4.7.0 x\" }",
                "cannot happen at Token",
            ),
            (
                "[[fault]]\nat = \"smtp_auth\"\neffect = { reply = \"451 a\\r\\n250 b\" }",
                "is no SMTP reply",
            ),
            (
                "[[fault]]\nat = \"smtp_connect\"\nonly_for = \"admin@contoso.com\"\neffect = \"close\"",
                "nobody is known at SmtpConnect",
            ),
            (
                "[[app]]\nclient_id = \"nope\"\nname = \"n\"\ntenant = \"contoso.com\"",
                "`nope` is no GUID",
            ),
            (
                "[[app]]\nclient_id = \"11111111-1111-4111-8111-111111111111\"\nname = \"n\"\ntenant = \"contoso.com\"\nredirect_uris = [\"http://app.example\"]",
                "which only localhost may be",
            ),
            (
                "[[app]]\nclient_id = \"11111111-1111-4111-8111-111111111111\"\nname = \"n\"\ntenant = \"contoso.com\"\ncertificates = [\"junk\"]",
                "a certificate is not usable",
            ),
        ];
        for (toml, expected) in cases {
            let error = broken(toml);
            assert!(error.contains(expected), "{error}");
        }
    }
}
