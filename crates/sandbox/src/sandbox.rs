//! A running sandbox: its listeners, its directory, its end.

use std::fs::{File, TryLockError};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use axum::extract;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response_with_state;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use url::Url;

use crate::ca::{Authority, CaError};
use crate::control::{Address, Control, Guard};
use crate::entra::{Entra, TlsListener};
use crate::exchange::Exchange;
use crate::graph::Graph;
use crate::inbox::Inbox;
use crate::jwt::{KeyError, SigningKey};
use crate::scenario::{Scenario, ScenarioError};
use crate::snippet;
use crate::state::{Clock, Random, State, SystemClock, SystemRandomness};

/// How a sandbox is started. The default is the default scenario on free ports of
/// 127.0.0.1, with a directory of its own that goes when the sandbox goes.
#[derive(Clone)]
pub struct SandboxOptions {
    /// What it knows.
    pub scenario: Scenario,
    /// Where `ca.pem` and `mail/` go, for one sandbox at a time; made if it is not there.
    /// `None`: a temporary one.
    pub dir: Option<PathBuf>,
    /// A loopback address.
    pub listen: IpAddr,
    /// Port of the SMTP server; 0: any free one.
    pub smtp_port: u16,
    /// Port of Entra ID; 0: any free one.
    pub entra_port: u16,
    /// Port of the control API and the inbox; 0: any free one.
    pub control_port: u16,
    /// Host names the servers' certificate holds besides `localhost` and the address.
    pub names: Vec<String>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from, save for keys and certificates.
    pub random: Arc<dyn Random>,
    /// The key tokens are signed with; `None`: a new one.
    pub signing_key: Option<Arc<SigningKey>>,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            scenario: Scenario::default(),
            dir: None,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            smtp_port: 0,
            entra_port: 0,
            control_port: 0,
            names: Vec::new(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandomness::default()),
            signing_key: None,
        }
    }
}

impl fmt::Debug for SandboxOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxOptions")
            .field("dir", &self.dir)
            .field("listen", &self.listen)
            .field("smtp_port", &self.smtp_port)
            .field("entra_port", &self.entra_port)
            .field("control_port", &self.control_port)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// A running sandbox. Dropping it stops it.
pub struct Sandbox {
    state: State,
    entra: Entra,
    service: Exchange,
    inbox: Inbox,
    ca_pem: String,
    dir: Directory,
    smtp: SocketAddr,
    control: Url,
    stopping: watch::Sender<()>,
    exchange: JoinHandle<()>,
    web: Vec<JoinHandle<()>>,
}

/// How long answers under way may still take when a sandbox is stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

impl Sandbox {
    /// Starts a sandbox. Once this returns, all its servers accept connections.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: SandboxOptions) -> Result<Self, StartError> {
        if !options.listen.is_loopback() {
            return Err(StartError::NotLoopback(options.listen));
        }
        // The key takes the longest: it is made beside everything else.
        let key = match options.signing_key {
            Some(key) => Pending::Given(key),
            None => Pending::Made(tokio::task::spawn_blocking(SigningKey::generate)),
        };
        let scenario = options.scenario.completed().map_err(StartError::Scenario)?;

        let dir = Directory::open(options.dir)?;
        let ca = Authority::new().map_err(StartError::Ca)?;
        let names = ["localhost".to_owned(), options.listen.to_string()]
            .into_iter()
            .chain(options.names)
            .collect::<Vec<_>>();
        let tls = ca.server_config(&names).map_err(StartError::Ca)?;
        ca.write(dir.path())
            .map_err(|e| StartError::Dir(dir.path().to_owned(), e))?;
        let mail = dir.path().join("mail");
        let inbox = Inbox::new(Some(mail.clone())).map_err(|e| StartError::Dir(mail, e))?;

        let (smtp, smtp_addr) = listen("SMTP", options.listen, options.smtp_port).await?;
        let (web, web_addr) = listen("Entra ID", options.listen, options.entra_port).await?;
        let (api, api_addr) =
            listen("the control API", options.listen, options.control_port).await?;
        let authority = url(&format!("https://localhost:{}/", web_addr.port()));
        let control = url(&format!("http://{api_addr}/"));
        let snippet = snippet::snippet(&scenario, smtp_addr.port(), &authority, &dir.ca_file());

