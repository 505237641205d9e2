//! The six functions of the table: raw pointers to Rust and back, and no panic beyond.
//!
//! Every entry reads its arguments, runs the plugin inside [`contain`], and writes what came
//! out to the host's sink. All of the kit's unsafe code is here, except for what drives it in
//! [`super::testing`].

use std::cell::Cell;
use std::ffi::c_void;
use std::io::Write;
use std::mem::offset_of;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, PoisonError, RwLock};

use serde::Serialize;

use super::flow::{Flow, Instance, Outcome, Output, parse};
use super::io::Level;
use super::{Error, Plugin};
use crate::abi::{self, AuthV1, Bytes, ErrorKind, Host, Sink};
use crate::wire::Config;

/// The table of a plugin.
#[must_use]
pub const fn table<P: Plugin>() -> AuthV1 {
    AuthV1 {
        magic: abi::MAGIC,
        major: abi::MAJOR,
        minor: abi::MINOR,
        #[allow(clippy::cast_possible_truncation, reason = "a table is 64 octets")]
        size: size_of::<AuthV1>() as u32,
        flags: abi::THREADSAFE,
        describe: Some(describe::<P>),
        create: Some(create::<P>),
        destroy: Some(destroy::<P>),
        begin: Some(begin::<P>),
        step: Some(step),
        end: Some(end),
    }
}

/// # Safety
/// As the header says of `describe`: `out` is a sink of the host, valid for the call.
unsafe extern "C" fn describe<P: Plugin>(out: *mut Sink) -> i32 {
    let outcome = contain(None, || {
        Outcome::Done(Output::Description(Box::new(P::describe())))
    });
    // SAFETY: the caller's promise.
    unsafe { reply(out, &outcome) }
}

/// # Safety
/// As the header says of `create`: `host` is valid until `destroy` returns; the rest is for
/// the call.
unsafe extern "C" fn create<P: Plugin>(
    host: *const Host,
    config: Bytes,
    inst: *mut *mut c_void,
    out: *mut Sink,
) -> i32 {
    let mut made = None;
    let outcome = contain(None, || {
        // SAFETY: the caller's promise for `host` and `config`.
        match unsafe { instance::<P>(host, config) } {
            Ok(instance) => {
                made = Some(Box::new(instance));
                Outcome::Done(Output::NOTHING)
            }
            Err(error) => error.into(),
        }
    });
    // SAFETY: the caller's promise for `inst` and `out`.
    unsafe { reply_with(out, outcome, inst, made, abi::DONE) }
}

/// # Safety
/// As the header says of `destroy`: `inst` came from `create`, and no flow of it is left.
unsafe extern "C" fn destroy<P: Plugin>(inst: *mut c_void) {
    if !inst.is_null() {
        // SAFETY: `create` made it from a box of this type, and gives it back once.
        let instance = unsafe { Box::from_raw(inst.cast::<Instance<P>>()) };
        let log = Arc::clone(&instance.log);
        discard(instance);
        log.close();
    }
}

/// # Safety
/// As the header says of `begin`: `inst` is alive, the rest is valid for the call.
unsafe extern "C" fn begin<P: Plugin>(
    inst: *mut c_void,
    op: u32,
    input: Bytes,
    flow: *mut *mut c_void,
    out: *mut Sink,
) -> i32 {
    let mut made = None;
    let outcome = if inst.is_null() {
        Error::new(
            ErrorKind::Protocol,
            "the host began a flow without an instance",
        )
        .into()
    } else {
        // SAFETY: `create` made it from a box of this type; instances are only ever shared.
        let instance = unsafe { &*inst.cast::<Instance<P>>() };
        contain(Some(&instance.poisoned), || {
            // SAFETY: the caller's promise for `input`.
            let started =
                unsafe { octets(input) }.and_then(|input| Flow::start(instance, op, input));
            match started {
                Ok(flow) => made.insert(Box::new(flow)).advance(),
                Err(error) => error.into(),
            }
        })
    };
    // SAFETY: the caller's promise for `flow` and `out`.
    unsafe { reply_with(out, outcome, flow, made, abi::YIELD) }
}

