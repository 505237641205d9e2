//! Submission servers that Postrider knows by a provider's name.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::account::ImportedAccount;
use crate::left::{NotCarried, Place, shown};

/// How a connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    /// By STARTTLS.
    Start,
    Implicit,
    /// Not at all, or only where the server offers it.
    Clear,
}

/// A submission server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Tls,
}

/// A provider's server. The names are those of the configuration's presets.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) provider: &'static str,
    hosts: &'static [&'static str],
    port: u16,
    tls: Tls,
    pub(crate) sign_in: SignIn,
}

/// How a provider's OAuth is known to Postrider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignIn {
    /// Entra ID: its host, and whether the scope for a person and for the application is known.
    Microsoft {
        host: &'static str,
        for_person: bool,
        for_application: bool,
    },
    /// Endpoints with these hosts, and this scope.
    Endpoints {
        hosts: &'static [&'static str],
        scope: &'static str,
    },
    /// None.
    None,
}

const fn microsoft(host: &'static str, for_person: bool, for_application: bool) -> SignIn {
    SignIn::Microsoft {
        host,
        for_person,
        for_application,
    }
}

static SERVICES: [Service; 10] = [
    Service {
        provider: "microsoft365",
        hosts: &[
            "smtp.office365.com",
            "outlook.office365.com",
            "smtp-legacy.office365.com",
        ],
        port: 587,
        tls: Tls::Start,
        sign_in: microsoft("login.microsoftonline.com", true, true),
    },
    Service {
        provider: "microsoft365-gcchigh",
        hosts: &["smtp.office365.us"],
        port: 587,
        tls: Tls::Start,
        sign_in: microsoft("login.microsoftonline.us", true, false),
    },
    Service {
        provider: "microsoft365-dod",
        hosts: &["outlook-dod.office365.us"],
        port: 587,
        tls: Tls::Start,
        sign_in: microsoft("login.microsoftonline.us", false, false),
    },
    Service {
        provider: "microsoft365-china",
        hosts: &["smtp.partner.outlook.cn"],
        port: 587,
        tls: Tls::Start,
        sign_in: microsoft("login.partner.microsoftonline.cn", true, false),
    },
    Service {
        provider: "microsoft365-hve",
        hosts: &["smtp-hve.office365.com"],
        port: 587,
        tls: Tls::Start,
        sign_in: microsoft("login.microsoftonline.com", false, true),
    },
    Service {
        provider: "outlook",
        hosts: &["smtp-mail.outlook.com"],
        port: 587,
        tls: Tls::Start,
        sign_in: microsoft("login.microsoftonline.com", true, false),
    },
    Service {
        provider: "gmail",
        hosts: &["smtp.gmail.com", "smtp.googlemail.com"],
        port: 465,
        tls: Tls::Implicit,
        sign_in: SignIn::Endpoints {
            hosts: &[
                "oauth2.googleapis.com",
                "accounts.google.com",
                "www.googleapis.com",
            ],
            scope: "https://mail.google.com/",
        },
    },
    Service {
        provider: "yahoo",
        hosts: &["smtp.mail.yahoo.com"],
        port: 465,
        tls: Tls::Implicit,
        sign_in: SignIn::Endpoints {
            hosts: &["api.login.yahoo.com"],
            scope: "mail-w",
        },
    },
    Service {
        provider: "fastmail",
        hosts: &["smtp.fastmail.com"],
        port: 465,
        tls: Tls::Implicit,
        sign_in: SignIn::Endpoints {
            hosts: &["api.fastmail.com"],
            scope: "https://www.fastmail.com/dev/protocol-smtp",
        },
    },
    Service {
        provider: "azure-communication-services",
        hosts: &["smtp.azurecomm.net"],
        port: 587,
        tls: Tls::Start,
        sign_in: SignIn::None,
    },
];