        let state = State::new(
            scenario,
            authority.clone(),
            key.wait().await?,
            options.clock,
            options.random,
        );
        let (stopping, stopped) = watch::channel(());
        let entra = Entra::new(state.clone(), stopped.clone());
        let (tls_listener, accepting) = TlsListener::new(web, Arc::clone(&tls))
            .map_err(|e| StartError::Listen("Entra ID", web_addr, e))?;
        let service = Exchange::new(state.clone(), inbox.clone());
        let graph = Graph::new(entra.clone(), inbox.clone());
        let address = Address {
            smtp_port: smtp_addr.port(),
            authority: authority.clone(),
            ca_file: dir.ca_file(),
        };
        let api_router = Control::new(state.clone(), entra.clone(), snippet, address)
            .router(inbox.clone(), Guard::new(api_addr));
        let web = vec![
            tokio::spawn(serve(
                tls_listener,
                entra
                    .router()
                    .merge(graph.router())
                    .layer(map_response_with_state(state.clone(), dated)),
                stopped.clone(),
            )),
            tokio::spawn(serve(api, api_router, stopped)),
            accepting,
        ];
        let exchange = tokio::spawn(service.clone().serve(smtp, TlsAcceptor::from(tls)));
        Ok(Self {
            state,
            entra,
            service,
            inbox,
            ca_pem: ca.pem().to_owned(),
            dir,
            smtp: smtp_addr,
            control,
            stopping,
            exchange,
            web,
        })
    }

    /// Where SMTP is served. Connect by the name `localhost`: the certificate holds it.
    pub fn smtp_addr(&self) -> SocketAddr {
        self.smtp
    }

    /// Entra ID's base URL, `https://localhost:PORT/`.
    pub fn authority(&self) -> &Url {
        self.state.authority()
    }

    /// The certificate authority's certificate, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The file that holds it.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.ca_file()
    }

    /// The sandbox's directory: `ca.pem`, and messages under `mail/`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The control API; the inbox's page is `inbox` below it.
    pub fn control_url(&self) -> &Url {
        &self.control
    }

    /// What arrived.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// The scenario, the clock and the log, to be read and changed while it runs.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Begins anew with this scenario, as if just started: no message has arrived, no token is
    /// out, nothing is used up and nobody has signed in. Ports and keys stay the same.
    ///
    /// # Errors
    /// What the scenario contradicts; nothing has changed then.
    pub fn reset(&self, scenario: Scenario) -> Result<(), ScenarioError> {
        self.state.reset(scenario)?;
        self.entra.forget();
        self.service.forget();
        self.inbox.clear();
        Ok(())
    }

    /// Signs this user in at the authorization endpoint's `url` as a person with a browser would,
    /// who agrees to whatever is asked: where the browser is sent at the end.
    ///
    /// # Errors
    /// Why the person would not have got so far.
    pub fn sign_in(&self, url: &Url, upn: &str) -> Result<Url, String> {
        self.entra.sign_in(url, upn)
    }

    /// What to put into `postrider.toml` to use it.
    pub fn config_snippet(&self) -> String {
        snippet::snippet(
            &self.state.scenario(),
            self.smtp.port(),
            self.authority(),
            &self.ca_file(),
        )
    }

    /// The environment variables that [`Sandbox::config_snippet`] refers to, with their
    /// values: play money, like everything secret in a scenario.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        snippet::environment(&self.state.scenario())
    }

    /// Stops it and waits until its ports are free.
    pub async fn stop(mut self) {
        self.exchange.abort();
        let _ = (&mut self.exchange).await;
        self.stopping.send_replace(());
        let deadline = tokio::time::Instant::now() + LAST_ANSWERS;
        for mut server in std::mem::take(&mut self.web) {
            if tokio::time::timeout_at(deadline, &mut server)
                .await
                .is_err()
            {
                server.abort();
            }
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The web servers end when the sender of `stopping` goes.
        self.exchange.abort();
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("smtp", &self.smtp)
            .field("authority", &self.authority().as_str())
            .field("control", &self.control.as_str())
            .finish_non_exhaustive()
    }
}

