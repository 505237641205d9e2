//! Programs that believe it is later: libfaketime moves their wall clock and leaves the
//! monotonic one alone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How much later it is for the programs told of it.
pub(crate) struct Later {
    library: PathBuf,
    offset: Duration,
}

impl Later {
    /// No later yet; or what is missing.
    pub(crate) fn new() -> Result<Self, String> {
        let library = fs::read_dir("/usr/lib")
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
            .find(|candidate| candidate.exists())
            .ok_or("libfaketime is not installed (package faketime)")?;
        Ok(Self {
            library,
            offset: Duration::ZERO,
        })
    }

    /// Lets this much more time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.offset += time;
    }

    /// How much later it is by now.
    pub(crate) fn offset(&self) -> Duration {
        self.offset
    }

    /// Tells `command`.
    pub(crate) fn tell<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME", format!("+{}s", self.offset.as_secs()))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            // What files say of their age is compared with nothing.
            .env("NO_FAKE_STAT", "1")
    }
}
