//! A gateway that runs: listeners, who may connect, sessions, new settings, the end.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, mem};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::GatewayError;
use crate::backend::{Backend, Refusal};
use crate::certificate::{CertificateFacts, Identity};
use crate::credential::Verifier;
use crate::doors::{Doors, Seat};
use crate::event::{Event, TurnedAway};
use crate::limits::Limits;
use crate::listener::{self, Listener};
use crate::session;
use crate::settings::{Settings, TlsMode};
use crate::tarpit::Tarpit;

/// One gateway, running. Clones are the same one; the last that is dropped ends it at once.
#[derive(Clone)]
pub struct Gateway(Arc<Running>);

struct Running {
    house: Arc<House>,
    listeners: tokio::sync::Mutex<Vec<Listener>>,
    addresses: Mutex<Vec<SocketAddr>>,
}

/// What all of a gateway's sessions share.
pub(crate) struct House {
    pub(crate) name: Arc<str>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) verifier: Verifier,
    pub(crate) limits: Limits,
    pub(crate) tarpit: Tarpit,
    pub(crate) stop: watch::Sender<bool>,
    current: RwLock<Arc<Current>>,
    doors: Doors,
    sessions: Mutex<JoinSet<()>>,
}

/// The settings a session begins with, and ends with.
pub(crate) struct Current {
    pub(crate) settings: Settings,
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) acceptor: Option<TlsAcceptor>,
}

impl Gateway {
    /// Begins to listen, and to serve. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// An address is taken, a certificate is not to be used.
    pub fn bind(
        settings: Settings,
        backend: Arc<dyn Backend>,
        verifier: Verifier,
    ) -> Result<Self, GatewayError> {
        let name: Arc<str> = settings.name.as_str().into();
        let current = Arc::new(Current::new(settings, &name, &backend)?);
        let listeners = listener::bind_all(&current.settings.listen)?;
        let house = Arc::new(House {
            name,
            backend,
            verifier,
            limits: Limits::new(),
            tarpit: Tarpit::default(),
            stop: watch::Sender::new(false),
            current: RwLock::new(current),
            doors: Doors::default(),
            sessions: Mutex::new(JoinSet::new()),
        });
        let open = listeners.into_iter().map(|bound| bound.open(&house));
        let listeners: Vec<Listener> = open.collect();
        let gateway = Self(Arc::new(Running {
            house,
            addresses: Mutex::new(listeners.iter().map(Listener::address).collect()),
            listeners: tokio::sync::Mutex::new(listeners),
        }));
        Ok(gateway)
    }

    /// Takes new settings: sessions that have begun end under their old ones. Where something is
    /// wrong with the new ones, nothing changes.
    ///
    /// # Errors
    /// As in [`bind`](Self::bind).
    pub async fn apply(&self, settings: Settings) -> Result<(), GatewayError> {
        let house = &self.0.house;
        let current = Arc::new(Current::new(settings, &house.name, &house.backend)?);
        let mut listeners = self.0.listeners.lock().await;
        let rebound = listener::rebind(&mut listeners, &current.settings.listen, house).await;
        *self.addresses_mut() = listeners.iter().map(Listener::address).collect();
        rebound?;
        *house
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = current;
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.house.name
    }

