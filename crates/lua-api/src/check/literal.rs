//! Literals, against what they are for.

use full_moon::ast::{BinOp, Expression, Field as Entry, TableConstructor, UnOp};
use full_moon::tokenizer::{Position, StringLiteralQuoteType, TokenReference, TokenType};

use super::walk::{Walker, unwrapped, word};
use crate::item::{Field, Record, Type};
use crate::{EVENTS, nearest};

/// What an expression is, as far as it can be read off it.
#[derive(Clone, Copy)]
pub(super) enum Literal<'a> {
    Unknown,
    Nil,
    Boolean(bool),
    Number {
        whole: bool,
    },
    Text(&'a TokenReference),
    /// Text whose words are not known: `"a" .. b`.
    SomeText,
    Table(&'a TableConstructor),
    Function,
}

impl<'a> Literal<'a> {
    pub(super) fn of(expression: &'a Expression) -> Self {
        match unwrapped(expression) {
            Expression::String(token) => Self::Text(token),
            Expression::Number(token) => Self::Number {
                whole: is_whole(&token.token().to_string()),
            },
            Expression::TableConstructor(table) => Self::Table(table),
            Expression::Function(_) => Self::Function,
            Expression::Symbol(token) => match token.token().to_string().as_str() {
                "nil" => Self::Nil,
                "true" => Self::Boolean(true),
                "false" => Self::Boolean(false),
                _ => Self::Unknown,
            },
            Expression::UnaryOperator { unop, expression } => match (unop, Self::of(expression)) {
                (UnOp::Minus(_), number @ Self::Number { .. }) => number,
                _ => Self::Unknown,
            },
            Expression::BinaryOperator {
                binop: BinOp::TwoDots(_),
                ..
            } => Self::SomeText,
            _ => Self::Unknown,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Unknown => "something",
            Self::Nil => "nil",
            Self::Boolean(_) => "a boolean",
            Self::Number { .. } => "a number",
            Self::Text(_) | Self::SomeText => "a string",
            Self::Table(_) => "a table",
            Self::Function => "a function",
        }
    }
}

/// Whether a number has the value of an integer; hexadecimal ones are not looked into.
fn is_whole(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("0x")
        || text.starts_with("0X")
        || text
            .parse::<f64>()
            .is_ok_and(|number| number.fract() == 0.0)
}

/// What a string says, unless escapes are in it.
pub(super) fn text(token: &TokenReference) -> Option<String> {
    match token.token_type() {
        TokenType::StringLiteral {
            literal,
            quote_type,
            ..
        } if matches!(quote_type, StringLiteralQuoteType::Brackets) || !literal.contains('\\') => {
            Some(literal.to_string())
        }
        _ => None,
    }
}

/// The keys that a table names.
pub(super) fn keys(table: &TableConstructor) -> impl Iterator<Item = String> + '_ {
    table
        .fields()
        .iter()
        .filter_map(|entry| named(entry).map(|(name, ..)| name))
}

/// A type in words.
fn wanted(what: Type) -> String {
    match what {
        Type::Any => "anything".to_owned(),
        Type::Boolean => "true or false".to_owned(),
        Type::True => "true".to_owned(),
        Type::Integer => "a whole number".to_owned(),
        Type::Number => "a number".to_owned(),
        Type::Text | Type::AccountName | Type::EventName | Type::AppEventName => {
            "a string".to_owned()
        }
        Type::Words(words) => format!("one of {}", words.join(", ")),
        Type::Duration => "a span of time such as \"30s\", or seconds".to_owned(),
        Type::Cron => "a cron expression such as \"0 8 * * mon-fri\"".to_owned(),
        Type::Zone => "a time zone such as \"Europe/Paris\"".to_owned(),
        Type::Time => "a time as RFC 3339 has it, or seconds since 1970".to_owned(),
        Type::Function(..) | Type::EventHandler => "a function".to_owned(),
        Type::List(_) => "a list".to_owned(),
        Type::Table | Type::Map(_) | Type::Record(_) | Type::AccountSettings | Type::Error => {
            "a table".to_owned()
        }
        Type::Handle(handle) => format!("a {}", handle.class),
        Type::OneOf(types) => {
            let types: Vec<String> = types.iter().map(|what| wanted(*what)).collect();
            types.join(" or ")
        }
        Type::Userdata => "a value of the host".to_owned(),
    }
}

