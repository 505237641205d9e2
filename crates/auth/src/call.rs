//! Calls across the ABI: the only place where a plugin's code runs.
//!
//! Each call gets a thread of its own and a deadline. Ownership keeps the rules of the ABI:
//! a flow travels into its call and comes back with the result, so it is never entered
//! twice, is ended exactly once and only between calls, and an instance outlives its flows.
//! A call that is overdue keeps what it was given for ever and poisons its instance: every
//! later call on it fails at once, and nothing else is affected.
//!
//! What the octets mean is for [`crate::flow`] to say.

mod log;
mod sink;

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use postrider_plugin::abi::{self, AuthV1, Bytes};
use postrider_plugin::wire::Op;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

pub(crate) use log::Log;

/// How long a call may take. A step computes and returns; whatever waits is an action.
pub(crate) const DEADLINE: Duration = abi::STEP_LIMIT;

/// Calls at once into one instance that allows more than one; each costs a thread.
const CALLS_AT_ONCE: usize = 32;

/// A plugin's output, wiped after use.
pub(crate) type Octets = Zeroizing<Vec<u8>>;

/// The six functions of a plugin, checked to be there.
#[derive(Clone, Copy)]
pub(crate) struct Functions {
    describe: unsafe extern "C" fn(*mut abi::Sink) -> i32,
    create: unsafe extern "C" fn(*const abi::Host, Bytes, *mut *mut c_void, *mut abi::Sink) -> i32,
    destroy: unsafe extern "C" fn(*mut c_void),
    begin: unsafe extern "C" fn(*mut c_void, u32, Bytes, *mut *mut c_void, *mut abi::Sink) -> i32,
    step: unsafe extern "C" fn(*mut c_void, Bytes, *mut abi::Sink) -> i32,
    end: unsafe extern "C" fn(*mut c_void),
    threadsafe: bool,
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions").finish_non_exhaustive()
    }
}

impl Functions {
    /// The functions of `table`, or the name of one that is null.
    ///
    /// # Safety
    /// The table's functions are those of a plugin that follows the header, and its library
    /// stays loaded for the rest of the process.
    pub(crate) unsafe fn of(table: &AuthV1) -> Result<Self, &'static str> {
        Ok(Self {
            describe: table.describe.ok_or("describe")?,
            create: table.create.ok_or("create")?,
            destroy: table.destroy.ok_or("destroy")?,
            begin: table.begin.ok_or("begin")?,
            step: table.step.ok_or("step")?,
            end: table.end.ok_or("end")?,
            threadsafe: table.flags & abi::THREADSAFE != 0,
        })
    }

    /// What the plugin writes of itself. Runs on the caller's thread.
    pub(crate) fn describe(&self) -> (i32, Result<Octets, Overflow>) {
        // SAFETY: `Functions::of` was promised a sound plugin; the sink lives for the call.
        sink::collect(|out| unsafe { (self.describe)(out) })
    }
}

/// A call wrote more than a sink takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overflow;

/// Why a call brought no result.
#[derive(Debug)]
pub(crate) enum CallError {
    /// It did not return in time, just now or earlier.
    Overdue(&'static str),
    /// The system gave no thread.
    NoThread(io::Error),
    /// The runtime is shutting down.
    Stopping,
}

/// What a call returned, and what it wrote.
pub(crate) struct Returned {
    pub(crate) code: i32,
    pub(crate) output: Result<Octets, Overflow>,
}

impl fmt::Debug for Returned {
    /// Without the output itself, which may hold tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Returned({}, ", self.code)?;
        match &self.output {
            Ok(octets) => write!(f, "{} octets)", octets.len()),
            Err(Overflow) => f.write_str("overflow)"),
        }
    }
}

/// Runs `work` on a thread of its own and waits for it until `deadline`.
///
/// The deadline is real time, not tokio's: a plugin's thread does not stop when a test
/// pauses the clock.
pub(crate) fn within<T: Send + 'static>(
    deadline: Duration,
    call: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CallError> {
    let (done, result) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name(format!("plugin {call}"))
        .spawn(move || {
            // Nobody listens any more when the call was overdue: what it made is dropped.
            let _ = done.send(work());
        })
        .map_err(CallError::NoThread)?;
    result
        .recv_timeout(deadline)
        .map_err(|_| CallError::Overdue(call))
}

/// A plugin's instance for one account.
pub(crate) struct Instance {
    functions: Functions,
    pointer: Opaque,
    log: Arc<Log>,
    deadline: Duration,
    /// A permit is the right to call; closed when the instance is poisoned.
    turns: Arc<Semaphore>,
    /// Flows begun and not ended.
    flows: AtomicUsize,
}

/// A pointer only the plugin understands.
struct Opaque(*mut c_void);

impl Opaque {
    fn get(&self) -> *mut c_void {
        self.0
    }
}

// SAFETY: the ABI lets an instance and its flows be used from any thread; that they are not
// used at once where that is not allowed is what `Instance::turns` is for.
unsafe impl Send for Opaque {}
// SAFETY: as above; a shared `Opaque` is only ever passed to the plugin.
unsafe impl Sync for Opaque {}