/// # Safety
/// As the header says of `step`: `flow` is alive and not entered by another thread; the rest
/// is valid for the call.
unsafe extern "C" fn step(flow: *mut c_void, event: Bytes, out: *mut Sink) -> i32 {
    let outcome = if flow.is_null() {
        Error::new(ErrorKind::Protocol, "the host stepped without a flow").into()
    } else {
        // SAFETY: `begin` made it from a box of this type, and one flow is never entered
        // twice at once.
        let flow = unsafe { &mut *flow.cast::<Flow>() };
        let poisoned = Arc::clone(&flow.poisoned);
        contain(Some(&poisoned), || {
            // SAFETY: the caller's promise for `event`.
            match unsafe { octets(event) } {
                Ok(event) => flow.resume(event),
                Err(error) => error.into(),
            }
        })
    };
    // SAFETY: the caller's promise for `out`.
    unsafe { reply(out, &outcome) }
}

/// # Safety
/// As the header says of `end`: `flow` came from `begin`, and is not entered.
unsafe extern "C" fn end(flow: *mut c_void) {
    if !flow.is_null() {
        // SAFETY: `begin` made it from a box of this type, and gives it back once.
        let flow = unsafe { Box::from_raw(flow.cast::<Flow>()) };
        let poisoned = Arc::clone(&flow.poisoned);
        if !discard(flow) {
            poisoned.store(true, Ordering::Relaxed);
        }
    }
}

/// # Safety
/// `host` is null or as in `create`; `config` is valid for the call.
unsafe fn instance<P: Plugin>(host: *const Host, config: Bytes) -> Result<Instance<P>, Error> {
    // SAFETY: the caller's promise.
    let log = unsafe { HostLog::of(host) }?;
    // SAFETY: the caller's promise.
    let config: Config = parse(unsafe { octets(config) }?, "config")?;
    let features = Arc::new(config.host_features.iter().cloned().collect());
    let plugin = Arc::new(P::create(config)?);
    Ok(Instance {
        plugin,
        features,
        log: Arc::new(log),
        poisoned: Arc::new(AtomicBool::new(false)),
    })
}

/// Runs the plugin's code; a panic becomes an error, and poisons the instance.
fn contain(poisoned: Option<&AtomicBool>, run: impl FnOnce() -> Outcome) -> Outcome {
    if poisoned.is_some_and(|poisoned| poisoned.load(Ordering::Relaxed)) {
        let message = "the plugin panicked earlier: this instance is unusable";
        return Error::new(ErrorKind::Internal, message).into();
    }
    caught(run).unwrap_or_else(|Panicked| {
        if let Some(poisoned) = poisoned {
            poisoned.store(true, Ordering::Relaxed);
        }
        let message = match PLACE.take() {
            Some(place) => format!("the plugin panicked at {place}"),
            None => "the plugin panicked".to_owned(),
        };
        Error::new(ErrorKind::Internal, message).into()
    })
}

/// Drops what may hold the author's code; false if that panicked.
fn discard<T>(value: T) -> bool {
    caught(|| drop(value)).is_ok()
}

struct Panicked;

fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    let outer = INSIDE.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    INSIDE.set(outer);
    // The payload's drop may panic again, and its text may quote a secret: leave it.
    result.map_err(|payload| {
        std::mem::forget(payload);
        Panicked
    })
}

thread_local! {
    /// Whether this thread is in the author's code.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Where the author's code panicked last.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Stops panics of the author's code from being printed, since their text may quote a secret;
/// the place is kept for the error. For the library that the host loads, whose standard
/// library, and so whose hook, is its own.
pub fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread that is ending may no longer have these.
            if INSIDE.try_with(Cell::get).unwrap_or(true) {
                let place = info
                    .location()
                    .map(|at| format!("{}:{}", at.file(), at.line()));
                let _ = PLACE.try_with(|at| at.set(place));
            } else {
                others(info);
            }
        }));
    });
}

/// # Safety
/// `bytes` is valid for `'a`.
unsafe fn octets<'a>(bytes: Bytes) -> Result<&'a [u8], Error> {
    // SAFETY: the caller's promise.
    unsafe { bytes.as_slice() }.ok_or_else(|| {
        Error::new(
            ErrorKind::Protocol,
            "the host passed a length without octets",
        )
    })
}

