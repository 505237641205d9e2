//! What `export!` ships, called as C would: also by a host that breaks the rules.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod support;

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::time::Duration;

use postrider_plugin::abi::{self, AuthV1, Bytes, Host, Sink};
use postrider_plugin::wire::{Config, Description, ObtainInput, Op, Tokens};
use postrider_plugin::{Error, ErrorKind, Io, Level, Plugin};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::call;

thread_local! {
    /// An [`Io`] may be kept for longer than its flow: nothing in its type forbids it.
    static KEPT: RefCell<Option<Io>> = const { RefCell::new(None) };
}

struct Sample;

impl Plugin for Sample {
    fn describe() -> Description {
        Description {
            name: "sample".into(),
            version: "1.0.0".into(),
            summary: "logs, and waits".into(),
            ops: vec![Op::Obtain],
            mechanisms: vec![],
            config_schema: schemars::json_schema!({ "type": "object" }),
            hosts: vec![],
        }
    }

    fn create(config: Config) -> Result<Self, Error> {
        match config.account.as_str() {
            "refused" => Err(Error::new(ErrorKind::Config, "not this account")),
            "broken" => panic!("hunter2"),
            _ => Ok(Self),
        }
    }

    async fn obtain(&self, io: Io, _: ObtainInput) -> Result<Tokens, Error> {
        io.log(Level::Info, "waiting");
        KEPT.with_borrow_mut(|kept| *kept = Some(io.clone()));
        io.sleep(Duration::from_secs(1)).await?;
        Ok(Tokens::default())
    }
}

postrider_plugin::export!(Sample);

const SLEPT: &[u8] = br#"{"now_ms":2,"slept":{}}"#;
const INPUT: &[u8] = br#"{"now_ms":1}"#;

fn table() -> AuthV1 {
    // SAFETY: a static table.
    unsafe { *postrider_auth_v1() }
}

fn config(account: &str) -> Vec<u8> {
    let config = json!({ "account": account, "username": "u", "settings": {},
        "host_features": ["sleep_ms"] });
    config.to_string().into_bytes()
}

type Log = Mutex<Vec<String>>;

unsafe extern "C" fn keep(ctx: *mut c_void, level: i32, message: Bytes) {
    // SAFETY: every host here has a `Log` for a context.
    let log = unsafe { &*ctx.cast::<Log>() };
    // SAFETY: valid for the call.
    let message = String::from_utf8_lossy(unsafe { message.as_slice() }.unwrap());
    log.lock().unwrap().push(format!("{level} {message}"));
}

fn host(log: &Log) -> Host {
    Host {
        size: u32::try_from(size_of::<Host>()).unwrap(),
        abi: abi::ABI,
        ctx: std::ptr::from_ref(log).cast_mut().cast(),
        log: Some(keep),
    }
}

fn create(host: *const Host, config: &[u8]) -> (i32, Vec<u8>, *mut c_void) {
    let mut inst = null_mut();
    let create = table().create.unwrap();
    // SAFETY: every pointer is valid for the call, and `host` while the instance lives.
    let (code, out) = call(|sink| unsafe { create(host, Bytes::new(config), &raw mut inst, sink) });
    assert_eq!(code == abi::DONE, !inst.is_null());
    (code, out, inst)
}

fn begin(inst: *mut c_void, op: u32, input: Bytes) -> (i32, Vec<u8>, *mut c_void) {
    let mut flow = null_mut();
    let begin = table().begin.unwrap();
    // SAFETY: `inst` is null or alive; the rest is valid for the call, but for what a test
    // breaks in a way that can be seen.
    let (code, out) = call(|sink| unsafe { begin(inst, op, input, &raw mut flow, sink) });
    assert_eq!(code == abi::YIELD, !flow.is_null());
    (code, out, flow)
}

fn step(flow: *mut c_void, event: Bytes) -> (i32, Vec<u8>) {
    let step = table().step.unwrap();
    // SAFETY: as in `begin`.
    call(|sink| unsafe { step(flow, event, sink) })
}

fn end(flow: *mut c_void) {
    // SAFETY: null, or from `begin` and ended once.
    unsafe { table().end.unwrap()(flow) }
}

fn destroy(inst: *mut c_void) {
    // SAFETY: null, or from `create` and destroyed once.
    unsafe { table().destroy.unwrap()(inst) }
}

fn message(out: &[u8]) -> String {
    let detail: Value = serde_json::from_slice(out).unwrap();
    detail["message"].as_str().unwrap().to_owned()
}