impl Instance {
    /// Makes an instance. `Err` in the inner result is the plugin's own refusal.
    pub(crate) async fn create(
        functions: Functions,
        config: Octets,
        log: Arc<Log>,
        deadline: Duration,
    ) -> Result<Result<Arc<Self>, Returned>, CallError> {
        let work = move || {
            let mut pointer = ptr::null_mut();
            let (code, output) = sink::collect(|out| {
                // SAFETY: `Functions::of` was promised a sound plugin. Host, config, out
                // pointer and sink live for the call, and `Instance` keeps the host until
                // `destroy` has returned.
                unsafe {
                    (functions.create)(log.host(), Bytes::new(&config), &raw mut pointer, out)
                }
            });
            if code != abi::DONE {
                return Err(Returned { code, output });
            }
            let calls = if functions.threadsafe {
                CALLS_AT_ONCE
            } else {
                1
            };
            Ok(Arc::new(Self {
                functions,
                pointer: Opaque(pointer),
                log,
                deadline,
                turns: Arc::new(Semaphore::new(calls)),
                flows: AtomicUsize::new(0),
            }))
        };
        tokio::task::spawn_blocking(move || within(deadline, "create", work))
            .await
            .unwrap_or(Err(CallError::Stopping))
    }

    /// Starts a flow; it is there if the plugin yields.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        op: Op,
        input: Octets,
    ) -> Result<(Option<Flow>, Returned), CallError> {
        let instance = Arc::clone(self);
        self.call("begin", move || {
            let mut pointer = ptr::null_mut();
            let (code, output) = sink::collect(|out| {
                // SAFETY: the instance was made by `create` and not yet destroyed; input, out
                // pointer and sink live for the call.
                unsafe {
                    (instance.functions.begin)(
                        instance.pointer.get(),
                        op as u32,
                        Bytes::new(&input),
                        &raw mut pointer,
                        out,
                    )
                }
            });
            let flow = (code == abi::YIELD).then(|| {
                instance.flows.fetch_add(1, Ordering::AcqRel);
                Flow {
                    pointer: Opaque(pointer),
                    instance,
                }
            });
            (flow, Returned { code, output })
        })
        .await
    }

    /// Whether a call was overdue.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.turns.is_closed()
    }

    /// Waits for a turn, then for the call.
    async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        call: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else {
            return Err(CallError::Overdue("an earlier call"));
        };
        let instance = Arc::clone(self);
        // On a blocking thread so that the verdict falls even when nobody awaits it any
        // more; it is held for the deadline at most.
        tokio::task::spawn_blocking(move || {
            let result = within(instance.deadline, call, move || {
                let result = work();
                drop(turn);
                result
            });
            if let Err(CallError::Overdue(_)) = result {
                instance.turns.close();
                instance.log.overdue(call);
            }
            result
        })
        .await
        .unwrap_or(Err(CallError::Stopping))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let log = Arc::clone(&self.log);
        if self.is_poisoned() || *self.flows.get_mut() != 0 {
            // A flow could not be ended: the instance stays, and with it what it may use.
            mem::forget(log);
            return;
        }
        let destroy = self.functions.destroy;
        let pointer = Opaque(self.pointer.get());
        let deadline = self.deadline;
        in_background(move || {
            let keep = Arc::clone(&log);
            let result = within(deadline, "destroy", move || {
                // SAFETY: made by `create`, destroyed once; every flow has ended, and every
                // call held the instance, so none is left. `keep` keeps the host alive.
                unsafe { destroy(pointer.get()) };
                drop(keep);
            });
            if result.is_err() {
                log.overdue("destroy");
            }
        });
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

/// A flow between two calls. Dropping it ends it.
pub(crate) struct Flow {
    pointer: Opaque,
    instance: Arc<Instance>,
}

impl Flow {
    /// Continues with the answer to the last action.
    pub(crate) async fn step(self, event: Octets) -> Result<(Self, Returned), CallError> {
        let instance = Arc::clone(&self.instance);
        instance
            .call("step", move || {
                let (code, output) = sink::collect(|out| {
                    // SAFETY: the flow was made by `begin`, has not ended and is in no other
                    // call, for it is owned here; event and sink live for the call.
                    unsafe {
                        (self.instance.functions.step)(self.pointer.get(), Bytes::new(&event), out)
                    }
                });
                (self, Returned { code, output })
            })
            .await
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if self.instance.is_poisoned() {
            return;
        }
        let instance = Arc::clone(&self.instance);
        let pointer = Opaque(self.pointer.get());
        let end = async move {
            let ending = Arc::clone(&instance);
            let result = instance
                .call("end", move || {
                    // SAFETY: made by `begin` and ended once, here; no call is inside it,
                    // for it was owned by who dropped it.
                    unsafe { (ending.functions.end)(pointer.get()) };
                    ending.flows.fetch_sub(1, Ordering::AcqRel);
                })
                .await;
            // Overdue is reported there; who dropped the flow is not here to be told.
            drop(result);
        };
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(end);
            }
            Err(_) => in_background(move || {
                if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() {
                    runtime.block_on(end);
                }
            }),
        }
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").finish_non_exhaustive()
    }
}

/// Runs `work` on its own thread, unwatched; without threads it does not run at all.
fn in_background(work: impl FnOnce() + Send + 'static) {
    let _ = thread::Builder::new()
        .name("plugin cleanup".into())
        .spawn(work);
}

#[cfg(test)]
mod tests;
