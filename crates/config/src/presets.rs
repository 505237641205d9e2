//! What is known about providers: the table, and what a sandbox puts in its place.
//!
//! Sources: the project's fact table of Microsoft 365, sections A4 (limits), A7 (hosts) and
//! B1 (scopes). Where it gives no value there is none here, and the user is asked for it.

use std::path::{Path, PathBuf};

use url::Url;

use crate::account::Account;
use crate::account::TlsMode::{self, Implicit, Starttls};

/// What is known about one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name in the settings.
    pub name: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// Host, port and TLS of its submission server.
    pub server: Option<(&'static str, u16, TlsMode)>,
    /// Whether user names are mail addresses there.
    pub username_is_address: bool,
    /// Where tokens come from.
    pub oauth: OAuth,
    /// Sessions at once.
    pub connections: Option<u16>,
    /// Messages in any minute.
    pub messages_per_minute: Option<u32>,
    /// Recipients in any 24 hours.
    pub recipients_per_day: Option<u32>,
    /// Recipients in one envelope.
    pub recipients_per_message: Option<u32>,
}

/// Where a provider issues tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OAuth {
    /// Nothing is known.
    Unknown,
    /// Entra ID v2: endpoints follow from authority and tenant.
    Microsoft {
        /// The sign-in service.
        authority: &'static str,
        /// The tenant, where there is but one.
        tenant: Option<&'static str>,
        /// For a signed-in user.
        delegated_scope: Option<&'static str>,
        /// For the application itself.
        app_scope: Option<&'static str>,
        /// Microsoft Graph, where there is a directory to administer.
        graph: Option<&'static str>,
    },
    /// Explicit endpoints.
    Endpoints {
        /// Where the browser is sent.
        authorization: &'static str,
        /// Where tokens are issued.
        token: &'static str,
        /// What to ask for.
        scope: &'static str,
    },
}

const GLOBAL: &str = "https://login.microsoftonline.com";
const US_GOVERNMENT: &str = "https://login.microsoftonline.us";
const CHINA: &str = "https://login.partner.microsoftonline.cn";

/// Nothing known; each row says what is.
const CUSTOM: Preset = Preset {
    name: "custom",
    title: "any submission server",
    server: None,
    username_is_address: false,
    oauth: OAuth::Unknown,
    connections: None,
    messages_per_minute: None,
    recipients_per_day: None,
    recipients_per_message: None,
};

/// Exchange Online: A4's limits hold for each mailbox.
const EXCHANGE: Preset = Preset {
    username_is_address: true,
    connections: Some(3),
    messages_per_minute: Some(30),
    recipients_per_day: Some(10_000),
    recipients_per_message: Some(500),
    ..CUSTOM
};