/// Writes the outcome; gives the result code. A sink that refuses makes it
/// [`abi::E_INTERNAL`].
///
/// # Safety
/// `out` is null or a valid sink.
unsafe fn reply(out: *mut Sink, outcome: &Outcome) -> i32 {
    // SAFETY: the caller's promise.
    let Some(out) = (unsafe { out.as_ref() }) else {
        return abi::E_INTERNAL;
    };
    let (code, written) = match outcome {
        Outcome::Done(output) => (abi::DONE, write(out, output)),
        Outcome::Yield(action) => (abi::YIELD, write(out, action)),
        Outcome::Failed(error) => (error.kind.code(), write(out, &error.detail)),
    };
    if written { code } else { abi::E_INTERNAL }
}

/// As [`reply`]; hands `made` over through `place` if the result is `keep`.
///
/// # Safety
/// `out` is null or a valid sink, `place` is null or valid for writing.
unsafe fn reply_with<T>(
    out: *mut Sink,
    outcome: Outcome,
    place: *mut *mut c_void,
    made: Option<Box<T>>,
    keep: i32,
) -> i32 {
    let outcome = if place.is_null() {
        Error::new(ErrorKind::Protocol, "the host gave no place for the result").into()
    } else {
        outcome
    };
    // SAFETY: the caller's promise.
    let code = unsafe { reply(out, &outcome) };
    let kept = match made {
        Some(made) if code == keep => Box::into_raw(made).cast(),
        Some(made) => {
            discard(made);
            std::ptr::null_mut()
        }
        None => std::ptr::null_mut(),
    };
    if !place.is_null() {
        // SAFETY: not null; the caller's promise.
        unsafe { place.write(kept) };
    }
    code
}

/// Straight into the sink, so that no copy with secrets in it stays behind.
fn write(out: &Sink, json: &impl Serialize) -> bool {
    serde_json::to_writer(SinkWriter(out), json).is_ok()
}

struct SinkWriter<'a>(&'a Sink);

impl Write for SinkWriter<'_> {
    fn write(&mut self, chunk: &[u8]) -> std::io::Result<usize> {
        let refused = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let put = self.0.put.ok_or_else(refused)?;
        // SAFETY: a valid sink's own function and context, and octets that outlive the call.
        if unsafe { put(self.0.ctx, Bytes::new(chunk)) } == 0 {
            Ok(chunk.len())
        } else {
            Err(refused())
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The host's log, from `create` until `destroy`. The author may keep an
/// [`Io`](super::Io) for longer than that; what is logged then goes nowhere.
pub(super) struct HostLog(RwLock<Option<Line>>);

/// The host's function and its context.
struct Line {
    ctx: *mut c_void,
    log: unsafe extern "C" fn(*mut c_void, i32, Bytes),
}

// SAFETY: the header lets `log` be called with `ctx` from any thread.
unsafe impl Send for Line {}
// SAFETY: as above.
unsafe impl Sync for Line {}

impl HostLog {
    /// # Safety
    /// `host` is null, or points to a `pr_host` of at least the `size` it states.
    unsafe fn of(host: *const Host) -> Result<Self, Error> {
        if host.is_null() {
            return Err(Error::new(
                ErrorKind::Protocol,
                "the host did not introduce itself",
            ));
        }
        // SAFETY: not null; every version of `pr_host` has these two. No reference is made,
        // as the host's struct may be shorter than ours.
        let (size, version) = unsafe { ((*host).size, (*host).abi) };
        if version >> 16 != u32::from(abi::MAJOR) {
            let message = format!(
                "the host speaks version {} of the plugin ABI",
                version >> 16
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        if (size as usize) < offset_of!(Host, log) + size_of::<usize>() {
            return Ok(Self(RwLock::new(None)));
        }
        // SAFETY: `size` says that these two are there.
        let (ctx, log) = unsafe { ((*host).ctx, (*host).log) };
        Ok(Self(RwLock::new(log.map(|log| Line { ctx, log }))))
    }

    pub(super) fn write(&self, level: Level, message: &str) {
        if let Some(Line { ctx, log }) = &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            // SAFETY: the host's own function and context, alive until `destroy` returns,
            // which waits in `close` until this is done.
            unsafe { log(*ctx, level as i32, Bytes::new(message.as_bytes())) };
        }
    }

    /// Lets go of the host, once nobody is writing.
    fn close(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
