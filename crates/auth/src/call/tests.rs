//! The rules of the ABI, watched from the plugin's side.

use std::sync::atomic::AtomicBool;
use std::sync::{Condvar, Mutex};

use postrider_plugin::abi::{MAGIC, MAJOR, MINOR, Sink, THREADSAFE};

use super::*;
use crate::scrub::Scrubber;

/// What a plugin sees, and how it behaves. Its address is instance and flow pointer both.
#[derive(Default)]
struct Witness {
    calls: Mutex<Vec<&'static str>>,
    changed: Condvar,
    inside: AtomicUsize,
    overlapped: AtomicBool,
    /// Calls wait until this is true.
    open: Mutex<bool>,
    opened: Condvar,
}

impl Witness {
    fn enter(&self, call: &'static str) {
        if self.inside.fetch_add(1, Ordering::SeqCst) > 0 {
            self.overlapped.store(true, Ordering::SeqCst);
        }
        self.calls.lock().unwrap().push(call);
        self.changed.notify_all();
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
        drop(open);
        thread::yield_now();
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn shut(&self) {
        *self.open.lock().unwrap() = false;
    }

    /// Waits until the plugin has been called like this.
    fn saw(&self, enough: impl Fn(&[&str]) -> bool) {
        let calls = self.calls.lock().unwrap();
        drop(self.changed.wait_while(calls, |calls| !enough(calls)));
    }

    fn count(&self, call: &str) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|seen| **seen == call).count()
    }
}

/// SAFETY of all that follows: the pointers are those of a leaked `Witness`.
fn witness(pointer: *mut c_void) -> &'static Witness {
    // SAFETY: see above.
    unsafe { &*pointer.cast::<Witness>() }
}

fn say(out: *mut Sink, text: &str) {
    // SAFETY: a sink of `collect`, during the call.
    let refused = unsafe { (*out).put.unwrap()((*out).ctx, Bytes::new(text.as_bytes())) };
    assert_eq!(refused, 0);
}

unsafe extern "C" fn describe(_: *mut Sink) -> i32 {
    abi::E_INTERNAL
}

unsafe extern "C" fn create(
    _: *const abi::Host,
    config: Bytes,
    inst: *mut *mut c_void,
    _: *mut Sink,
) -> i32 {
    // SAFETY: the config is the witness' address, written by `instance` below.
    unsafe {
        let config = std::str::from_utf8(config.as_slice().unwrap()).unwrap();
        let address: usize = config.parse().unwrap();
        *inst = ptr::with_exposed_provenance_mut(address);
    }
    abi::DONE
}

unsafe extern "C" fn destroy(inst: *mut c_void) {
    witness(inst).enter("destroy");
}

unsafe extern "C" fn begin(
    inst: *mut c_void,
    _: u32,
    _: Bytes,
    flow: *mut *mut c_void,
    out: *mut Sink,
) -> i32 {
    witness(inst).enter("begin");
    say(out, "{}");
    // SAFETY: the host's out pointer.
    unsafe { *flow = inst };
    abi::YIELD
}

unsafe extern "C" fn step(flow: *mut c_void, _: Bytes, out: *mut Sink) -> i32 {
    witness(flow).enter("step");
    say(out, "{}");
    abi::YIELD
}

unsafe extern "C" fn end(flow: *mut c_void) {
    witness(flow).enter("end");
}

async fn instance(flags: u32, deadline: Duration) -> (&'static Witness, Arc<Instance>) {
    let table = AuthV1 {
        magic: MAGIC,
        major: MAJOR,
        minor: MINOR,
        size: 0,
        flags,
        describe: Some(describe),
        create: Some(create),
        destroy: Some(destroy),
        begin: Some(begin),
        step: Some(step),
        end: Some(end),
    };
    let witness: &'static Witness = Box::leak(Box::default());
    let address = ptr::from_ref(witness).expose_provenance();
    // SAFETY: the table above follows the header.
    let functions = unsafe { Functions::of(&table) }.unwrap();
    let log = Log::new("watched", "ops", Arc::new(Scrubber::default()));
    let config = Zeroizing::new(address.to_string().into_bytes());
    let mut instance = Instance::create(functions, config, log, DEADLINE * 30)
        .await
        .unwrap()
        .unwrap();
    Arc::get_mut(&mut instance).unwrap().deadline = deadline;
    (witness, instance)
}

async fn begun(instance: &Arc<Instance>) -> Flow {
    let (flow, returned) = instance.begin(Op::Obtain, Octets::default()).await.unwrap();
    assert_eq!(returned.code, abi::YIELD);
    flow.unwrap()
}

#[test]
fn a_table_with_a_null_function_names_it() {
    let table = AuthV1 {
        magic: MAGIC,
        major: MAJOR,
        minor: MINOR,
        size: 0,
        flags: 0,
        describe: Some(describe),
        create: Some(create),
        destroy: Some(destroy),
        begin: Some(begin),
        step: None,
        end: Some(end),
    };
    // SAFETY: nothing of it is called.
    assert_eq!(unsafe { Functions::of(&table) }.unwrap_err(), "step");
}