static TABLE: [Preset; 11] = [
    Preset {
        name: "microsoft365",
        title: "Microsoft 365, worldwide and GCC",
        server: Some(("smtp.office365.com", 587, Starttls)),
        oauth: OAuth::Microsoft {
            authority: GLOBAL,
            tenant: None,
            delegated_scope: Some("https://outlook.office.com/SMTP.Send"),
            app_scope: Some("https://outlook.office365.com/.default"),
            graph: Some("https://graph.microsoft.com"),
        },
        ..EXCHANGE
    },
    Preset {
        name: "microsoft365-gcchigh",
        title: "Microsoft 365, US Government GCC High",
        server: Some(("smtp.office365.us", 587, Starttls)),
        oauth: OAuth::Microsoft {
            authority: US_GOVERNMENT,
            tenant: None,
            delegated_scope: Some("https://outlook.office365.us/SMTP.Send"),
            app_scope: None, // not documented
            graph: Some("https://graph.microsoft.us"),
        },
        ..EXCHANGE
    },
    Preset {
        name: "microsoft365-dod",
        title: "Microsoft 365, US Government DoD",
        server: Some(("outlook-dod.office365.us", 587, Starttls)), // one source only
        oauth: OAuth::Microsoft {
            authority: US_GOVERNMENT,
            tenant: None,
            delegated_scope: None, // not documented
            app_scope: None,       // not documented
            graph: Some("https://dod-graph.microsoft.us"),
        },
        ..EXCHANGE
    },
    Preset {
        name: "microsoft365-china",
        title: "Microsoft 365, operated by 21Vianet",
        server: Some(("smtp.partner.outlook.cn", 587, Starttls)),
        oauth: OAuth::Microsoft {
            authority: CHINA,
            tenant: None,
            delegated_scope: Some("https://partner.outlook.cn/SMTP.Send"),
            app_scope: None, // not documented
            graph: Some("https://microsoftgraph.chinacloudapi.cn"),
        },
        ..EXCHANGE
    },
    Preset {
        name: "microsoft365-hve",
        title: "Microsoft 365 High Volume Email, internal recipients",
        server: Some(("smtp-hve.office365.com", 587, Starttls)),
        username_is_address: true,
        oauth: OAuth::Microsoft {
            authority: GLOBAL,
            tenant: None,
            delegated_scope: None, // only an application permission is documented
            // `Mail.Send` of Office 365 Exchange Online: that resource's application scope;
            // unconfirmed for this service
            app_scope: Some("https://outlook.office365.com/.default"),
            graph: Some("https://graph.microsoft.com"),
        },
        // A4's limits are those of mailboxes, which these are not.
        ..CUSTOM
    },
    Preset {
        name: "outlook",
        title: "Outlook.com, personal accounts",
        server: Some(("smtp-mail.outlook.com", 587, Starttls)),
        username_is_address: true,
        oauth: OAuth::Microsoft {
            authority: GLOBAL,
            tenant: Some("consumers"),
            delegated_scope: Some("https://outlook.office.com/SMTP.Send"),
            app_scope: None, // a personal account belongs to no tenant
            graph: None,
        },
        ..CUSTOM
    },
    Preset {
        name: "gmail",
        title: "Gmail and Google Workspace",
        server: Some(("smtp.gmail.com", 465, Implicit)), // 587 with STARTTLS works too
        username_is_address: true,
        oauth: OAuth::Endpoints {
            authorization: "https://accounts.google.com/o/oauth2/auth",
            token: "https://oauth2.googleapis.com/token",
            scope: "https://mail.google.com/",
        },
        ..CUSTOM
    },
    Preset {
        name: "yahoo",
        title: "Yahoo Mail; takes no new OAuth applications",
        server: Some(("smtp.mail.yahoo.com", 465, Implicit)),
        username_is_address: true,
        oauth: OAuth::Endpoints {
            authorization: "https://api.login.yahoo.com/oauth2/request_auth",
            token: "https://api.login.yahoo.com/oauth2/get_token",
            scope: "mail-w",
        },
        ..CUSTOM
    },
    Preset {
        name: "fastmail",
        title: "Fastmail",
        server: Some(("smtp.fastmail.com", 465, Implicit)),
        username_is_address: true,
        oauth: OAuth::Endpoints {
            authorization: "https://api.fastmail.com/oauth/authorize",
            token: "https://api.fastmail.com/oauth/refresh",
            scope: "https://www.fastmail.com/dev/protocol-smtp",
        },
        ..CUSTOM
    },
    Preset {
        name: "azure-communication-services",
        title: "Azure Communication Services Email",
        server: Some(("smtp.azurecomm.net", 587, Starttls)),
        // The user name is `resource|appId|tenantId` or an assigned one, the password the
        // application's secret; XOAUTH2 is not documented there.
        ..CUSTOM
    },
    CUSTOM,
];

/// The names of all presets.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|preset| preset.name)
}

/// The providers an account may be built on, and the sandbox that stands in for some.
#[derive(Debug, Clone, Default)]
pub struct Presets {
    sandbox: Option<SandboxAddress>,
}

/// A running sandbox, as [`Presets::point_microsoft365_at`] needs it.
#[derive(Debug, Clone)]
pub struct SandboxAddress {
    /// Its submission server's host, as its certificate names it.
    pub smtp_host: String,
    /// Its submission server's port; TLS is by `STARTTLS`.
    pub smtp_port: u16,
    /// The base URL of its sign-in service.
    pub authority: Url,
    /// Its certificate authority (PEM).
    pub ca_file: PathBuf,
}

