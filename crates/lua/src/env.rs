//! `pr.env`: the variables of the environment that `[scripts] env` names.

use std::sync::Arc;

use crate::Failure;
use crate::backend::Backend;
use crate::call::Registrar;
use crate::fault::Fault;

/// Registers `pr.env`.
pub(crate) fn register(registrar: &Registrar<'_>, backend: &Arc<dyn Backend>) -> mlua::Result<()> {
    let allowed = backend.permissions().env;
    let backend = Arc::clone(backend);
    registrar.add("env", move |_, mut args| {
        let name = args.text("name")?;
        args.end()?;
        if allowed.contains(&name) {
            return Ok(backend.variable(&name));
        }
        let shown: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        let failure = Failure::new(
            "env.not_allowed",
            format!("scripts may not read the variable {shown}"),
        )
        .with_remedy(
            "add it to [scripts] env in the configuration; a secret is had by pr.secret.env instead",
        );
        // An answer of nil would look like a variable that is not set.
        Err(Fault::Raised(Box::new(failure)))
    })
}
