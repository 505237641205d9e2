//! The C ABI, version 1: the Rust mirror of `include/postrider_auth.h`.
//!
//! The header is the authority, and says who owns each pointer, for how long, and on which
//! thread; a test compares every size, offset and constant here with what a C compiler makes
//! of it. Function pointers are `Option`s because a table comes from a foreign library, and
//! a null entry must be something one can see rather than undefined behaviour.
//!
//! Only types and numbers here: calling a table is the loader's business, filling one the
//! kit's.

use std::ffi::{CStr, c_void};
use std::time::Duration;

/// The one symbol of a plugin; a function of type [`EntryV1`].
pub const SYMBOL: &CStr = c"postrider_auth_v1";
/// First field of a table: `PRA1` in ASCII.
pub const MAGIC: u32 = 0x5052_4131;
/// Changes with the symbol's name.
pub const MAJOR: u16 = 1;
/// Grows when fields are appended.
pub const MINOR: u16 = 0;
/// What [`Host::abi`] holds: `MAJOR << 16 | MINOR`.
pub const ABI: u32 = (MAJOR as u32) << 16 | MINOR as u32;

/// Flag: different flows of one instance may run on different threads at once.
pub const THREADSAFE: u32 = 1;

/// Finished; the sink holds the result.
pub const DONE: i32 = 0;
/// The sink holds an action for the host to perform.
pub const YIELD: i32 = 1;
/// The settings are wrong: a person must edit them.
pub const E_CONFIG: i32 = -1;
/// A person must act: sign in, consent, answer.
pub const E_NEEDS_USER: i32 = -2;
/// The grant is void (RFC 6749 §5.2 `invalid_grant`).
pub const E_INVALID_GRANT: i32 = -3;
/// The same again later may work.
pub const E_TRANSIENT: i32 = -4;
/// The provider, or the host's policy, says no.
pub const E_DENIED: i32 = -5;
/// The other side broke a protocol.
pub const E_PROTOCOL: i32 = -6;
/// This plugin, host or server cannot do that.
pub const E_UNSUPPORTED: i32 = -7;
/// A fault in the plugin. Unknown negative results mean this too.
pub const E_INTERNAL: i32 = -8;

/// Octets a sink accepts in one call of the plugin; `put` refuses what goes beyond.
pub const SINK_CAP: usize = 1 << 20;
/// How long a call may take: a plugin that computes longer is stuck, since it waits nowhere.
pub const STEP_LIMIT: Duration = Duration::from_secs(2);

/// Octets borrowed for the duration of one call. `ptr` may be null when `len` is 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Bytes {
    /// First octet.
    pub ptr: *const u8,
    /// How many.
    pub len: usize,
}

impl Bytes {
    /// These octets, for as long as the caller keeps them.
    pub const fn new(octets: &[u8]) -> Self {
        Self {
            ptr: octets.as_ptr(),
            len: octets.len(),
        }
    }

    /// The octets, or `None` where no slice can look like this: null with a length, or a
    /// length beyond `isize::MAX`.
    ///
    /// # Safety
    /// `ptr` is null, or points to `len` initialised octets that stay unchanged for `'a`.
    pub const unsafe fn as_slice<'a>(self) -> Option<&'a [u8]> {
        if self.len == 0 {
            return Some(&[]);
        }
        if self.ptr.is_null() || self.len > isize::MAX as usize {
            return None;
        }
        // SAFETY: not null and not longer than an object may be; the rest is the caller's
        // promise.
        Some(unsafe { std::slice::from_raw_parts(self.ptr, self.len) })
    }
}

/// Where a call's output goes. Owned by the host, valid for the call it is passed to.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Sink {
    /// The host's; passed back to `put`.
    pub ctx: *mut c_void,
    /// Appends a copy of `chunk`. 0 when taken; anything else when refused: the call's
    /// output would exceed [`SINK_CAP`].
    pub put: Option<unsafe extern "C" fn(ctx: *mut c_void, chunk: Bytes) -> i32>,
}

/// What the host offers a plugin instance, from `create` until `destroy` returns. Later
/// versions append fields: read one only if `size` covers it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Host {
    /// `sizeof(pr_host)` when the host was built.
    pub size: u32,
    /// The host's [`ABI`].
    pub abi: u32,
    /// The host's; passed back to `log`.
    pub ctx: *mut c_void,
    /// Writes UTF-8 `message` to the host's log at `level` (1 error … 5 trace). From any
    /// thread.
    pub log: Option<unsafe extern "C" fn(ctx: *mut c_void, level: i32, message: Bytes)>,
}