impl Preset {
    /// The sign-in service and Microsoft Graph, where there is a directory to administer.
    pub fn directory(&self) -> Option<(Url, Url)> {
        let OAuth::Microsoft {
            authority,
            graph: Some(graph),
            ..
        } = self.oauth
        else {
            return None;
        };
        Some((authority.parse().ok()?, graph.parse().ok()?))
    }
}

impl Account {
    /// Microsoft Graph of the directory this account signs in to, where its provider is known to
    /// have one. One that names another sign-in service learns it there (`msgraph_host` of the
    /// discovery document).
    pub fn graph(&self) -> Option<Url> {
        let preset = TABLE.iter().find(|preset| preset.name == self.provider)?;
        let OAuth::Microsoft {
            authority, graph, ..
        } = preset.oauth
        else {
            return None;
        };
        let named = self.auth.settings.get("authority")?.as_str()?;
        let same = named.trim_end_matches('/').eq_ignore_ascii_case(authority);
        graph.filter(|_| same)?.parse().ok()
    }
}

impl Presets {
    /// The providers as they are.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// Lets a sandbox stand in for every `microsoft365*` provider: server, trust anchor,
    /// authority.
    ///
    /// An account that names a `host`, `authority` or `ca_file` of its own keeps that. A port or
    /// TLS mode without a host is the real server's and gives way.
    pub fn point_microsoft365_at(&mut self, sandbox: SandboxAddress) {
        self.sandbox = Some(sandbox);
    }

    /// All of them as they are, in the order of the documentation.
    pub fn all() -> &'static [Preset] {
        &TABLE
    }

    /// What the preset of that name stands for.
    pub(crate) fn provider(&self, name: &str) -> Option<Provider<'_>> {
        let preset = TABLE.iter().find(|preset| preset.name == name)?;
        let sandbox = self.sandbox.as_ref();
        Some(Provider {
            preset,
            sandbox: sandbox.filter(|_| name.starts_with("microsoft365")),
        })
    }
}

/// A preset, and the sandbox if one stands in for it.
#[derive(Clone, Copy)]
pub(crate) struct Provider<'p> {
    pub(crate) preset: &'static Preset,
    sandbox: Option<&'p SandboxAddress>,
}

impl<'p> Provider<'p> {
    pub(crate) fn server(&self) -> Option<(&'p str, u16, TlsMode)> {
        match self.sandbox {
            Some(sandbox) => Some((&sandbox.smtp_host, sandbox.smtp_port, Starttls)),
            None => self.preset.server,
        }
    }

    pub(crate) fn is_sandboxed(&self) -> bool {
        self.sandbox.is_some()
    }

    pub(crate) fn ca_file(&self) -> Option<&'p Path> {
        self.sandbox.map(|sandbox| sandbox.ca_file.as_path())
    }

    /// The authority to use in place of `real`.
    pub(crate) fn authority(&self, real: &'static str) -> &'p str {
        match self.sandbox {
            Some(sandbox) => sandbox.authority.as_str().trim_end_matches('/'),
            None => real,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_design() {
        let names: Vec<&str> = names().collect();
        let known = [
            "microsoft365",
            "microsoft365-gcchigh",
            "microsoft365-dod",
            "microsoft365-china",
            "microsoft365-hve",
            "outlook",
            "gmail",
            "yahoo",
            "fastmail",
            "azure-communication-services",
            "custom",
        ];
        assert_eq!(names, known);
    }

    #[test]
    fn an_exchange_scope_belongs_to_no_graph() {
        for preset in Presets::all() {
            if let OAuth::Microsoft {
                delegated_scope,
                app_scope,
                ..
            } = preset.oauth
            {
                for scope in delegated_scope.iter().chain(&app_scope) {
                    assert!(
                        scope.starts_with("https://") && scope.contains("outlook"),
                        "{scope}"
                    );
                }
                assert!(app_scope.is_none_or(|scope| scope.ends_with("/.default")));
            }
        }
    }
}
