//! A plugin's log lines, on their way into ours.

use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use postrider_plugin::abi::{self, Bytes, Host, SINK_CAP};

use crate::scrub::{MESSAGE_CHARS, Scrubber};

/// The host as one instance sees it. Never moves once shared, for the plugin points into it.
pub(crate) struct Log {
    host: Host,
    voice: Arc<Voice>,
}

/// Who speaks, and what must not be heard.
struct Voice {
    plugin: String,
    account: String,
    scrubber: Arc<Scrubber>,
}

// SAFETY: `host` holds a pointer to `voice`, which is shared, never changed, and itself
// `Send + Sync`; the header allows `log` from any thread.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Log {
    pub(crate) fn new(plugin: &str, account: &str, scrubber: Arc<Scrubber>) -> Arc<Self> {
        let voice = Arc::new(Voice {
            plugin: plugin.to_owned(),
            account: account.to_owned(),
            scrubber,
        });
        Arc::new(Self {
            host: Host {
                size: u32::try_from(size_of::<Host>()).unwrap_or(0),
                abi: abi::ABI,
                ctx: Arc::as_ptr(&voice).cast_mut().cast(),
                log: Some(log),
            },
            voice,
        })
    }

    /// What `create` is given.
    pub(super) fn host(&self) -> *const Host {
        &raw const self.host
    }

    /// Reports a call that did not return.
    pub(super) fn overdue(&self, call: &str) {
        tracing::error!(
            plugin = self.voice.plugin,
            account = self.voice.account,
            call,
            "plugin did not return in time; its thread is lost"
        );
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// [`Host::log`].
unsafe extern "C" fn log(ctx: *mut c_void, level: i32, message: Bytes) {
    // A subscriber that panics must not unwind into the plugin.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `ctx` is the voice `Log::new` put there, and the log outlives `destroy`.
        let voice = unsafe { &*ctx.cast::<Voice>() };
        // SAFETY: the header obliges the plugin to pass readable octets.
        let Some(octets) = (unsafe { message.as_slice() }) else {
            return;
        };
        // Not cut before it is cleaned: half a secret would not be known for one.
        if octets.len() > SINK_CAP {
            return voice.say(2, "a log message of more than 1 MiB was dropped");
        }
        let text = String::from_utf8_lossy(octets);
        voice.say(level, &voice.scrubber.clean(&text, MESSAGE_CHARS));
    }));
}

impl Voice {
    fn say(&self, level: i32, message: &str) {
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    target: "postrider_auth::plugin",
                    plugin = self.plugin,
                    account = self.account,
                    "{message}"
                )
            };
        }
        match level {
            ..=1 => say!(error),
            2 => say!(warn),
            3 => say!(info),
            4 => say!(debug),
            _ => say!(trace),
        }
    }
}
