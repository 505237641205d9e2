//! Where the worlds of a process take place, one after the other: a runtime of one thread and a
//! sandbox, which is made once, because its keys take the longest.

use std::sync::Arc;

use postrider_config::SandboxAddress;
use postrider_sandbox::{Sandbox, SandboxOptions, Scenario};
use tokio::runtime::{Builder, Runtime};

use super::clock::{SandboxClock, TestClock};
use super::parking::Parking;
use super::redirect;
use crate::app::sandbox::HOST;
use crate::failure::{Failure, with_sources};

/// A sandbox for one world at a time.
pub(super) struct Stage {
    sandbox: Arc<Sandbox>,
    clock: Arc<SandboxClock>,
    parking: Parking,
}

impl Stage {
    /// A runtime, and the stage that lives in it.
    ///
    /// # Errors
    /// There is no thread, port or directory for them.
    pub(super) fn build() -> Result<(Runtime, Arc<Self>), Failure> {
        let parking = Parking::default();
        let told = parking.clone();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || told.about_to_park())
            .build()
            .map_err(|error| Failure::new("internal", format!("no runtime: {error}")))?;
        let clock = Arc::<SandboxClock>::default();
        let options = SandboxOptions {
            scenario: redirect::empty(),
            clock: Arc::clone(&clock) as Arc<dyn postrider_sandbox::Clock>,
            ..SandboxOptions::default()
        };
        let sandbox = runtime
            .block_on(Sandbox::start(options))
            .map_err(|error| Failure::new("network.sandbox", with_sources(&error)))?;
        let stage = Self {
            sandbox: Arc::new(sandbox),
            clock,
            parking,
        };
        Ok((runtime, Arc::new(stage)))
    }

    /// A new world begins, with this clock.
    ///
    /// # Errors
    /// The sandbox does not take its scenario.
    pub(super) fn begin(&self, clock: &TestClock) -> Result<(), Failure> {
        self.clock.follow(clock);
        let empty = redirect::empty();
        self.sandbox
            .reset(empty)
            .map_err(|error| redirect::refused(&error))
    }

    /// The world has other people and apps.
    ///
    /// # Errors
    /// The scenario contradicts itself.
    pub(super) fn change(&self, scenario: Scenario) -> Result<(), Failure> {
        let changed = self.sandbox.state().change(|current| *current = scenario);
        changed.map_err(|error| redirect::refused(&error))
    }

    /// Waits until no other task of the runtime has anything to run.
    pub(super) async fn parked(&self) {
        self.parking.parked().await;
    }

    pub(super) fn sandbox(&self) -> Arc<Sandbox> {
        Arc::clone(&self.sandbox)
    }

    /// Where the sandbox is.
    pub(super) fn address(&self) -> SandboxAddress {
        SandboxAddress {
            smtp_host: HOST.to_owned(),
            smtp_port: self.sandbox.smtp_addr().port(),
            authority: self.sandbox.authority().clone(),
            ca_file: self.sandbox.ca_file(),
        }
    }
}
