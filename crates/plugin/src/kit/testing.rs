//! Drives a plugin as a table of actions and answers: for its author's tests.
//!
//! Everything goes through the plugin's real vtable and JSON, but no library is loaded and
//! nothing is performed: the test is the host, its network and its clock.
//!
//! ```
//! # use postrider_plugin::{Error, Io, Plugin, wire::*};
//! # struct Echo;
//! # impl Plugin for Echo {
//! #     fn describe() -> Description {
//! #         serde_json::from_value(serde_json::json!({
//! #             "name": "echo", "version": "1", "ops": ["obtain"], "config_schema": {}
//! #         })).unwrap()
//! #     }
//! #     fn create(_: Config) -> Result<Self, Error> { Ok(Self) }
//! #     async fn obtain(&self, io: Io, _: ObtainInput) -> Result<Tokens, Error> {
//! #         Ok(Tokens { access_token: io.secret("password").await?, ..Tokens::default() })
//! #     }
//! # }
//! use postrider_plugin::kit::testing::{Driver, config};
//! use postrider_plugin::wire::{Action, Answer, ObtainInput, Op, Secret};
//! use serde_json::json;
//!
//! let driver = Driver::<Echo>::create(&config(json!({}))).unwrap();
//! let mut flow = driver.begin(Op::Obtain, &ObtainInput { now_ms: 1_000, refresh_token: None, scopes: vec![] });
//! assert!(matches!(flow.action(), Action::SecretGet(name) if name == "password"));
//! flow.answer(Answer::Secret(Secret::new("hunter2")));
//! assert_eq!(flow.tokens().access_token.expose(), "hunter2");
//! ```
//!
//! Panics are this module's way to fail a test.
#![allow(clippy::missing_panics_doc, reason = "stated above, once for all")]

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::entry::table;
use super::{Error, Plugin};
use crate::abi::{self, AuthV1, Bytes, ErrorKind, Host, Sink};
use crate::wire::{
    Action, Answer, Config, Description, Empty, Event, Failure, FailureKind, Op, Tokens,
};

/// A config for `create`: these settings, the account `test` of `user@example.org`, and a
/// host that can perform every action.
///
/// # Panics
/// If `settings` is not an object.
pub fn config(settings: Value) -> Config {
    let Value::Object(settings) = settings else {
        panic!("settings are an object, not {settings}");
    };
    Config {
        account: "test".into(),
        username: "user@example.org".into(),
        settings,
        secrets: vec![],
        host_features: Action::FEATURES.map(str::to_owned).to_vec(),
    }
}

/// One instance of the plugin `P`, and the host it sees.
pub struct Driver<P: Plugin> {
    instance: Arc<Instance>,
    plugin: PhantomData<P>,
}

impl<P: Plugin> Driver<P> {
    const TABLE: AuthV1 = table::<P>();

    /// What the plugin says of itself.
    pub fn describe() -> Description {
        let describe = Self::TABLE.describe.expect("the kit fills every entry");
        // SAFETY: a valid sink, for the call.
        let (code, out) = collect(|sink| unsafe { describe(sink) });
        assert_eq!(
            code,
            abi::DONE,
            "describe: {}",
            String::from_utf8_lossy(&out)
        );
        serde_json::from_slice(&out).expect("describe writes a description")
    }

