//! C sources to libraries, and a table driven as a host drives it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::env;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::process::Command;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use postrider_plugin::abi::{self, AuthV1, Bytes, EntryV1, Host, Sink};
use serde_json::Value;

/// The workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The C compiler with the flags every plugin is built with.
pub(crate) fn cc() -> Command {
    let mut command = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
    command.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]);
    command.arg("-I").arg(root().join("crates/plugin/include"));
    command
}

/// Runs a compiler to its end.
pub(crate) fn compile(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| {
        panic!(
            "{} did not start: {e} (a C compiler is a prerequisite)",
            command.get_program().display()
        )
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{errors}");
}

/// Builds a plugin of `plugins/examples` into `dir`, as its README says.
pub(crate) fn build(dir: &Path, source: &str) -> PathBuf {
    let source = root().join("plugins/examples").join(source);
    let library = dir.join(source.with_extension("so").file_name().unwrap());
    compile(
        cc().args(["-fPIC", "-shared", "-fvisibility=hidden", "-o"])
            .args([&library, &source]),
    );
    library
}

/// The table in a library that stays loaded, or the reason there is none.
pub(crate) fn load(library: &Path) -> Result<AuthV1, String> {
    // SAFETY: the libraries are this project's own, and run nothing when loaded.
    let library = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|e| reason(&e))?;
    // SAFETY: the type that the header gives the symbol.
    let entry = unsafe { library.get::<EntryV1>(abi::SYMBOL.to_bytes_with_nul()) };
    let entry = *entry.map_err(|e| reason(&e))?;
    std::mem::forget(library);
    // SAFETY: as above, and the library is never unloaded.
    let table = unsafe { entry() };
    // SAFETY: null or a static table.
    unsafe { table.as_ref() }
        .copied()
        .ok_or_else(|| "null".to_owned())
}

/// libloading keeps what the linker said in the source.
fn reason(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    source.unwrap_or_else(|| error.to_string())
}

/// An instance of a loaded plugin; it has no more care for order than the test has.
pub(crate) struct Instance {
    table: AuthV1,
    inst: *mut c_void,
    _host: Box<Host>,
}

impl Instance {
    /// As `create`; the error is the code and the detail.
    pub(crate) fn create(table: AuthV1, config: &Value) -> Result<Self, (i32, Value)> {
        let host = Box::new(Host {
            size: u32::try_from(size_of::<Host>()).unwrap(),
            abi: abi::ABI,
            ctx: std::ptr::null_mut(),
            log: None,
        });
        let config = config.to_string();
        let mut inst = std::ptr::null_mut();
        // SAFETY: valid for the call, and the host until after `destroy`.
        let (code, out) = call(|sink| unsafe {
            let config = Bytes::new(config.as_bytes());
            table.create.unwrap()(&raw const *host, config, &raw mut inst, sink)
        });
        match code {
            abi::DONE => Ok(Self {
                table,
                inst,
                _host: host,
            }),
            code => Err((code, json(&out))),
        }
    }

    /// As `begin`.
    pub(crate) fn begin(&self, op: u32, input: &Value) -> Flow<'_> {
        let input = input.to_string();
        let mut flow = std::ptr::null_mut();
        // SAFETY: valid for the call.
        let (code, out) = call(|sink| unsafe {
            let input = Bytes::new(input.as_bytes());
            self.table.begin.unwrap()(self.inst, op, input, &raw mut flow, sink)
        });
        let raw = (code == abi::YIELD).then_some(flow);
        Flow {
            instance: self,
            raw,
            code,
            out,
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: from `create`, and the flows borrow this.
        unsafe { self.table.destroy.unwrap()(self.inst) }
    }
}

/// A flow and what its last call came to.
pub(crate) struct Flow<'a> {
    instance: &'a Instance,
    raw: Option<*mut c_void>,
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
}

impl Flow<'_> {
    /// As `step`.
    pub(crate) fn step(&mut self, event: &Value) -> &mut Self {
        let event = event.to_string();
        let raw = self.raw.expect("the flow waits");
        // SAFETY: from `begin`, not ended; the rest is valid for the call.
        (self.code, self.out) = call(|sink| unsafe {
            self.instance.table.step.unwrap()(raw, Bytes::new(event.as_bytes()), sink)
        });
        self
    }

    /// What the sink holds.
    pub(crate) fn json(&self) -> Value {
        json(&self.out)
    }
}

impl Drop for Flow<'_> {
    fn drop(&mut self) {
        if let Some(raw) = self.raw {
            // SAFETY: from `begin`, ended once.
            unsafe { self.instance.table.end.unwrap()(raw) }
        }
    }
}

/// As `describe`.
pub(crate) fn describe(table: &AuthV1) -> (i32, Vec<u8>) {
    // SAFETY: a valid sink, for the call.
    call(|sink| unsafe { table.describe.unwrap()(sink) })
}

fn json(out: &[u8]) -> Value {
    let text = String::from_utf8_lossy(out);
    serde_json::from_slice(out).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Calls with a sink as the ABI says; gives the code and what was written.
pub(crate) fn call(call: impl FnOnce(*mut Sink) -> i32) -> (i32, Vec<u8>) {
    let mut out = Vec::new();
    let mut sink = Sink {
        ctx: (&raw mut out).cast(),
        put: Some(put),
    };
    let code = call(&raw mut sink);
    (code, out)
}

unsafe extern "C" fn put(ctx: *mut c_void, chunk: Bytes) -> i32 {
    // SAFETY: `call` made it, and is still running.
    let out = unsafe { &mut *ctx.cast::<Vec<u8>>() };
    // SAFETY: valid for the call, says the header.
    let chunk = unsafe { chunk.as_slice() }.expect("octets");
    if out.len() + chunk.len() > abi::SINK_CAP {
        return 1;
    }
    out.extend_from_slice(chunk);
    0
}