    /// Where it listens, with the ports that it got.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses_mut().clone()
    }

    /// What it proves itself with; `None` where nothing is encrypted.
    pub fn certificate(&self) -> Option<CertificateFacts> {
        let current = self.0.house.current();
        current.identity.as_ref().map(|identity| identity.facts())
    }

    /// Reads certificate files again if they changed, as handshakes do every few seconds.
    pub fn look_at_certificate(&self) {
        if let Some(identity) = &self.0.house.current().identity {
            identity.look();
        }
    }

    /// What its devices have sent: for what was sent before it began to be counted, too.
    pub fn limits(&self) -> &Limits {
        &self.0.house.limits
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.0.house.doors.count()
    }

    /// Listens no longer, sends idle clients away, and lets the others end what they are about,
    /// for so long at most.
    pub async fn stop(&self, deadline: Duration) {
        for listener in self.0.listeners.lock().await.drain(..) {
            listener.close().await;
        }
        self.0.house.stop.send_replace(true);
        let mut sessions = mem::take(&mut *self.0.house.sessions());
        let all = async { while sessions.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_err() {
            sessions.shutdown().await;
        }
    }

    fn addresses_mut(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        let addresses = &self.0.addresses;
        addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.house.sessions().abort_all();
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl Current {
    fn new(
        settings: Settings,
        name: &Arc<str>,
        backend: &Arc<dyn Backend>,
    ) -> Result<Self, GatewayError> {
        if settings.tls == TlsMode::DangerPlaintext {
            return Ok(Self {
                settings,
                identity: None,
                acceptor: None,
            });
        }
        let (gateway, teller) = (Arc::clone(name), Arc::clone(backend));
        let tell = move |change: crate::certificate::Change| {
            teller.tell(change.event(Arc::clone(&gateway)));
        };
        let identity = Arc::new(Identity::load(&settings, backend.now(), tell)?);
        let acceptor = TlsAcceptor::from(identity.config()?);
        Ok(Self {
            settings,
            identity: Some(identity),
            acceptor: Some(acceptor),
        })
    }
}

impl House {
    /// The settings of whoever comes now.
    pub(crate) fn current(&self) -> Arc<Current> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    pub(crate) fn tell(&self, event: Event) {
        self.backend.tell(event);
    }

    /// Tells of a client that cannot read what it did wrong.
    pub(crate) fn not_encrypted(&self, client: IpAddr, problem: String) {
        let gateway = Arc::clone(&self.name);
        self.tell(Event::NotEncrypted {
            gateway,
            client,
            problem,
        });
    }

    /// Lets a client in, or sends it away.
    pub(crate) fn receive(self: &Arc<Self>, stream: TcpStream, client: IpAddr) {
        let client = client.to_canonical();
        let current = self.current();
        match self.seat(&current.settings, client) {
            Ok(seat) => {
                self.tell(Event::Connected {
                    gateway: Arc::clone(&self.name),
                    client,
                });
                let house = Arc::clone(self);
                let mut sessions = self.sessions();
                // Those that ended leave their place.
                while sessions.try_join_next().is_some() {}
                sessions.spawn(async move {
                    let farewell = Farewell {
                        house: Arc::clone(&house),
                        client,
                        _seat: seat,
                    };
                    Box::pin(session::serve(house, current, stream, client)).await;
                    drop(farewell);
                });
            }
            Err(why) => {
                self.tell(Event::TurnedAway {
                    gateway: Arc::clone(&self.name),
                    client,
                    why,
                });
                turn_away(stream, current.settings.tls, why);
            }
        }
    }

    fn seat(&self, settings: &Settings, client: IpAddr) -> Result<Seat, TurnedAway> {
        if !settings
            .clients
            .iter()
            .any(|network| network.contains(client))
        {
            return Err(TurnedAway::Network);
        }
        let (all, each) = (settings.connections, settings.connections_per_client);
        self.doors.enter(client, all, each)
    }

    fn sessions(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the seat back, and says so, however a session ends.
struct Farewell {
    house: Arc<House>,
    client: IpAddr,
    _seat: Seat,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.house.tell(Event::Disconnected {
            gateway: Arc::clone(&self.house.name),
            client: self.client,
        });
    }
}

/// One line if it can be had for nothing, and the end.
fn turn_away(stream: TcpStream, tls: TlsMode, why: TurnedAway) {
    let refusal = match why {
        TurnedAway::Network => Refusal::new(554, "5.7.1", "no service for your address"),
        TurnedAway::Full => Refusal::new(421, "4.3.2", "too many connections, try again later"),
        TurnedAway::FullForClient => {
            Refusal::new(421, "4.7.0", "too many connections from your address")
        }
    };
    // Who waits for a handshake cannot read it.
    if tls != TlsMode::Implicit {
        // A new connection's buffer has room for a line, or the client is gone.
        let _ = stream.try_write(format!("{refusal}\r\n").as_bytes());
    }
    if let Ok(stream) = stream.into_std() {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
}
