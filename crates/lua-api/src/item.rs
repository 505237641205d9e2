//! What a description is made of. Everything is `const`, so that a family is a table in the
//! binary and nothing has to be built before it can be asked.

/// Names that belong together: one page section, one file, one owner.
pub struct Family {
    /// The heading in the reference.
    pub heading: &'static str,
    /// What they have in common, as Markdown; may be empty.
    pub intro: &'static str,
    /// Its names, in the order of the reference.
    pub items: &'static [Item],
}

/// One name in the API.
pub struct Item {
    /// As a script writes it after `pr.`, or `account:send`, or `account.name`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// One paragraph.
    pub doc: &'static str,
    /// The version that brought it.
    pub since: &'static str,
    /// Lua that runs by itself; `pr` and `account` exist.
    pub example: &'static str,
}

impl Item {
    /// As a script writes it: `pr.http.get`, `account:send`, `account.name`.
    pub fn full_name(&self) -> String {
        if crate::HANDLES.iter().any(|handle| self.belongs_to(handle)) {
            self.name.to_owned()
        } else {
            format!("pr.{}", self.name)
        }
    }

    /// Whether it is a method or a field of such an object.
    pub fn belongs_to(&self, handle: &Handle) -> bool {
        self.member_of(handle).is_some()
    }

    /// What it is called in such an object, if it belongs to it.
    ///
    /// `secret.env` is a function of `pr.secret`: a handle's own fields are values.
    pub fn member_of(&self, handle: &Handle) -> Option<&'static str> {
        let rest = self.name.strip_prefix(handle.word)?;
        match (rest.as_bytes().first(), &self.kind) {
            (Some(b':'), _) | (Some(b'.'), Kind::Value(_)) => Some(&rest[1..]),
            _ => None,
        }
    }
}

/// What an [`Item`] is.
pub enum Kind {
    /// Something to call.
    Function {
        /// What goes in, in order. What may be left out comes last.
        params: &'static [Field],
        /// What comes out, in order.
        returns: &'static [Field],
        /// Whether other tasks run meanwhile.
        waits: bool,
        /// How it says that it failed. Misuse, which always raises, is not listed.
        errors: Errors,
    },
    /// A value.
    Value(Type),
}

/// How an operation that failed says so.
#[derive(Clone, Copy)]
pub enum Errors {
    /// It cannot fail, however it is used well.
    Never,
    /// It answers `nil, err`, where `err.code` is one of these.
    Returned(&'static [&'static [Error]]),
    /// It raises such a table, since a script cannot go on without the result.
    Raised(&'static [&'static [Error]]),
}

impl Errors {
    /// All codes, however they are told.
    pub fn codes(self) -> impl Iterator<Item = &'static Error> {
        let groups: &[&[Error]] = match self {
            Self::Never => &[],
            Self::Returned(groups) | Self::Raised(groups) => groups,
        };
        groups.iter().copied().flatten()
    }
}

/// A way in which an operation fails.
#[derive(Debug)]
pub struct Error {
    /// Stable; `smtp.*` stands for all codes of a page of their own.
    pub code: &'static str,
    /// When it happens.
    pub when: &'static str,
}

/// A parameter, a key of a table, or a result.
#[derive(Debug)]
pub struct Field {
    /// As it is written; `...` takes any number.
    pub name: &'static str,
    /// What it may be.
    pub what: Type,
    /// Whether it may be absent.
    pub optional: bool,
    /// What it is for.
    pub doc: &'static str,
}

/// A table with known keys: options, a message, a result.
#[derive(Debug)]
pub struct Record {
    /// As the stubs call it: `postrider.Message`.
    pub class: &'static str,
    /// What it is, for the stubs.
    pub doc: &'static str,
    /// Its keys. No other is accepted.
    pub fields: &'static [Field],
}

/// An object with methods: the items named `word:method` and `word.field`.
#[derive(Debug)]
pub struct Handle {
    /// As items name it: `account`.
    pub word: &'static str,
    /// As the stubs call it: `postrider.Account`.
    pub class: &'static str,
    /// What it is.
    pub doc: &'static str,
}

/// Something that `pr.on` can wait for.
pub struct Event {
    /// As `pr.on` takes it.
    pub name: &'static str,
    /// When it happens.
    pub doc: &'static str,
    /// What the handler gets, in one table.
    pub payload: &'static [Field],
}