/// Whether such a literal can be meant at all.
fn accepts(what: Type, literal: Literal<'_>) -> bool {
    use Literal::{Boolean, Function, Nil, Number, SomeText, Table, Text, Unknown};
    match (what, literal) {
        (Type::Any, _) | (_, Unknown) => true,
        (Type::OneOf(types), _) => types.iter().any(|what| accepts(*what, literal)),
        (_, Nil) => false,
        (_, Boolean(value)) => match what {
            Type::Boolean => true,
            Type::True => value,
            _ => false,
        },
        (_, Number { whole }) => match what {
            Type::Integer => whole,
            _ => matches!(what, Type::Number | Type::Duration | Type::Time),
        },
        (_, Text(_) | SomeText) => matches!(
            what,
            Type::Text
                | Type::Words(_)
                | Type::Duration
                | Type::Cron
                | Type::Zone
                | Type::Time
                | Type::AccountName
                | Type::EventName
                | Type::AppEventName
        ),
        (_, Table(_)) => matches!(
            what,
            Type::Table
                | Type::Map(_)
                | Type::List(_)
                | Type::Record(_)
                | Type::AccountSettings
                | Type::Error
        ),
        (_, Function) => matches!(what, Type::Function(..) | Type::EventHandler),
    }
}

/// What an expression may be: itself, or what stands beside `and` and `or`.
pub(super) fn choices(expression: &Expression) -> Vec<&Expression> {
    let mut found = Vec::new();
    let mut left = vec![expression];
    while let Some(next) = left.pop() {
        match unwrapped(next) {
            Expression::BinaryOperator { lhs, binop, rhs } => match binop {
                BinOp::And(_) => left.push(rhs),
                BinOp::Or(_) => left.extend([&**lhs, &**rhs]),
                _ => found.push(next),
            },
            _ => found.push(next),
        }
    }
    found
}

/// The key of an entry that can be read, its value, and where it stands.
pub(super) fn named(entry: &Entry) -> Option<(String, &Expression, Position)> {
    match entry {
        Entry::NameKey { key, value, .. } => Some((word(key), value, key.token().start_position())),
        Entry::ExpressionKey { key, value, .. } => match unwrapped(key) {
            Expression::String(token) => {
                Some((text(token)?, value, token.token().start_position()))
            }
            _ => None,
        },
        _ => None,
    }
}

