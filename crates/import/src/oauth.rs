//! An OAuth client, as the keys of `[account.NAME.auth]`.
//!
//! What a provider's preset knows is left to it, so that an account written here is the same as
//! one that was set up: then Postrider asks for the scope of sending alone, whatever else the
//! old mailer asked for.

use crate::account::ImportedAccount;
use crate::hosts::{Service, SignIn};
use crate::left::{NotCarried, Place, shown};

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    AuthorizationCode,
    DeviceCode,
    ClientCredentials,
}

/// An OAuth client of another mailer.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    pub(crate) flow: Flow,
    pub(crate) token_url: &'a str,
    /// Where a browser is sent, or a device gets its code.
    pub(crate) permission_url: Option<&'a str>,
    pub(crate) redirect_uri: Option<&'a str>,
    pub(crate) scopes: &'a str,
    pub(crate) id: &'a str,
}

impl Flow {
    fn word(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::DeviceCode => "device_code",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

impl Client<'_> {
    /// Writes the client into `account`. `service` is its provider, if that is known.
    pub(crate) fn write(
        &self,
        account: &mut ImportedAccount,
        service: Option<&'static Service>,
        place: &Place,
        left: &mut Vec<NotCarried>,
    ) {
        account.set_auth("plugin", "oauth");
        account.set_auth("flow", self.flow.word());
        let url = Url::parse(self.token_url);
        let host = url.as_ref().map_or("", |url| url.host);
        let known = service.map(|service| (service, service.sign_in));
        match (known, url.as_ref().and_then(Url::tenant)) {
            (Some((service, SignIn::Microsoft { .. })), Some(tenant)) => {
                if service.provider != "outlook" {
                    account.set_auth("tenant", tenant);
                }
                if !service.signs_in_at(host) {
                    account.set_auth("authority", format!("https://{host}"));
                }
                account.set_auth("client_id", self.id);
                self.microsoft_scopes(account, service, place, left);
                if tenant.eq_ignore_ascii_case("common") && self.flow == Flow::ClientCredentials {
                    left.push(
                        NotCarried::new(
                            place.clone(),
                            "the tenant \"common\"",
                            "the application's own sign-in needs one tenant",
                        )
                        .instead(format!(
                            "set account.{}.auth.tenant to the tenant's id or domain",
                            account.name
                        )),
                    );
                }
            }
            (Some((service, SignIn::Endpoints { scope, .. })), _) if service.signs_in_at(host) => {
                account.set_auth("client_id", self.id);
                let mut asked = self.scopes.split_ascii_whitespace();
                if asked.clone().next().is_some() && !asked.any(|one| one == scope) {
                    self.lacks(scope, account, place, left);
                }
            }
            _ => self.endpoints(account, service, place, left),
        }
        self.redirect(account, place, left);
    }

    /// A provider without a preset, or another sign-in service than the preset's.
    fn endpoints(
        &self,
        account: &mut ImportedAccount,
        service: Option<&'static Service>,
        place: &Place,
        left: &mut Vec<NotCarried>,
    ) {
        // A preset would add its own endpoints, and Microsoft's takes no others.
        if let Some(service) = service
            && service.is_microsoft()
        {
            account.settings.shift_remove("provider");
            if !account.settings.contains_key("server") {
                let (host, port) = service.address();
                account.set(
                    "server",
                    serde_json::json!({ "host": host, "port": port, "tls": "starttls" }),
                );
            }
        }
        account.set_auth("token_endpoint", self.token_url);
        let key = match self.flow {
            Flow::AuthorizationCode => Some("authorization_endpoint"),
            Flow::DeviceCode => Some("device_authorization_endpoint"),
            Flow::ClientCredentials => None,
        };
        if let Some(key) = key {
            if let Some(url) = self.permission_url {
                account.set_auth(key, url);
            } else {
                let end = if self.flow == Flow::DeviceCode {
                    "/devicecode"
                } else {
                    "/authorize"
                };
                let base = self.token_url.strip_suffix("/token");
                let guess = format!("{}{end}", base.unwrap_or(self.token_url));
                left.push(
                    NotCarried::new(
                        place.clone(),
                        "where people sign in",
                        format!(
                            "the file does not say it; {} is a guess, and only `postrider login` \
                             needs it",
                            shown(&guess)
                        ),
                    )
                    .instead(format!("set account.{}.auth.{key}", account.name)),
                );
                account.set_auth(key, guess);
            }
        }
        account.set_auth("client_id", self.id);
        let scopes: Vec<&str> = self.scopes.split_ascii_whitespace().collect();
        if !scopes.is_empty() {
            account.set_auth("scopes", scopes);
        }
    }

    fn microsoft_scopes(
        &self,
        account: &mut ImportedAccount,
        service: &Service,
        place: &Place,
        left: &mut Vec<NotCarried>,
    ) {
        let SignIn::Microsoft {
            for_person,
            for_application,
            ..
        } = service.sign_in
        else {
            return;
        };
        let (known, wanted) = match self.flow {
            Flow::ClientCredentials => (for_application, "/.default"),
            _ => (for_person, "/SMTP.Send"),
        };
        let wanted_lower = wanted.to_ascii_lowercase();
        let asked: Vec<&str> = self.scopes.split_ascii_whitespace().collect();
        let ours = asked
            .iter()
            .find(|scope| scope.to_ascii_lowercase().ends_with(&wanted_lower));
        match ours {
            Some(scope) if !known => {
                let mut scopes = vec![*scope];
                if self.flow != Flow::ClientCredentials {
                    scopes.push("offline_access");
                }
                account.set_auth("scopes", scopes);
            }
            Some(_) => {}
            // The file names none where its mailer only refreshes.
            None if asked.is_empty() => {}
            None => self.lacks(wanted.trim_start_matches('/'), account, place, left),
        }
    }

    /// The sign-in was made for something else than sending.
    fn lacks(
        &self,
        scope: &str,
        account: &ImportedAccount,
        place: &Place,
        left: &mut Vec<NotCarried>,
    ) {
        left.push(
            NotCarried::new(
                place.clone(),
                "the scopes",
                format!("{scope}, which sending needs, is not among them"),
            )
            .instead(match self.flow {
                Flow::ClientCredentials => "postrider doctor says what is missing".to_owned(),
                _ => format!(
                    "let the application have the permission, then: postrider login {}",
                    account.name
                ),
            }),
        );
    }

    fn redirect(&self, account: &mut ImportedAccount, place: &Place, left: &mut Vec<NotCarried>) {
        let Some(uri) = self
            .redirect_uri
            .filter(|_| self.flow == Flow::AuthorizationCode)
        else {
            return;
        };
        let uri = uri.trim_end_matches('/');
        let rest = uri.strip_prefix("http://localhost");
        match rest {
            Some("") => {}
            Some(rest) if rest.starts_with([':', '/']) => account.set_auth("redirect_uri", uri),
            _ if uri.starts_with("https://") => account.set_auth("redirect_uri", uri),
            _ => left.push(
                NotCarried::new(
                    place.clone(),
                    "redirect_uri",
                    "the browser returns to http://localhost, or to an https address",
                )
                .instead("register http://localhost for the application"),
            ),
        }
    }
}

/// The parts of a URL that tell providers apart.
struct Url<'a> {
    host: &'a str,
    path: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("https://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        Some(Self { host, path })
    }

    /// The tenant in a path of Entra ID: `TENANT/oauth2/v2.0/token`, or the older form.
    fn tenant(&self) -> Option<&'a str> {
        let (tenant, rest) = self.path.split_once('/')?;
        let rest = rest.trim_end_matches('/');
        (matches!(rest, "oauth2/v2.0/token" | "oauth2/token") && !tenant.is_empty())
            .then_some(tenant)
    }
}

/// The host of an https URL.
pub(crate) fn host(url: &str) -> Option<&str> {
    Url::parse(url).map(|url| url.host)
}