/// A plugin: constants and six functions. Static; valid while the library is loaded, which
/// is for ever.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AuthV1 {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`MAJOR`].
    pub major: u16,
    /// The minor version the plugin was built against.
    pub minor: u16,
    /// `sizeof(pr_auth_v1)` when the plugin was built.
    pub size: u32,
    /// [`THREADSAFE`], or 0.
    pub flags: u32,
    /// Writes the description; needs no instance.
    pub describe: Option<unsafe extern "C" fn(out: *mut Sink) -> i32>,
    /// Makes an instance for one account.
    pub create: Option<
        unsafe extern "C" fn(
            host: *const Host,
            config: Bytes,
            inst: *mut *mut c_void,
            out: *mut Sink,
        ) -> i32,
    >,
    /// Takes an instance back, after all its flows ended.
    pub destroy: Option<unsafe extern "C" fn(inst: *mut c_void)>,
    /// Starts a flow.
    pub begin: Option<
        unsafe extern "C" fn(
            inst: *mut c_void,
            op: u32,
            input: Bytes,
            flow: *mut *mut c_void,
            out: *mut Sink,
        ) -> i32,
    >,
    /// Continues a flow with the answer to its action.
    pub step: Option<unsafe extern "C" fn(flow: *mut c_void, event: Bytes, out: *mut Sink) -> i32>,
    /// Ends a flow, finished or not.
    pub end: Option<unsafe extern "C" fn(flow: *mut c_void)>,
}

/// The type of the function called [`SYMBOL`].
pub type EntryV1 = unsafe extern "C" fn() -> *const AuthV1;

/// The negative results, by what the host can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The settings are wrong: a person must edit them.
    Config,
    /// A person must act: sign in, consent, answer.
    NeedsUser,
    /// The grant is void (RFC 6749 §5.2 `invalid_grant`).
    InvalidGrant,
    /// The same again later may work.
    Transient,
    /// The provider, or the host's policy, says no.
    Denied,
    /// The other side broke a protocol.
    Protocol,
    /// This plugin, host or server cannot do that.
    Unsupported,
    /// A fault in the plugin.
    Internal,
}

impl ErrorKind {
    /// The kind behind a result which is neither [`DONE`] nor [`YIELD`]; every number
    /// without a meaning is a fault in the plugin.
    pub const fn from_code(code: i32) -> Self {
        match code {
            E_CONFIG => Self::Config,
            E_NEEDS_USER => Self::NeedsUser,
            E_INVALID_GRANT => Self::InvalidGrant,
            E_TRANSIENT => Self::Transient,
            E_DENIED => Self::Denied,
            E_PROTOCOL => Self::Protocol,
            E_UNSUPPORTED => Self::Unsupported,
            _ => Self::Internal,
        }
    }

    /// The result code.
    pub const fn code(self) -> i32 {
        match self {
            Self::Config => E_CONFIG,
            Self::NeedsUser => E_NEEDS_USER,
            Self::InvalidGrant => E_INVALID_GRANT,
            Self::Transient => E_TRANSIENT,
            Self::Denied => E_DENIED,
            Self::Protocol => E_PROTOCOL,
            Self::Unsupported => E_UNSUPPORTED,
            Self::Internal => E_INTERNAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_its_code_and_strangers_are_internal() {
        for code in E_INTERNAL..=E_CONFIG {
            assert_eq!(ErrorKind::from_code(code).code(), code);
        }
        for stranger in [-9, 2, i32::MIN, i32::MAX] {
            assert_eq!(ErrorKind::from_code(stranger), ErrorKind::Internal);
        }
    }

    #[test]
    fn bytes_that_cannot_be_a_slice_are_none() {
        let null = std::ptr::null();
        let one = std::ptr::from_ref(&0_u8);
        // SAFETY: null, or too long to be read at all; `as_slice` reads nothing.
        unsafe {
            assert_eq!(Bytes { ptr: null, len: 0 }.as_slice(), Some(&[][..]));
            assert_eq!(Bytes { ptr: null, len: 1 }.as_slice(), None);
            let ptr = one;
            assert_eq!(
                Bytes {
                    ptr,
                    len: usize::MAX
                }
                .as_slice(),
                None
            );
        }
    }
}
