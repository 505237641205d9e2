//! How many files and connections the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes all that the system allows: each connection to a gateway is one, and the soft limit is
/// there for programs that cannot count beyond 1024, as this one can.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => tracing::debug!(limit = limit.maximum, "open files"),
        // What there is may be enough.
        Err(problem) => tracing::debug!("the limit of open files stays as it is: {problem}"),
    }
}