#[tokio::test]
async fn a_dropped_flow_is_ended_once_and_the_instance_destroyed_after_it() {
    let (witness, instance) = instance(THREADSAFE, 30 * DEADLINE).await;
    witness.open();
    let flow = begun(&instance).await;
    let (flow, _) = flow.step(Octets::default()).await.unwrap();

    drop(instance);
    assert_eq!(witness.count("destroy"), 0, "the flow keeps it");
    drop(flow);
    tokio::task::spawn_blocking(|| witness.saw(|calls| calls.contains(&"destroy")))
        .await
        .unwrap();

    assert_eq!(
        *witness.calls.lock().unwrap(),
        ["begin", "step", "end", "destroy"]
    );
}

#[tokio::test]
async fn a_flow_cancelled_inside_a_step_is_ended_after_the_step_returned() {
    let (witness, instance) = instance(THREADSAFE, 30 * DEADLINE).await;
    witness.open();
    let flow = begun(&instance).await;

    witness.shut();
    let step = tokio::spawn(flow.step(Octets::default()));
    tokio::task::spawn_blocking(|| witness.saw(|calls| calls.contains(&"step")))
        .await
        .unwrap();
    step.abort();
    assert!(step.await.unwrap_err().is_cancelled());
    assert_eq!(witness.count("end"), 0, "not while the step runs");
    witness.open();
    tokio::task::spawn_blocking(|| witness.saw(|calls| calls.contains(&"end")))
        .await
        .unwrap();

    assert_eq!(*witness.calls.lock().unwrap(), ["begin", "step", "end"]);
}

#[test]
fn a_flow_dropped_outside_any_runtime_is_ended_too() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (witness, flow) = runtime.block_on(async {
        let (witness, instance) = instance(THREADSAFE, 30 * DEADLINE).await;
        witness.open();
        (witness, begun(&instance).await)
    });
    drop(runtime);

    drop(flow);
    witness.saw(|calls| calls == ["begin", "end", "destroy"]);
}

#[tokio::test]
async fn an_instance_that_is_not_threadsafe_is_never_called_twice_at_once() {
    for (flags, flows) in [(0, 16), (THREADSAFE, 1)] {
        let (witness, instance) = instance(flags, 30 * DEADLINE).await;
        witness.open();
        let flows = (0..flows).map(|_| async {
            let mut flow = begun(&instance).await;
            for _ in 0..5 {
                flow = flow.step(Octets::default()).await.unwrap().0;
            }
        });
        let flows = futures_util::future::join_all(flows).await.len();
        tokio::task::spawn_blocking(move || {
            let ended = |calls: &[&str]| calls.iter().filter(|call| **call == "end").count();
            witness.saw(|calls| ended(calls) == flows);
        })
        .await
        .unwrap();
        assert!(!witness.overlapped.load(Ordering::SeqCst));
    }
}

#[tokio::test]
async fn a_call_that_does_not_return_costs_its_instance_and_no_other() {
    let (stuck, instance_of_stuck) = instance(0, Duration::from_millis(10)).await;
    let (fine, instance_of_fine) = instance(0, 30 * DEADLINE).await;
    fine.open();

    // Two at once: the one in the plugin, and one that waits for its turn.
    let (first, second) = tokio::join!(
        instance_of_stuck.begin(Op::Obtain, Octets::default()),
        instance_of_stuck.begin(Op::Obtain, Octets::default()),
    );
    assert!(matches!(first, Err(CallError::Overdue("begin"))));
    assert!(matches!(second, Err(CallError::Overdue("an earlier call"))));
    assert!(instance_of_stuck.is_poisoned());
    let later = instance_of_stuck.begin(Op::Obtain, Octets::default()).await;
    assert!(matches!(later, Err(CallError::Overdue("an earlier call"))));

    begun(&instance_of_fine).await;

    // The lost thread returns after all: it was the only one, and what it made is neither
    // ended nor destroyed.
    stuck.open();
    let lost = Arc::downgrade(&instance_of_stuck);
    drop(instance_of_stuck);
    while lost.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*stuck.calls.lock().unwrap(), ["begin"]);
}

#[test]
fn what_a_call_wrote_is_not_shown() {
    let returned = Returned {
        code: abi::DONE,
        output: Ok(Zeroizing::new(b"canary".to_vec())),
    };
    let shown = format!("{returned:?}");
    assert!(shown.contains("6 octets"), "{shown}");
    assert!(!shown.contains("99, 97, 110"), "{shown}");
}

#[test]
fn work_that_is_late_is_reported_as_such_and_its_result_is_dropped() {
    struct Late(mpsc::Sender<()>);
    impl Drop for Late {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (release, released) = mpsc::channel::<()>();
    let (dropped, was_dropped) = mpsc::channel();

    let result = within(Duration::from_millis(1), "begin", move || {
        let _ = released.recv();
        Late(dropped)
    });
    assert!(matches!(result, Err(CallError::Overdue("begin"))));
    release.send(()).unwrap();
    assert_eq!(was_dropped.recv(), Ok(()));
}
