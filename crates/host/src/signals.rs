//! Signals that a process which lives on is told things by.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, exit};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// To end in order.
    Stop(Stop),
    /// To load everything anew (`SIGHUP`).
    Reload,
}

/// Who asked for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// `SIGINT`: a person at the terminal.
    Interrupt,
    /// `SIGTERM`: whoever manages the process.
    Terminate,
}

impl Stop {
    /// As signal(7) writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// The status of a process that it cut short, as shells number it: 128 and the signal.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => exit::INTERRUPTED,
            Self::Terminate => exit::TERMINATED,
        }
    }
}

/// The signals, which from its making on no longer end the process by themselves.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Those that end a process.
    ///
    /// # Errors
    /// The system has none left.
    pub(crate) fn to_stop() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: None,
        })
    }

    /// Those, and the one to reload.
    ///
    /// # Errors
    /// The system has none left.
    pub(crate) fn to_stop_and_reload() -> Result<Self, Failure> {
        Ok(Self {
            hangup: Some(listen(SignalKind::hangup())?),
            ..Self::to_stop()?
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Told {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Told::Stop(Stop::Interrupt),
            _ = self.terminate.recv() => Told::Stop(Stop::Terminate),
            _ = hangup => Told::Reload,
        }
    }

    /// The next one that asks for the end.
    pub(crate) async fn stop(&mut self) -> Stop {
        loop {
            if let Told::Stop(stop) = self.next().await {
                return stop;
            }
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|problem| Failure::new("internal", format!("signals: {problem}")))
}