impl Service {
    /// The provider whose server `host` is.
    pub(crate) fn of(host: &str) -> Option<&'static Self> {
        let host = host.trim_end_matches('.');
        let is_host = |known: &str| known.eq_ignore_ascii_case(host);
        let mut services = SERVICES.iter();
        services.find(|service| service.hosts.iter().any(|known| is_host(known)))
    }

    /// Whether it is Microsoft's, of any cloud.
    pub(crate) fn is_microsoft(&self) -> bool {
        matches!(self.sign_in, SignIn::Microsoft { .. })
    }

    /// Its first host, and its port.
    pub(crate) fn address(&self) -> (&'static str, u16) {
        (self.hosts[0], self.port)
    }

    /// Whether tokens from `host` are this provider's.
    pub(crate) fn signs_in_at(&self, host: &str) -> bool {
        match self.sign_in {
            SignIn::Microsoft { host: own, .. } => own.eq_ignore_ascii_case(host),
            SignIn::Endpoints { hosts, .. } => {
                hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
            }
            SignIn::None => false,
        }
    }
}

impl Server {
    /// The provider whose server it is.
    pub(crate) fn service(&self) -> Option<&'static Service> {
        Service::of(&self.host)
    }

    fn is_here(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Writes `provider` or `server` into `account`, and says what is not the same.
    pub(crate) fn write(
        &self,
        account: &mut ImportedAccount,
        place: &Place,
        left: &mut Vec<NotCarried>,
    ) -> Option<&'static Service> {
        let service = self.service();
        if let Some(service) = service {
            account.set("provider", service.provider);
        }
        let tls = match self.tls {
            Tls::Clear if self.is_here() => {
                account.set(
                    "server",
                    json!({ "host": self.host, "port": self.port, "tls": "danger_plaintext" }),
                );
                return service;
            }
            Tls::Clear => {
                left.push(
                    NotCarried::new(
                        place.clone(),
                        "a connection without TLS",
                        format!(
                            "account \"{}\" requires STARTTLS now: a password or token never \
                             leaves this machine in clear",
                            account.name
                        ),
                    )
                    .instead("a server without TLS needs server.tls = \"danger_plaintext\""),
                );
                Tls::Start
            }
            tls => tls,
        };
        let preset = service.is_some_and(|service| {
            // The provider's other names, and its port 25, lead to the same service.
            service.tls == tls && (service.port == self.port || self.port == 25)
        });
        if !preset {
            let host = service.map_or(self.host.as_str(), |service| service.hosts[0]);
            let word = if tls == Tls::Implicit {
                "implicit"
            } else {
                "starttls"
            };
            account.set(
                "server",
                json!({ "host": host, "port": self.port, "tls": word }),
            );
        }
        service
    }
}

/// Says that `account`'s password has an end, where it has one (facts, A6).
pub(crate) fn warn_of_password(
    account: &ImportedAccount,
    service: Option<&'static Service>,
    place: &Place,
    left: &mut Vec<NotCarried>,
) {
    let why = match service.map(|service| service.provider) {
        Some("microsoft365-hve" | "azure-communication-services") | None => return,
        Some("outlook") => {
            "was imported, but Outlook.com takes no passwords for SMTP since 16 September 2024"
        }
        Some(provider) if provider.starts_with("microsoft365") => {
            "was imported as it is and ends: from the end of December 2026 Exchange Online takes \
             no passwords by default"
        }
        Some(_) => return,
    };
    let sender = account.settings.get("sender").and_then(Value::as_str);
    // Without the name in front, which a shell would take apart.
    let sender = sender.map(|it| it.rsplit_once('<').map_or(it, |(_, it)| it));
    let sender = sender.map(|it| it.trim_end_matches('>'));
    let sender = sender.map_or_else(String::new, |it| format!(" --sender {}", shown(it)));
    left.push(
        NotCarried::new(
            place.clone(),
            &format!("the password of account \"{}\"", account.name),
            why,
        )
        .instead(format!(
            "move it to OAuth: postrider setup {provider} --account {} --username {}{sender}",
            account.name,
            shown(account.username()),
            provider = if service.is_some_and(|it| it.provider == "outlook") {
                "outlook"
            } else {
                "microsoft365"
            }
        )),
    );
}
