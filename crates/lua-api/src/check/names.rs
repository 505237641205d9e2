//! Names of the API and of Lua's libraries, and what to do without those that are not there.

use full_moon::tokenizer::{Position, TokenReference};

use super::scope::Known;
use super::walk::{Walker, word};
use crate::family::EXPECTS_MISTAKES;
use crate::item::{ERROR, Event, Field, Item, Kind, Type};
use crate::{HANDLES, SEND_FIELDS, STANDARD, items, nearest};

/// What Lua elsewhere has, a script here has not, and what is there instead.
const UNAVAILABLE: &[(&str, &str)] = &[
    (
        "io",
        "pr.fs reads and writes files, print writes to standard output",
    ),
    (
        "package",
        "require finds modules beside the script and in the configured lib directory",
    ),
    ("dofile", "use require"),
    ("loadfile", "use require"),
    ("os.execute", "pr.run runs a configured program"),
    (
        "os.exit",
        "return ends the script, error(…) ends it with a failure",
    ),
    (
        "os.getenv",
        "pr.env reads a configured variable, pr.secret.env refers to a secret one",
    ),
    ("os.remove", "a script removes no files"),
    ("os.rename", "a script renames no files"),
    ("os.tmpname", "a script has no temporary files"),
    ("os.setlocale", "the locale is always C"),
    ("string.dump", "bytecode is not loaded"),
    ("unpack", "write table.unpack"),
    ("loadstring", "write load"),
    ("setfenv", "Lua 5.4 has none"),
    ("getfenv", "Lua 5.4 has none"),
    ("table.getn", "write #list"),
    ("math.pow", "write x ^ y"),
    ("string.gfind", "write string.gmatch"),
];

fn advice(name: &str) -> Option<&'static str> {
    UNAVAILABLE
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, advice)| *advice)
}

