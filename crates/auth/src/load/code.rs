//! A plugin's code, in the process and for good.

use std::ffi::c_int;
use std::mem;
use std::ptr;
use std::time::Duration;

use jsonschema::Validator;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use postrider_plugin::abi::{self, AuthV1, EntryV1, MAGIC, MAJOR, SYMBOL};
use postrider_plugin::wire::Description;

use super::image::Image;
use super::{LoadError, describe};
use crate::call::{self, CallError, Functions};
use crate::scrub::one_line;

/// A library is never unloaded: threads of its own, thread-local destructors and a hung
/// call may need its code at any time. This flag holds even if somebody closes a handle.
#[cfg(target_os = "linux")]
const RTLD_NODELETE: c_int = 0x1000;
#[cfg(target_vendor = "apple")]
const RTLD_NODELETE: c_int = 0x80;
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
const RTLD_NODELETE: c_int = 0;

/// A loaded plugin, whichever file it came from.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) functions: Functions,
    pub(super) description: Description,
    /// Built once from the description's schema.
    pub(super) validator: Validator,
}

impl Code {
    /// Loads `image` and has it describe itself. Its constructors run here, so a thread and
    /// a deadline are given to all of it.
    pub(super) fn load(image: Image, deadline: Duration) -> Result<Self, LoadError> {
        let described = call::within(deadline, "load", move || {
            let functions = open(image)?;
            let (code, output) = functions.describe();
            Ok((functions, code, output))
        });
        let (functions, code, output) = match described {
            Ok(described) => described?,
            Err(CallError::NoThread(source)) => return Err(LoadError::NoThread(source)),
            Err(CallError::Overdue(_) | CallError::Stopping) => {
                return Err(LoadError::Unresponsive { deadline });
            }
        };
        let output = output.map_err(|_| LoadError::Description {
            reason: "it is larger than 1 MiB".into(),
        })?;
        if code != abi::DONE {
            return Err(LoadError::Description {
                reason: format!("describe returned {code}"),
            });
        }
        let (description, validator) = describe::parse(&output)?;
        Ok(Self {
            functions,
            description,
            validator,
        })
    }
}

/// Loads the library and finds its functions.
fn open(image: Image) -> Result<Functions, LoadError> {
    let flags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;
    // SAFETY: loading runs the library's constructors. The file passed the trust checks;
    // running its code is what the operator asked for.
    let library = unsafe { Library::open(Some(&image.path), flags) }.map_err(|error| {
        LoadError::NotLoadable {
            reason: one_line(&error.to_string(), 500),
        }
    })?;
    // The descriptor stays open with the library: glibc knows a library by the path it was
    // given, so a second plugin whose descriptor got the same number would be taken for
    // this one.
    mem::forget(image.file);
    let library = mem::ManuallyDrop::new(library);

    // SAFETY: the symbol's name carries the ABI's major version and so fixes its type.
    let entry = unsafe { library.get::<EntryV1>(SYMBOL) }.map_err(|_| LoadError::NoSymbol)?;
    // SAFETY: as above; the function takes nothing and returns a pointer.
    let table = unsafe { entry() };
    if table.is_null() || !table.is_aligned() {
        return Err(LoadError::NoTable);
    }

    // SAFETY: a table, of whatever version, starts with magic, version and size; they are
    // read one by one, for nothing is known yet of what follows.
    let (magic, major, size) = unsafe {
        (
            ptr::read(&raw const (*table).magic),
            ptr::read(&raw const (*table).major),
            ptr::read(&raw const (*table).size),
        )
    };
    if magic != MAGIC {
        return Err(LoadError::WrongMagic { found: magic });
    }
    if major != MAJOR {
        return Err(LoadError::WrongMajor { found: major });
    }
    let needed = size_of::<AuthV1>();
    let size = size as usize;
    if size < needed {
        return Err(LoadError::TooSmall {
            found: size,
            needed,
        });
    }

    // SAFETY: the table says it is at least this large, and its library stays loaded. A
    // plugin that follows the header but lies here cannot be told from one that does not.
    let table = unsafe { ptr::read(table) };
    // SAFETY: as above.
    unsafe { Functions::of(&table) }.map_err(|name| LoadError::NullFunction { name })
}