enum Pending {
    Given(Arc<SigningKey>),
    Made(JoinHandle<Result<SigningKey, KeyError>>),
}

impl Pending {
    async fn wait(self) -> Result<Arc<SigningKey>, StartError> {
        match self {
            Self::Given(key) => Ok(key),
            Self::Made(task) => match task.await {
                Ok(Ok(key)) => Ok(Arc::new(key)),
                Ok(Err(error)) => Err(StartError::Key(error)),
                Err(_) => Err(StartError::Stopped),
            },
        }
    }
}

/// The caller's directory, or one that goes with the sandbox.
enum Directory {
    /// With its lock, which goes with the sandbox, whatever ends it.
    Kept(PathBuf, #[allow(dead_code, reason = "held, not used")] File),
    Temporary(tempfile::TempDir),
}

impl Directory {
    fn open(dir: Option<PathBuf>) -> Result<Self, StartError> {
        let Some(dir) = dir else {
            let temporary = tempfile::Builder::new()
                .prefix("postrider-sandbox-")
                .tempdir();
            return temporary
                .map(Self::Temporary)
                .map_err(|e| StartError::Dir(std::env::temp_dir(), e));
        };
        let failed = |e| StartError::Dir(dir.clone(), e);
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&dir).map_err(failed)?;
        // Configurations elsewhere name files in it: its path must not depend on where we are.
        let path = std::path::absolute(&dir).map_err(failed)?;
        // A second sandbox would put its `ca.pem` in place of the first one's.
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self::Kept(path, lock)),
            Err(TryLockError::WouldBlock) => Err(StartError::InUse(path)),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path, _) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }

    fn ca_file(&self) -> PathBuf {
        self.path().join("ca.pem")
    }
}

async fn listen(
    what: &'static str,
    address: IpAddr,
    port: u16,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = SocketAddr::new(address, port);
    let failed = |e| StartError::Listen(what, address, e);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The same with the sandbox's own time as its `Date`: by that clients find a clock that is wrong.
async fn dated(at: extract::State<State>, mut response: Response) -> Response {
    let date = at.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::from_str(&date) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

async fn serve<L>(listener: L, router: axum::Router, mut stopped: watch::Receiver<()>)
where
    L: axum::serve::Listener,
    L::Addr: fmt::Debug,
{
    let stop = async move {
        // Told to stop, or nobody is left who could tell.
        let _ = stopped.changed().await;
    };
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
    {
        tracing::warn!(%error, "a sandbox server ended");
    }
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("a scheme, a loopback address and a port make a URL")
}

/// Why a sandbox did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// It would have been reachable from other machines.
    NotLoopback(IpAddr),
    /// The scenario contradicts itself.
    Scenario(ScenarioError),
    /// Its directory cannot be made or written.
    Dir(PathBuf, io::Error),
    /// Another sandbox uses its directory.
    InUse(PathBuf),
    /// A port cannot be had.
    Listen(&'static str, SocketAddr, io::Error),
    /// No certificate could be made.
    Ca(CaError),
    /// No signing key could be made.
    Key(KeyError),
    /// The runtime is shutting down.
    Stopped,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoopback(address) => {
                write!(f, "the sandbox listens on loopback only, not on {address}")
            }
            Self::Scenario(_) => f.write_str("the sandbox has no usable scenario"),
            Self::Dir(path, _) => {
                write!(f, "the sandbox cannot use the directory {}", path.display())
            }
            Self::InUse(path) => {
                write!(f, "another sandbox uses the directory {}", path.display())
            }
            Self::Listen(what, address, _) => {
                write!(f, "the sandbox cannot listen on {address} for {what}")
            }
            Self::Ca(_) => f.write_str("the sandbox has no certificate"),
            Self::Key(_) => f.write_str("the sandbox has no signing key"),
            Self::Stopped => f.write_str("the sandbox was stopped while it started"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotLoopback(_) | Self::InUse(_) | Self::Stopped => None,
            Self::Scenario(e) => Some(e),
            Self::Dir(_, e) | Self::Listen(_, _, e) => Some(e),
            Self::Ca(e) => Some(e),
            Self::Key(e) => Some(e),
        }
    }
}