/// What a value may be; finer than Lua's own types, so that a checker can look into literals.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// Anything.
    Any,
    /// `true` or `false`.
    Boolean,
    /// Only `true`.
    True,
    /// A number without a fraction.
    Integer,
    /// A number.
    Number,
    /// Text, or octets.
    Text,
    /// A value of the host with no methods, such as `pr.json.null`.
    Userdata,
    /// A table of whatever kind.
    Table,
    /// One of these words.
    Words(&'static [&'static str]),
    /// `"1h30m"`, or a number of seconds.
    Duration,
    /// Five fields, as cron takes them.
    Cron,
    /// A time zone: `"Europe/Paris"`.
    Zone,
    /// A point in time: seconds since 1970, or text as RFC 3339 has it.
    Time,
    /// The name of an account.
    AccountName,
    /// A table with the keys of `[account.NAME]`, and a `name`.
    AccountSettings,
    /// What `pr.on` takes: one of the events, or `app.` and a word.
    EventName,
    /// What `pr.emit` takes: `app.` and a word.
    AppEventName,
    /// A function: what it gets, and what it answers.
    Function(&'static [Field], &'static [Field]),
    /// What handles an event; gets the table the event has.
    EventHandler,
    /// A list.
    List(&'static Type),
    /// A table from text to this.
    Map(&'static Type),
    /// One of several.
    OneOf(&'static [Type]),
    /// A table with known keys.
    Record(&'static Record),
    /// An object with methods.
    Handle(&'static Handle),
    /// The table that says why something failed.
    Error,
}

/// A [`Field`] that must be there.
pub const fn field(name: &'static str, what: Type, doc: &'static str) -> Field {
    Field {
        name,
        what,
        optional: false,
        doc,
    }
}

/// A [`Field`] that may be absent.
pub const fn optional(name: &'static str, what: Type, doc: &'static str) -> Field {
    Field {
        name,
        what,
        optional: true,
        doc,
    }
}

/// An [`Error`].
pub const fn error(code: &'static str, when: &'static str) -> Error {
    Error { code, when }
}

/// What [`Type::Error`] is.
pub(crate) const ERROR: Record = Record {
    class: "postrider.Error",
    doc: "Why an operation failed. `tostring` of it is one line with the place and the remedy.",
    fields: &[
        field(
            "code",
            Type::Text,
            "Dotted and stable, such as `smtp.rejected`: match this, never the text.",
        ),
        field("message", Type::Text, "What happened."),
        optional("remedy", Type::Text, "What to do about it."),
        optional("who", Type::Text, "Who can."),
        field(
            "retryable",
            Type::Boolean,
            "Whether the same may succeed later.",
        ),
        optional("account", Type::Text, "The account's name."),
        optional("smtp", Type::Record(&REPLY), "The server's reply."),
        optional("at", Type::Text, "The line of the script."),
        optional("place", Type::Text, "Where in the dialogue."),
        optional("details", Type::Table, "More, by operation."),
    ],
};

/// What a server answered.
pub(crate) const REPLY: Record = Record {
    class: "postrider.Reply",
    doc: "What a server answered.",
    fields: &[
        field("code", Type::Integer, "Its code (RFC 5321)."),
        optional("enhanced", Type::Text, "Its enhanced code (RFC 3463)."),
        field("text", Type::Text, "Its words."),
    ],
};

/// The second result of what answers `nil, err`.
pub const ERR: Field = optional(
    "err",
    Type::Error,
    "Why not, where the first result is `nil`.",
);

impl Type {
    /// As LuaLS writes it.
    pub fn lua(&self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::Boolean => "boolean".to_owned(),
            Self::True => "true".to_owned(),
            Self::Integer => "integer".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Text | Self::AccountName | Self::AppEventName => "string".to_owned(),
            Self::AccountSettings => "postrider.AccountSettings".to_owned(),
            Self::Userdata => "userdata".to_owned(),
            Self::Table => "table".to_owned(),
            Self::Words(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                words.join("|")
            }
            Self::Duration => "postrider.Duration".to_owned(),
            Self::Cron => "postrider.Cron".to_owned(),
            Self::Zone => "postrider.Zone".to_owned(),
            Self::Time => "postrider.Time".to_owned(),
            Self::EventName => "postrider.EventName".to_owned(),
            Self::Function(params, returns) => {
                let params: Vec<String> = params.iter().map(Field::lua).collect();
                let returns: Vec<String> = returns.iter().map(Field::lua_type).collect();
                let colon = if returns.is_empty() { "" } else { ": " };
                format!("fun({}){colon}{}", params.join(", "), returns.join(", "))
            }
            Self::EventHandler => "fun(event: table)".to_owned(),
            Self::List(of) => format!("{}[]", of.enclosed()),
            Self::Map(of) => format!("table<string, {}>", of.lua()),
            Self::OneOf(types) => {
                let types: Vec<String> = types.iter().map(Type::in_list).collect();
                types.join("|")
            }
            Self::Record(record) => record.class.to_owned(),
            Self::Handle(handle) => handle.class.to_owned(),
            Self::Error => "postrider.Error".to_owned(),
        }
    }

    /// As LuaLS writes it among others: what a function answers ends with its parenthesis.
    fn in_list(&self) -> String {
        match self {
            Self::Function(..) => self.enclosed(),
            _ => self.lua(),
        }
    }

    /// As LuaLS writes it before a suffix.
    fn enclosed(&self) -> String {
        match self {
            Self::OneOf(_) | Self::Words(_) | Self::Function(..) | Self::EventHandler => {
                format!("({})", self.lua())
            }
            _ => self.lua(),
        }
    }
}

impl Field {
    /// As a parameter of a function type: `name: type`.
    fn lua(&self) -> String {
        let mark = if self.optional { "?" } else { "" };
        format!("{}{mark}: {}", self.name, self.what.in_list())
    }

    /// Its type as LuaLS writes it, with a `?` where it may be absent.
    pub fn lua_type(&self) -> String {
        if self.optional && !matches!(self.what, Type::Any) {
            format!("{}?", self.what.lua())
        } else {
            self.what.lua()
        }
    }
}

/// The names of fields.
pub fn names(fields: &'static [Field]) -> Vec<&'static str> {
    fields.iter().map(|field| field.name).collect()
}

/// The tables with known keys among these fields, and those within them, each once.
pub fn records(fields: &[Field]) -> Vec<&'static Record> {
    let mut found = Vec::new();
    for field in fields {
        collect(field.what, &mut found);
    }
    found
}

fn collect(what: Type, found: &mut Vec<&'static Record>) {
    match what {
        Type::List(of) | Type::Map(of) => collect(*of, found),
        Type::OneOf(types) => types.iter().for_each(|what| collect(*what, found)),
        Type::Function(params, returns) => params
            .iter()
            .chain(returns)
            .for_each(|field| collect(field.what, found)),
        Type::Record(record) if !found.iter().any(|known| known.class == record.class) => {
            found.push(record);
            for field in record.fields {
                collect(field.what, found);
            }
        }
        _ => {}
    }
}