/// What one of Lua's libraries has here.
pub(super) fn standard(library: &str) -> Option<(&'static str, &'static [&'static str])> {
    STANDARD
        .iter()
        .find(|(name, _)| *name == library)
        .map(|(name, members)| (*name, *members))
}

/// Whether an item is reached through `pr`.
fn is_own(item: &Item) -> bool {
    !HANDLES.iter().any(|handle| item.belongs_to(handle))
}

/// What the handler of an event gets.
fn payload(event: &'static Event) -> Vec<&'static [Field]> {
    let is_message = event.payload.iter().any(|field| field.name == "...");
    let message: &[Field] = if is_message { SEND_FIELDS } else { &[] };
    vec![event.payload, message]
}

impl Walker<'_> {
    /// A field that a hook gives a message: no other than those of a message is sent.
    pub(super) fn given(&mut self, object: Known, token: &TokenReference) {
        let Known::Payload(event) = object else {
            return;
        };
        let name = word(token);
        let fields = payload(event);
        let mut known = fields.iter().copied().flatten().map(|field| field.name);
        if !fields[1].is_empty() && !known.clone().any(|known| known == name) {
            let near = nearest(&name, &mut known);
            let message = format!("a message has no field '{name:.60}'");
            let at = token.token().start_position();
            self.report(at, "script.unknown_field", message, near);
        }
    }

    /// A global that is used.
    pub(super) fn global(&mut self, name: &str, at: Position) -> Known {
        if name != "_G"
            && let Some((library, _)) = standard(name)
        {
            return Known::Library(library);
        }
        let (_, known) = STANDARD[0];
        if known.contains(&name)
            || self.facts.globals.contains(name)
            || self.facts.leaked.contains(name)
            || self.facts.open
        {
            return Known::Nothing;
        }
        if let Some(advice) = advice(name) {
            let message = format!("a script has no '{name}': {advice}");
            self.report(at, "script.unavailable", message, None);
            return Known::Nothing;
        }
        let mut seen = self.scopes.names();
        seen.extend(self.facts.globals.iter().cloned());
        seen.extend(STANDARD.iter().map(|(library, _)| (*library).to_owned()));
        seen.extend(known.iter().map(|name| (*name).to_owned()));
        let near = nearest(name, seen.iter().map(String::as_str)).map(str::to_owned);
        // Another module may have made it.
        if near.is_some() || !self.facts.modules {
            let message = format!("unknown name '{name:.60}'");
            self.report(at, "script.unknown_global", message, near.as_deref());
        }
        Known::Nothing
    }

    /// `object.name`.
    pub(super) fn member(&mut self, object: Known, name: &TokenReference, called: bool) -> Known {
        let at = name.token().start_position();
        let name = word(name);
        match object {
            Known::Module => self.own("pr", "", &name, at),
            Known::Namespace(family) => {
                self.own(&format!("pr.{family}"), &format!("{family}."), &name, at)
            }
            Known::Library(library) => {
                self.library(library, &name, at);
                Known::Nothing
            }
            Known::Typed(Type::Handle(handle)) => {
                match items().find(|item| item.member_of(handle) == Some(name.as_str())) {
                    Some(item) if EXPECTS_MISTAKES.contains(&item.name) => Known::Careless,
                    Some(Item {
                        kind: Kind::Value(what),
                        ..
                    }) => Known::Typed(*what),
                    Some(item) => {
                        if called {
                            let message = format!(
                                "'{}' is called with a colon: {}:{name}(…)",
                                item.name, handle.word
                            );
                            self.report(at, "script.unknown_name", message, None);
                        }
                        Known::Nothing
                    }
                    None => {
                        self.stranger(handle, &name, at);
                        Known::Nothing
                    }
                }
            }
            Known::Payload(event) => self.field(&payload(event), event.name, &name, at),
            Known::Typed(Type::Record(record)) => {
                self.field(&[record.fields], record.class, &name, at)
            }
            Known::Typed(Type::Error) => self.field(&[ERROR.fields], ERROR.class, &name, at),
            _ => Known::Nothing,
        }
    }

    /// A key of a table that the host made.
    fn field(&mut self, fields: &[&'static [Field]], of: &str, name: &str, at: Position) -> Known {
        let fields = || fields.iter().copied().flatten();
        if let Some(field) = fields().find(|field| field.name == name) {
            return Known::Typed(field.what);
        }
        // A script may put more into the table; what it puts there elsewhere is not seen.
        let near = nearest(name, fields().map(|field| field.name));
        if !self.facts.fields.contains(name) && (near.is_some() || !self.facts.modules) {
            let message = format!("there is no '{name:.60}' in '{of}'");
            self.report(at, "script.unknown_field", message, near);
        }
        Known::Nothing
    }

    /// `pr.name`, or `pr.family.name`.
    fn own(&mut self, object: &str, prefix: &str, name: &str, at: Position) -> Known {
        let full = format!("{prefix}{name}");
        let own = || items().filter(|item| is_own(item));
        if let Some(item) = own().find(|item| item.name == full) {
            return match &item.kind {
                Kind::Function { .. } => Known::Item(item),
                Kind::Value(what) => Known::Typed(*what),
            };
        }
        let member = |item: &'static Item| item.name.strip_prefix(prefix)?.split('.').next();
        if prefix.is_empty()
            && let Some(family) = own()
                .filter_map(|item| item.name.split_once('.'))
                .map(|(family, _)| family)
                .find(|family| *family == name)
        {
            return Known::Namespace(family);
        }
        let near = nearest(name, own().filter_map(member));
        let message = format!("there is no '{object}.{name:.60}'");
        self.report(at, "script.unknown_name", message, near);
        Known::Nothing
    }

    /// `string.name`.
    pub(super) fn library(&mut self, library: &'static str, name: &str, at: Position) {
        let full = (library.to_owned(), name.to_owned());
        let Some((_, members)) = standard(library) else {
            return;
        };
        if members.contains(&name) || self.facts.members.contains(&full) || self.facts.open {
            return;
        }
        let full = format!("{library}.{name:.60}");
        if let Some(advice) = advice(&full) {
            let message = format!("a script has no '{full}': {advice}");
            self.report(at, "script.unavailable", message, None);
        } else {
            let near = nearest(name, members.iter().copied());
            let message = format!("there is no '{full}'");
            self.report(at, "script.unknown_global", message, near);
        }
    }

    /// A member that an object does not have.
    pub(super) fn stranger(&mut self, handle: &crate::Handle, name: &str, at: Position) {
        let known = items().filter_map(|item| item.member_of(handle));
        let near = nearest(name, known);
        let message = format!("'{}' has no '{name:.60}'", handle.class);
        self.report(at, "script.unknown_method", message, near);
    }
}