impl Walker<'_> {
    /// Holds what an expression may be against what it is for.
    pub(super) fn held(
        &mut self,
        what: Type,
        optional: bool,
        expression: &Expression,
        at: Position,
        place: &str,
    ) {
        let choices = choices(expression);
        if let [only] = choices.as_slice() {
            self.literal(what, optional, Literal::of(only), at, place);
            return;
        }
        for choice in choices {
            // `x and true`, `x or nil`: what decides is not known.
            match Literal::of(choice) {
                Literal::Nil | Literal::Boolean(_) => {}
                literal => self.literal(what, optional, literal, at, place),
            }
        }
    }

    /// Holds a literal against what it is for. `place` says which it is.
    pub(super) fn literal(
        &mut self,
        what: Type,
        optional: bool,
        literal: Literal<'_>,
        at: Position,
        place: &str,
    ) {
        if matches!(literal, Literal::Nil) && optional {
            return;
        }
        if !accepts(what, literal) {
            let message = format!("{place} must be {}, got {}", wanted(what), literal.kind());
            self.report(at, "script.wrong_type", message, None);
            return;
        }
        match what {
            Type::OneOf(types) => {
                let mut fitting = types.iter().filter(|what| accepts(**what, literal));
                match (fitting.next(), fitting.next(), literal) {
                    (Some(only), None, _) => {
                        self.literal(*only, optional, literal, at, place);
                    }
                    // A list with options beside its items.
                    (Some(Type::List(of)), Some(Type::Record(record)), Literal::Table(table)) => {
                        self.record(record, Some(**of), table, place);
                    }
                    _ => {}
                }
            }
            _ => match literal {
                Literal::Text(token) => {
                    let at = token.token().start_position();
                    if let Some(text) = text(token) {
                        self.words(what, &text, at, place);
                    }
                }
                Literal::Table(table) => self.entries(what, table, place),
                _ => {}
            },
        }
    }

    /// Text that says something.
    fn words(&mut self, what: Type, text: &str, at: Position, place: &str) {
        let known = self.validators;
        match what {
            Type::Words(words) if !words.contains(&text) => {
                let near = nearest(text, words.iter().copied());
                let message = format!("{place} must be {}, got '{text:.60}'", wanted(what));
                self.report(at, "script.unknown_word", message, near);
            }
            Type::Duration if !(known.duration)(text) => {
                let message = format!("{place} must be {}, got '{text:.60}'", wanted(what));
                self.report(at, "script.wrong_duration", message, None);
            }
            Type::Cron => {
                if let Err(why) = (known.cron)(text) {
                    let message = format!("{place}: no cron expression: {why}");
                    self.report(at, "script.wrong_cron", message, None);
                }
            }
            Type::Zone if !(known.zone)(text) => {
                let message = format!("no time zone is called '{text:.60}'");
                let near = nearest(text, known.zones.iter().map(String::as_str));
                self.report(at, "script.unknown_zone", message, near);
            }
            Type::Time if !(known.time)(text) => {
                let message = format!("{place} must be {}, got '{text:.60}'", wanted(what));
                self.report(at, "script.wrong_time", message, None);
            }
            Type::EventName => self.event(text, at),
            Type::AppEventName if !is_own_event(text) => self.own_event(text, at),
            Type::AccountName => {
                if let Some(accounts) = known.accounts
                    && !accounts.iter().any(|account| account == text)
                {
                    let near = nearest(text, accounts.iter().map(String::as_str));
                    let message = format!("no account is called '{text:.60}'");
                    self.report(at, "script.unknown_account", message, near);
                }
            }
            _ => {}
        }
    }

    fn event(&mut self, name: &str, at: Position) {
        if is_own_event(name) || EVENTS.iter().any(|event| event.name == name) {
            return;
        }
        if let Some(near) = nearest(name, EVENTS.iter().map(|event| event.name)) {
            let message = format!("there is no event '{name:.60}'");
            self.report(at, "script.unknown_event", message, Some(near));
        } else {
            self.own_event(name, at);
        }
    }

    fn own_event(&mut self, name: &str, at: Position) {
        let rest = name
            .split_once(['.', ':', '_'])
            .map_or(name, |(_, rest)| rest);
        let near = format!("app.{rest}");
        let message = format!("there is no event '{name:.60}': your own begin with 'app.'");
        self.report(at, "script.unknown_event", message, Some(&near));
    }

    fn entries(&mut self, what: Type, table: &TableConstructor, place: &str) {
        match what {
            Type::Record(record) => self.record(record, None, table, place),
            Type::AccountSettings => self.account(table),
            Type::List(of) => {
                let mut index = 0;
                for entry in table.fields() {
                    match entry {
                        Entry::NoKey(value) => {
                            index += 1;
                            let at = position(value);
                            let place = format!("{place}[{index}]");
                            self.held(*of, false, value, at, &place);
                        }
                        Entry::NameKey { key, .. } => {
                            let at = key.token().start_position();
                            let message =
                                format!("{place} is a list, and has no '{:.60}'", word(key));
                            self.report(at, "script.unknown_field", message, None);
                            return;
                        }
                        _ => {}
                    }
                }
            }
            Type::Map(of) => {
                for entry in table.fields() {
                    if let Some((name, value, at)) = named(entry) {
                        let place = format!("{place}.{name:.60}");
                        self.held(*of, true, value, at, &place);
                    }
                }
            }
            _ => {}
        }
    }

    fn record(
        &mut self,
        record: &'static Record,
        items: Option<Type>,
        table: &TableConstructor,
        place: &str,
    ) {
        let fields = record.fields;
        let mut open = false;
        for entry in table.fields() {
            if let Entry::NoKey(value) = entry {
                let at = position(value);
                if let Some(item) = items {
                    self.held(item, false, value, at, place);
                } else {
                    let message = format!("{place} has named fields only");
                    self.report(at, "script.unknown_field", message, None);
                }
                continue;
            }
            let Some((name, value, at)) = named(entry) else {
                open = true;
                continue;
            };
            if let Some(field) = fields.iter().find(|field| field.name == name) {
                let place = format!("field '{name}'");
                self.held(field.what, field.optional, value, at, &place);
            } else {
                let near = nearest(&name, fields.iter().map(|field| field.name));
                let message = format!("unknown field '{name:.60}'");
                self.report(at, "script.unknown_field", message, near);
            }
        }
        let named: Vec<String> = keys(table).collect();
        let missing =
            |field: &&Field| !field.optional && !named.iter().any(|key| key == field.name);
        if !open && let Some(field) = fields.iter().find(missing) {
            let at = table.braces().tokens().0.token().start_position();
            let message = format!("{place} lacks the field '{}'", field.name);
            self.report(at, "script.missing_field", message, None);
        }
    }
}

fn is_own_event(name: &str) -> bool {
    name.strip_prefix("app.")
        .is_some_and(|rest| !rest.is_empty())
}

pub(super) fn position(expression: &Expression) -> Position {
    use full_moon::node::Node as _;
    expression.start_position().unwrap_or_default()
}
