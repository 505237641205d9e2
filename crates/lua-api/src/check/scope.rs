//! What is known of values and names while the checker goes over a script.

use std::collections::BTreeSet;

use crate::item::{Event, Field, Item, Type};

/// What is known of a value.
#[derive(Clone, Copy)]
pub(super) enum Known {
    /// Nothing.
    Nothing,
    /// What `require "postrider"` answers.
    Module,
    /// `pr.http`.
    Namespace(&'static str),
    /// One of Lua's own libraries.
    Library(&'static str),
    /// One of Lua's own functions.
    Builtin(Builtin),
    /// A function that expects the one it is given to go wrong.
    Careless,
    /// A function of the API.
    Item(&'static Item),
    /// What a call answered.
    Results(&'static [Field]),
    /// A value of a described type.
    Typed(Type),
    /// What the handler of an event gets.
    Payload(&'static Event),
    /// What `ipairs` of such a list answers.
    Items(Type),
}

/// Functions of Lua that let what is known through.
#[derive(Clone, Copy)]
pub(super) enum Builtin {
    Require,
    Assert,
    Ipairs,
}

impl Known {
    /// As one value, where a call may have answered several.
    pub(super) fn one(self) -> Self {
        match self {
            Self::Results(fields) => fields
                .first()
                .map_or(Self::Nothing, |field| Self::Typed(field.what)),
            other => other,
        }
    }

    /// The values that it stands for at the end of a list.
    pub(super) fn all(self) -> Vec<Self> {
        match self {
            Self::Results(fields) => fields.iter().map(|field| Self::Typed(field.what)).collect(),
            other => vec![other],
        }
    }
}

/// What the first time over a script brings to light, for the second.
#[derive(Default)]
pub(super) struct Facts {
    /// Locals that are assigned after their declaration.
    pub(super) reassigned: BTreeSet<usize>,
    /// Locals whose function is called when the script is loaded no more.
    pub(super) later: BTreeSet<usize>,
    /// Globals that the main chunk makes.
    pub(super) globals: BTreeSet<String>,
    /// Globals that a function makes, and says so.
    pub(super) leaked: BTreeSet<String>,
    /// Names of fields that the script makes somewhere, in whatever table.
    pub(super) fields: BTreeSet<String>,
    /// `string.trim`, which the script adds to a library.
    pub(super) members: BTreeSet<(String, String)>,
    /// Globals may come from anywhere: the script uses `_G`, `_ENV` or `load`.
    pub(super) open: bool,
    /// Other modules may make globals.
    pub(super) modules: bool,
}

/// A local variable.
pub(super) struct Local {
    pub(super) name: String,
    /// The same each time over the script.
    pub(super) id: usize,
    pub(super) known: Known,
    pub(super) constant: bool,
}

/// The function that is gone over.
#[derive(Clone, Copy, Default)]
pub(super) struct Frame {
    /// It runs when the script is loaded no more.
    pub(super) later: bool,
    pub(super) varargs: bool,
    pub(super) loops: usize,
}

/// The locals that can be seen, innermost last.
#[derive(Default)]
pub(super) struct Scopes {
    locals: Vec<Local>,
    marks: Vec<usize>,
    next: usize,
}

impl Scopes {
    pub(super) fn open(&mut self) {
        self.marks.push(self.locals.len());
    }

    pub(super) fn close(&mut self) {
        if let Some(mark) = self.marks.pop() {
            self.locals.truncate(mark);
        }
    }

    /// Declares a local, and says its number.
    pub(super) fn declare(&mut self, name: String, known: Known, constant: bool) -> usize {
        let id = self.next;
        self.next += 1;
        self.locals.push(Local {
            name,
            id,
            known,
            constant,
        });
        id
    }

    pub(super) fn find(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    /// The names that can be seen.
    pub(super) fn names(&self) -> Vec<String> {
        self.locals.iter().map(|local| local.name.clone()).collect()
    }

    /// The number the next local gets.
    pub(super) fn next(&self) -> usize {
        self.next
    }
}
