//! What surrounds an app: presets, time, whoever answers; and what of it outlives a reload of the
//! configuration.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use postrider_auth::{Clock as AuthClock, EventSink, Interaction, Keeper};
use postrider_config::{Config, Presets, SandboxAddress};
use postrider_schedule::{Clock, Scheduler, SystemClock};
use secrecy::SecretString;
use tokio::task::JoinHandle;

use super::AppSettings;
use super::account::Leaving;
use super::events::Events;
use super::keeper::{self, Tending};
use super::queue::{Desk, Place, Ways};
use super::renewal::FailedRenewals;
use super::sandbox::Embedded;
use super::vault::SharedVault;
use crate::http;
use crate::lua::{Activity, GatewayHooks, MessageHooks};
use crate::metrics::Metrics;
use crate::terminal;

/// What an app is set up with besides its configuration.
pub struct World {
    /// What `provider` stands for.
    pub presets: Presets,
    /// The only place that accounts may talk to: a sandbox.
    pub confined_to: Option<SandboxAddress>,
    /// Values that stand in for environment variables: the sandbox's secrets.
    pub stand_ins: BTreeMap<String, SecretString>,
    /// Whoever is there to answer.
    pub interaction: Arc<dyn Interaction>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where it is counted what scripts are doing.
    pub activity: Activity,
}

impl World {
    /// The outside, with whoever sits at the terminal.
    pub fn outside() -> Self {
        Self {
            presets: Presets::builtin(),
            confined_to: None,
            stand_ins: BTreeMap::new(),
            interaction: terminal::interaction(),
            clock: Arc::new(SystemClock),
            activity: Activity::default(),
        }
    }

    /// A sandbox: no account may send anywhere else, and nothing is kept.
    pub fn inside(sandbox: &Embedded) -> Self {
        Self {
            presets: sandbox.presets(),
            confined_to: Some(sandbox.address()),
            stand_ins: sandbox.environment(),
            ..Self::outside()
        }
    }
}

/// What the generations of one process share: the configuration changes, these do not.
pub(super) struct Lasting {
    pub(super) settings: AppSettings,
    pub(super) world: World,
    pub(super) keeper: Keeper,
    pub(super) vault: SharedVault,
    /// What scripts hear of.
    pub(super) events: Arc<Events>,
    pub(super) metrics: Metrics,
    /// Opened when it is first asked for.
    pub(super) scheduler: OnceLock<Scheduler>,
    /// Runs what is scheduled, where nobody else does.
    driver: OnceLock<JoinHandle<()>>,
    /// What scripts have to say about messages.
    pub(super) hooks: Arc<MessageHooks>,
    /// What they have to say about devices.
    pub(super) gateway_hooks: GatewayHooks,
    /// Held for writing while one generation's hooks and handlers take the place of another's: no
    /// message and no event passes between the two.
    pub(super) swap: Arc<RwLock<()>>,
    pub(super) leaving: Leaving,
    /// Mail that waits.
    pub(super) queue: Arc<Desk>,
    /// Where it goes.
    pub(super) ways: Arc<Ways>,
    /// For scripts' requests.
    pub(super) http: http::Client,
    /// Whose tokens are refreshed ahead of need, where the program runs long enough.
    tending: Mutex<Option<Tending>>,
    pub(super) failed_renewals: FailedRenewals,
}

impl Lasting {
    pub(super) fn new(settings: &AppSettings, config: &Config, world: World) -> Self {
        let metrics = Metrics::default();
        let swap = Arc::<RwLock<()>>::default();
        let ways = Arc::<Ways>::default();
        let events = Events::new(
            Arc::clone(&world.clock),
            metrics.clone(),
            Arc::clone(&swap),
            Arc::clone(&ways),
        );
        let events = Arc::new(events);
        let sink = Arc::clone(&events) as Arc<dyn EventSink>;
        let clock = Arc::new(TimeOfDay(Arc::clone(&world.clock)));
        // A sandbox leaves nothing behind, and finds nothing.
        let (vault, keeper, reach) = if world.confined_to.is_some() {
            let vault = SharedVault::nowhere();
            (vault, keeper::passing(clock, sink), http::Reach::Loopback)
        } else {
            let vault = SharedVault::new(settings, config);
            let keeper = keeper::lasting(vault.clone(), clock, sink);
            (vault, keeper, http::Reach::Anywhere)
        };
        // A sandbox leaves nothing behind, and finds nothing.
        let place = match &world.confined_to {
            Some(_) => Place::Memory(world.activity.clone()),
            None => Place::StateDirectory(settings.state_dir.clone()),
        };
        let queue = Desk::new(
            config.queue.clone(),
            place,
            Arc::clone(&world.clock),
            Arc::clone(&events),
            Arc::clone(&ways),
        );
        Self {
            settings: settings.clone(),
            queue: Arc::new(queue),
            ways,
            world,
            keeper,
            vault,
            events,
            metrics,
            scheduler: OnceLock::new(),
            driver: OnceLock::new(),
            hooks: Arc::default(),
            gateway_hooks: GatewayHooks::default(),
            swap,
            leaving: Leaving::default(),
            http: http::Client::new(reach),
            tending: Mutex::default(),
            failed_renewals: FailedRenewals::default(),
        }
    }

    /// The time of day, as the keeper and plugins are told it.
    pub(super) fn time_of_day(&self) -> Arc<dyn AuthClock> {
        Arc::new(TimeOfDay(Arc::clone(&self.world.clock)))
    }

    /// From now on what is scheduled runs, for as long as this lives.
    pub(super) fn drive(&self, scheduler: Scheduler) {
        let begin = || tokio::spawn(async move { scheduler.run().await });
        self.driver.get_or_init(begin);
    }

    pub(super) fn tending(&self) -> MutexGuard<'_, Option<Tending>> {
        self.tending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.get() {
            driver.abort();
        }
    }
}

/// One clock for all.
struct TimeOfDay(Arc<dyn Clock>);

impl AuthClock for TimeOfDay {
    fn now(&self) -> SystemTime {
        self.0.now().into()
    }
}
