//! A gateway for a story, in each of its manners: one device, and a sandbox behind them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::daemon::Daemon;
use super::home::Home;
use super::office::{Office, until};

/// The device's user name.
pub(crate) const DEVICE: &str = "printer-2";

/// Its password, as its settings page has it since long ago.
pub(crate) const PASSWORD: &str = "correct-horse-battery-9";

/// How a gateway's TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Starttls,
    Implicit,
    /// If the client wants it.
    Offered,
    /// The same, for clients whose lines end in LF.
    OfferedOdd,
}

const ALL: [Tls; 4] = [Tls::Starttls, Tls::Implicit, Tls::Offered, Tls::OfferedOdd];

impl Tls {
    /// The gateway.
    fn name(self) -> &'static str {
        match self {
            Self::Starttls => "office",
            Self::Implicit => "office-tls",
            Self::Offered => "office-local",
            Self::OfferedOdd => "office-odd",
        }
    }

    /// Its settings.
    fn settings(self) -> &'static str {
        match self {
            Self::Starttls => "tls = \"starttls\"",
            Self::Implicit => "tls = \"implicit\"",
            Self::Offered => "tls = \"offered\"",
            Self::OfferedOdd => "tls = \"offered\"\nquirks = [\"bare_lf\"]",
        }
    }
}

/// A site with a device, gateways and an account that knows OAuth.
pub(crate) struct Site {
    office: Office,
    daemon: Daemon,
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// With more settings for all of its gateways.
    pub(crate) fn with(more: &str) -> Self {
        let gateways = ALL.map(|tls| {
            format!(
                "[gateway.{}]\nlisten = \"127.0.0.1:0\"\nhostname = \"localhost\"\n\
                 account = \"sandbox\"\n{}\n{more}\n",
                tls.name(),
                tls.settings()
            )
        });
        let office = Office::with(&gateways.concat());
        for tls in ALL {
            office.admit(tls.name(), DEVICE, PASSWORD);
        }
        Self {
            daemon: Daemon::start(&office.home),
            office,
        }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.office.home
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    pub(crate) fn port(&self, tls: Tls) -> u16 {
        self.daemon.gateway_port(tls.name())
    }

    /// The certificate that the gateway made itself.
    pub(crate) fn ca(&self, tls: Tls) -> PathBuf {
        let file = format!("gateway/{}.pem", tls.name());
        self.office.home.state().join(file)
    }

    /// Waits until the gateway has so many connections.
    #[track_caller]
    pub(crate) fn until_connections(&self, tls: Tls, connections: u64) {
        until("there are as many connections", || {
            (self.daemon.gateway(tls.name())["connections"] == connections).then_some(())
        });
    }

    /// Waits until exactly these have arrived.
    #[track_caller]
    pub(crate) fn await_mail(&self, subjects: &BTreeSet<String>) {
        let arrived = until("all have arrived", || {
            let arrived = self.subjects();
            (arrived.len() >= subjects.len()).then_some(arrived)
        });
        assert_eq!(arrived.iter().cloned().collect::<BTreeSet<_>>(), *subjects);
        assert_eq!(arrived.len(), subjects.len(), "twice: {arrived:?}");
    }

    /// Waits until nothing is left in the queue.
    #[track_caller]
    pub(crate) fn until_idle(&self) {
        until("the queue is empty", || {
            let waiting = self.home().json(["queue", "list"]);
            waiting.as_array().unwrap().is_empty().then_some(())
        });
    }

    /// The subjects of what has arrived, in order.
    pub(crate) fn subjects(&self) -> Vec<String> {
        self.office.subjects()
    }

    /// What has arrived.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.office.messages()
    }

    /// The message with this subject, once it has arrived.
    #[track_caller]
    pub(crate) fn message(&self, subject: &str) -> String {
        self.office.arrived(subject)
    }

    /// As many files as this process may have open, once it has asked for all that it may have.
    #[allow(clippy::unused_self, reason = "it is the site's machine")]
    pub(crate) fn open_files(&self) -> usize {
        let limit = getrlimit(Resource::Nofile);
        let all = Rlimit {
            current: limit.maximum,
            ..limit
        };
        let _ = setrlimit(Resource::Nofile, all);
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        usize::try_from(files).unwrap_or(usize::MAX)
    }
}
