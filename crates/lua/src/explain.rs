//! `pr.explain`: what a refusal means.

use std::sync::Arc;

use crate::backend::Backend;
use crate::call::Registrar;
use crate::json;

/// As much of a text is read: a bounce has its reason near its beginning.
const OCTETS: usize = 64 << 10;

/// Registers `pr.explain`.
pub(crate) fn register(registrar: &Registrar<'_>, backend: &Arc<dyn Backend>) -> mlua::Result<()> {
    let backend = Arc::clone(backend);
    registrar.add("explain", move |lua, mut args| {
        let text = args.octets("text")?;
        args.end()?;
        let octets = text.as_bytes();
        let read = String::from_utf8_lossy(&octets[..octets.len().min(OCTETS)]);
        Ok(json::to_lua(lua, &backend.explain(&read))?)
    })
}