#[test]
fn the_table_says_what_it_is() {
    let table = table();
    assert_eq!(
        (table.magic, table.major, table.minor),
        (abi::MAGIC, abi::MAJOR, abi::MINOR)
    );
    assert_eq!(table.size as usize, size_of::<AuthV1>());
    assert_eq!(table.flags, abi::THREADSAFE);
    assert_eq!(postrider_auth_v1(), postrider_auth_v1());
}

#[test]
fn an_instance_runs_from_create_to_destroy() {
    let log = Log::default();
    let host = host(&log);
    let (code, out, inst) = create(&raw const host, &config("a"));
    assert_eq!((code, &*out), (abi::DONE, &b"{}"[..]));
    let (code, out, flow) = begin(inst, Op::Obtain as u32, Bytes::new(INPUT));
    assert_eq!((code, &*out), (abi::YIELD, &br#"{"sleep_ms":1000}"#[..]));
    let (code, out) = step(flow, Bytes::new(SLEPT));
    assert_eq!((code, &*out), (abi::DONE, &br#"{"access_token":""}"#[..]));
    end(flow);
    destroy(inst);
    assert_eq!(*log.lock().unwrap(), ["3 waiting"]);
}

#[test]
fn an_io_that_outlives_its_instance_no_longer_reaches_the_host() {
    let log = Log::default();
    let host = host(&log);
    let (_, _, inst) = create(&raw const host, &config("a"));
    let (_, _, flow) = begin(inst, Op::Obtain as u32, Bytes::new(INPUT));
    let kept = KEPT.take().unwrap();
    end(flow);
    kept.log(Level::Info, "between flows");
    destroy(inst);
    kept.log(Level::Info, "too late");
    assert_eq!(*log.lock().unwrap(), ["3 waiting", "3 between flows"]);
}

#[test]
fn a_create_that_fails_says_why_and_leaves_nothing() {
    let log = Log::default();
    let host = host(&log);
    let (code, out, _) = create(&raw const host, &config("refused"));
    assert_eq!((code, &*message(&out)), (abi::E_CONFIG, "not this account"));
    let (code, out, _) = create(&raw const host, &config("broken"));
    assert_eq!(code, abi::E_INTERNAL);
    assert!(
        message(&out).starts_with("the plugin panicked at "),
        "{}",
        message(&out)
    );
    assert!(message(&out).contains("tests/abi.rs:") && !message(&out).contains("hunter2"));
    let (code, _, _) = create(&raw const host, b"{");
    assert_eq!(code, abi::E_PROTOCOL);
}

#[test]
fn nothing_is_read_of_a_host_beyond_the_size_it_states() {
    /// A host without `ctx` and `log`, but aligned as one.
    #[repr(C, align(8))]
    struct Short {
        size: u32,
        abi: u32,
    }
    let short = Short {
        size: 8,
        abi: abi::ABI,
    };
    let (code, _, inst) = create((&raw const short).cast(), &config("a"));
    assert_eq!(code, abi::DONE);
    let (code, _, flow) = begin(inst, Op::Obtain as u32, Bytes::new(INPUT));
    assert_eq!(code, abi::YIELD, "the log line went nowhere");
    end(flow);
    destroy(inst);
}

#[test]
fn a_host_of_another_major_version_is_refused() {
    let log = Log::default();
    let next = Host {
        abi: 2 << 16,
        ..host(&log)
    };
    let (code, out, _) = create(&raw const next, &config("a"));
    assert_eq!(code, abi::E_UNSUPPORTED);
    assert!(message(&out).contains("version 2"));
    let newer_minor = Host {
        abi: abi::ABI + 1,
        log: None,
        ..host(&log)
    };
    let (code, _, inst) = create(&raw const newer_minor, &config("a"));
    assert_eq!(code, abi::DONE);
    destroy(inst);
    assert_eq!(create(null(), &config("a")).0, abi::E_PROTOCOL);
}

#[test]
fn pointers_that_should_not_be_null_are_an_error() {
    let log = Log::default();
    let host = host(&log);
    let (_, _, inst) = create(&raw const host, &config("a"));
    let nothing = Bytes {
        ptr: null(),
        len: 0,
    };
    let lie = Bytes {
        ptr: null(),
        len: 5,
    };
    let op = Op::Obtain as u32;

    assert_eq!(begin(null_mut(), op, Bytes::new(INPUT)).0, abi::E_PROTOCOL);
    assert_eq!(begin(inst, op, nothing).0, abi::E_PROTOCOL);
    assert_eq!(begin(inst, op, lie).0, abi::E_PROTOCOL);
    assert_eq!(step(null_mut(), Bytes::new(SLEPT)).0, abi::E_PROTOCOL);
    let (_, _, flow) = begin(inst, op, Bytes::new(INPUT));
    assert_eq!(step(flow, lie).0, abi::E_PROTOCOL);
    end(flow);
    end(null_mut());
    destroy(null_mut());

    let AuthV1 {
        describe,
        create,
        begin,
        ..
    } = table();
    let config = config("a");
    // SAFETY: what is not null is valid for the call.
    unsafe {
        assert_eq!(describe.unwrap()(null_mut()), abi::E_INTERNAL);
        let (code, _) =
            call(|sink| create.unwrap()(&raw const host, Bytes::new(&config), null_mut(), sink));
        assert_eq!(code, abi::E_PROTOCOL);
        let (code, _) = call(|sink| begin.unwrap()(inst, op, Bytes::new(INPUT), null_mut(), sink));
        assert_eq!(code, abi::E_PROTOCOL);
    }
    destroy(inst);
}

#[test]
fn a_sink_that_refuses_makes_every_call_an_internal_error() {
    unsafe extern "C" fn refuse(_: *mut c_void, _: Bytes) -> i32 {
        1
    }
    let log = Log::default();
    let host = host(&log);
    let config = config("a");
    let (_, _, alive) = create(&raw const host, &config);
    let AuthV1 {
        describe,
        create,
        begin,
        step,
        ..
    } = table();
    for put in [Some(refuse as unsafe extern "C" fn(_, _) -> _), None] {
        let mut sink = Sink {
            ctx: null_mut(),
            put,
        };
        let sink = &raw mut sink;
        let mut place = alive;
        let (_, _, flow) = self::begin(alive, Op::Obtain as u32, Bytes::new(INPUT));
        // SAFETY: every pointer is valid for the call.
        unsafe {
            assert_eq!(describe.unwrap()(sink), abi::E_INTERNAL);
            let config = Bytes::new(&config);
            let code = create.unwrap()(&raw const host, config, &raw mut place, sink);
            assert_eq!((code, place.is_null()), (abi::E_INTERNAL, true));
            place = alive;
            let input = Bytes::new(INPUT);
            let code = begin.unwrap()(alive, Op::Obtain as u32, input, &raw mut place, sink);
            assert_eq!((code, place.is_null()), (abi::E_INTERNAL, true));
            assert_eq!(
                step.unwrap()(flow, Bytes::new(SLEPT), sink),
                abi::E_INTERNAL
            );
        }
        end(flow);
    }
    destroy(alive);
}

#[test]
fn flows_of_one_instance_run_on_several_threads() {
    struct Shared(*mut c_void);
    // SAFETY: the table says that it is thread-safe.
    unsafe impl Sync for Shared {}
    let log = Log::default();
    let host = host(&log);
    let shared = Shared(create(&raw const host, &config("a")).2);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let inst = &shared;
                for _ in 0..50 {
                    let (_, _, flow) = begin(inst.0, Op::Obtain as u32, Bytes::new(INPUT));
                    assert_eq!(step(flow, Bytes::new(SLEPT)).0, abi::DONE);
                    end(flow);
                }
            });
        }
    });
    destroy(shared.0);
    assert_eq!(log.lock().unwrap().len(), 200);
}

proptest! {
    #[test]
    fn arbitrary_octets_are_answered_with_an_error_that_can_be_read(
        op in any::<u32>(),
        octets in any::<Vec<u8>>(),
    ) {
        let log = Log::default();
        let host = host(&log);
        let (code, out, _) = create(&raw const host, &octets);
        prop_assert_eq!(code, abi::E_PROTOCOL);
        message(&out);
        let (_, _, inst) = create(&raw const host, &config("a"));
        let (code, out, _) = begin(inst, op % 6, Bytes::new(&octets));
        prop_assert!(code < 0);
        message(&out);
        let (_, _, flow) = begin(inst, Op::Obtain as u32, Bytes::new(INPUT));
        let (code, out) = step(flow, Bytes::new(&octets));
        prop_assert_eq!(code, abi::E_PROTOCOL);
        message(&out);
        end(flow);
        destroy(inst);
    }
}