    /// Makes an instance, as the host would.
    pub fn create(config: &Config) -> Result<Self, Error> {
        let config = serde_json::to_vec(config).expect("a config is plain data");
        let log = Arc::<Log>::default();
        #[allow(
            clippy::arc_with_non_send_sync,
            reason = "for a fixed place; `Instance`, which holds it, says that it is both"
        )]
        let host = Arc::new(Host {
            #[allow(clippy::cast_possible_truncation, reason = "a few dozen octets")]
            size: size_of::<Host>() as u32,
            abi: abi::ABI,
            ctx: Arc::as_ptr(&log).cast_mut().cast(),
            log: Some(keep),
        });
        let create = Self::TABLE.create.expect("the kit fills every entry");
        let mut inst = std::ptr::null_mut();
        // SAFETY: `host` and its context stay where they are until after `destroy`; the rest is
        // valid for the call.
        let (code, out) = collect(|sink| unsafe {
            create(Arc::as_ptr(&host), Bytes::new(&config), &raw mut inst, sink)
        });
        if code != abi::DONE {
            return Err(error(code, &out));
        }
        let instance = Arc::new(Instance {
            table: Self::TABLE,
            inst,
            log,
            _host: host,
        });
        Ok(Self {
            instance,
            plugin: PhantomData,
        })
    }

    /// Starts a flow and runs it to its first action, or to its end. The flow's clock starts
    /// at the input's `now_ms`.
    pub fn begin(&self, op: Op, input: &impl Serialize) -> Flow {
        let input = serde_json::to_value(input).expect("an input is plain data");
        let now_ms = input["now_ms"].as_u64().expect("an input has the time");
        Flow::begin(
            &self.instance,
            op as u32,
            input.to_string().as_bytes(),
            now_ms,
        )
    }

    /// As [`Driver::begin`], with whatever number and octets a broken host might send.
    pub fn begin_raw(&self, op: u32, input: &[u8]) -> Flow {
        Flow::begin(&self.instance, op, input, 0)
    }

    /// What the plugin logged, with its levels.
    pub fn log(&self) -> Vec<(i32, String)> {
        self.instance
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What a flow came to in its last call.
#[derive(Debug)]
pub enum Turn {
    /// It waits for the answer to this.
    Yield(Action),
    /// It ended with tokens.
    Tokens(Tokens),
    /// It ended, and has nothing to give (SASL, revoke).
    Done,
    /// It failed.
    Failed(Error),
}

/// One flow. Dropping it ends it, which is how a host cancels.
pub struct Flow {
    instance: Arc<Instance>,
    raw: *mut c_void,
    gives_tokens: bool,
    now_ms: u64,
    turn: Turn,
}

// SAFETY: the kit's flows are `Send` inside; the pointer is used by `&mut self` alone.
unsafe impl Send for Flow {}

impl Flow {
    /// What the flow came to.
    pub fn turn(&self) -> &Turn {
        &self.turn
    }

    /// The action it waits for.
    #[track_caller]
    pub fn action(&self) -> &Action {
        match &self.turn {
            Turn::Yield(action) => action,
            turn => panic!("the flow waits for nothing: {turn:?}"),
        }
    }

    /// The tokens it ended with.
    #[track_caller]
    pub fn tokens(&self) -> &Tokens {
        match &self.turn {
            Turn::Tokens(tokens) => tokens,
            turn => panic!("the flow gave no tokens: {turn:?}"),
        }
    }

    /// The error it ended with.
    #[track_caller]
    pub fn error(&self) -> &Error {
        match &self.turn {
            Turn::Failed(error) => error,
            turn => panic!("the flow did not fail: {turn:?}"),
        }
    }

    /// Answers the action; the clock stands still.
    pub fn answer(&mut self, answer: Answer) -> &mut Self {
        let event = Event {
            now_ms: self.now_ms,
            answer,
        };
        self.step_raw(&serde_json::to_vec(&event).expect("an event is plain data"))
    }

    /// Answers that the host could not perform the action.
    pub fn fail(&mut self, kind: FailureKind, message: &str) -> &mut Self {
        self.answer(Answer::Failed(Failure {
            kind,
            message: message.to_owned(),
        }))
    }

    /// Lets the pause the flow asked for pass, and says how long it was.
    #[track_caller]
    pub fn sleep(&mut self) -> Duration {
        let Action::SleepMs(ms) = *self.action() else {
            panic!("the flow does not sleep: {:?}", self.turn);
        };
        self.advance(Duration::from_millis(ms));
        self.answer(Answer::Slept(Empty {}));
        Duration::from_millis(ms)
    }

    /// Sets the clock forward.
    pub fn advance(&mut self, by: Duration) -> &mut Self {
        self.now_ms += u64::try_from(by.as_millis()).expect("not that far");
        self
    }

    /// Steps with whatever octets a broken host might send.
    pub fn step_raw(&mut self, event: &[u8]) -> &mut Self {
        let step = self.instance.table.step.expect("the kit fills every entry");
        let raw = self.raw;
        // SAFETY: the flow is alive (or null, which the kit refuses), and `&mut self` keeps
        // others out; the rest is valid for the call.
        let (code, out) = collect(|sink| unsafe { step(raw, Bytes::new(event), sink) });
        self.turn = turn(code, &out, self.gives_tokens);
        self
    }

    fn begin(instance: &Arc<Instance>, op: u32, input: &[u8], now_ms: u64) -> Self {
        let begin = instance.table.begin.expect("the kit fills every entry");
        let mut flow = std::ptr::null_mut();
        // SAFETY: the instance is alive; the rest is valid for the call.
        let (code, out) = collect(|sink| unsafe {
            begin(instance.inst, op, Bytes::new(input), &raw mut flow, sink)
        });
        assert_eq!(
            !flow.is_null(),
            code == abi::YIELD,
            "a flow exists while it waits"
        );
        let gives_tokens = matches!(Op::from_number(op), Some(Op::Login | Op::Obtain));
        let turn = turn(code, &out, gives_tokens);
        Self {
            instance: Arc::clone(instance),
            raw: flow,
            gives_tokens,
            now_ms,
            turn,
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let end = self.instance.table.end.expect("the kit fills every entry");
        // SAFETY: from `begin` or null; ended once.
        unsafe { end(self.raw) };
    }
}

type Log = Mutex<Vec<(i32, String)>>;

/// Destroyed after the last flow that holds it.
struct Instance {
    table: AuthV1,
    inst: *mut c_void,
    log: Arc<Log>,
    _host: Arc<Host>,
}

// SAFETY: the kit's instances are `Send` and `Sync` inside; the log is a mutex, and the
// host's struct is only read.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Drop for Instance {
    fn drop(&mut self) {
        let destroy = self.table.destroy.expect("the kit fills every entry");
        // SAFETY: from `create`; no flow is left, since each holds this.
        unsafe { destroy(self.inst) };
    }
}

fn turn(code: i32, out: &[u8], gives_tokens: bool) -> Turn {
    match code {
        abi::YIELD => Turn::Yield(serde_json::from_slice(out).expect("a yield is an action")),
        abi::DONE if gives_tokens => {
            Turn::Tokens(serde_json::from_slice(out).expect("the result is tokens"))
        }
        abi::DONE => {
            let result: Value = serde_json::from_slice(out).expect("the result is JSON");
            assert_eq!(result, json!({}), "the result is empty");
            Turn::Done
        }
        code => Turn::Failed(error(code, out)),
    }
}

/// A refused write leaves a torn detail behind; the code alone tells then.
fn error(code: i32, out: &[u8]) -> Error {
    let kind = ErrorKind::from_code(code);
    match serde_json::from_slice(out) {
        Ok(detail) => Error { kind, detail },
        Err(_) => Error::new(kind, "the plugin's error detail is not JSON"),
    }
}

/// Calls with a sink of the ABI's size; gives the result and what was written.
fn collect(call: impl FnOnce(*mut Sink) -> i32) -> (i32, Vec<u8>) {
    let mut out = Vec::new();
    let mut sink = Sink {
        ctx: (&raw mut out).cast(),
        put: Some(put),
    };
    let code = call(&raw mut sink);
    (code, out)
}

/// # Safety
/// `ctx` is a `Vec<u8>`, and `chunk` is valid for the call.
unsafe extern "C" fn put(ctx: *mut c_void, chunk: Bytes) -> i32 {
    // SAFETY: `collect` made it, and is still running.
    let out = unsafe { &mut *ctx.cast::<Vec<u8>>() };
    // SAFETY: the caller's promise.
    match unsafe { chunk.as_slice() } {
        Some(chunk) if out.len() + chunk.len() <= abi::SINK_CAP => {
            out.extend_from_slice(chunk);
            0
        }
        _ => 1,
    }
}

/// # Safety
/// `ctx` is a [`Log`], and `message` is valid for the call.
unsafe extern "C" fn keep(ctx: *mut c_void, level: i32, message: Bytes) {
    // SAFETY: `Driver::create` made it, and it lives until after `destroy`.
    let log = unsafe { &*ctx.cast::<Log>() };
    // SAFETY: the caller's promise.
    let message = unsafe { message.as_slice() }.unwrap_or_default();
    let line = (level, String::from_utf8_lossy(message).into_owned());
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(line);
}
