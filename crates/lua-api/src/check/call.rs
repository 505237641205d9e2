//! Calls: how many arguments, of which kind, and whether now is the time.

use full_moon::ast::{Expression, FunctionArgs, MethodCall, TableConstructor, Var};
use full_moon::tokenizer::{Position, TokenReference};

use super::literal::{Literal, text};
use super::scope::{Builtin, Known};
use super::walk::{Walker, unwrapped, word};
use crate::family::{AT_LOAD, CALLS_LATER};
use crate::item::{Field, Item, Kind, Type};
use crate::{EVENTS, items};

/// An argument as it is written.
#[derive(Clone, Copy)]
enum Argument<'a> {
    Expression(&'a Expression),
    Text(&'a TokenReference),
    Table(&'a TableConstructor),
}

fn arguments(args: &FunctionArgs) -> Vec<Argument<'_>> {
    match args {
        FunctionArgs::Parentheses { arguments, .. } => {
            arguments.iter().map(Argument::Expression).collect()
        }
        FunctionArgs::String(token) => vec![Argument::Text(token)],
        FunctionArgs::TableConstructor(table) => vec![Argument::Table(table)],
        _ => Vec::new(),
    }
}

impl<'a> Argument<'a> {
    fn literal(self) -> Literal<'a> {
        match self {
            Self::Expression(expression) => Literal::of(expression),
            Self::Text(token) => Literal::Text(token),
            Self::Table(table) => Literal::Table(table),
        }
    }

    fn text(self) -> Option<String> {
        match self.literal() {
            Literal::Text(token) => text(token),
            _ => None,
        }
    }

    /// Whether it may stand for any number of values.
    fn expands(self) -> bool {
        match self {
            Self::Expression(Expression::FunctionCall(_)) => true,
            Self::Expression(Expression::Symbol(token)) => {
                token.token().to_string().trim() == "..."
            }
            _ => false,
        }
    }
}

impl Walker<'_> {
    fn argument(&mut self, argument: Argument<'_>) -> Known {
        match argument {
            Argument::Expression(expression) => self.expression(expression),
            Argument::Text(_) => Known::Nothing,
            Argument::Table(table) => {
                self.table(table);
                Known::Nothing
            }
        }
    }

    /// `callee(…)`.
    pub(super) fn call(&mut self, callee: Known, args: &FunctionArgs, at: Position) -> Known {
        let arguments = arguments(args);
        match callee {
            Known::Item(item) => self.checked(item, &arguments, at),
            Known::Typed(Type::Function(_, returns)) => {
                self.others(&arguments);
                Known::Results(returns)
            }
            Known::Careless => {
                let before = self.findings.len();
                self.others(&arguments);
                self.findings.truncate(before);
                Known::Nothing
            }
            Known::Builtin(Builtin::Require) => {
                let module = arguments.first().and_then(|argument| argument.text());
                if module.as_deref() == Some("postrider") {
                    return Known::Module;
                }
                self.gathered.modules = true;
                self.others(&arguments);
                Known::Nothing
            }
            Known::Builtin(Builtin::Assert) => {
                let known = self.others(&arguments);
                known.first().copied().unwrap_or(Known::Nothing)
            }
            Known::Builtin(Builtin::Ipairs) => {
                let known = self.others(&arguments);
                match known.first().map(|known| known.one()) {
                    Some(Known::Typed(Type::List(of))) => Known::Items(*of),
                    _ => Known::Nothing,
                }
            }
            _ => {
                self.others(&arguments);
                Known::Nothing
            }
        }
    }

    fn others(&mut self, arguments: &[Argument<'_>]) -> Vec<Known> {
        arguments
            .iter()
            .map(|argument| self.argument(*argument))
            .collect()
    }

    /// `object:name(…)`.
    pub(super) fn method(&mut self, object: Known, method: &MethodCall) -> Known {
        let arguments = arguments(method.args());
        let at = method.name().token().start_position();
        let name = word(method.name());
        match object {
            Known::Typed(Type::Handle(handle)) => {
                match items().find(|item| item.member_of(handle) == Some(name.as_str())) {
                    Some(item) if matches!(item.kind, Kind::Function { .. }) => {
                        return self.checked(item, &arguments, at);
                    }
                    Some(item) => {
                        let message = format!("'{}' is a value: it is not called", item.name);
                        self.report(at, "script.unknown_method", message, None);
                    }
                    None => self.stranger(handle, &name, at),
                }
            }
            Known::Module | Known::Namespace(_) => {
                let message = format!("functions of the API are called with a dot: .{name:.60}(…)");
                self.report(at, "script.unknown_method", message, None);
            }
            Known::Typed(Type::Text) => self.library("string", &name, at),
            _ => {}
        }
        self.others(&arguments);
        Known::Nothing
    }

    /// A call of a function that is described.
    fn checked(&mut self, item: &'static Item, arguments: &[Argument<'_>], at: Position) -> Known {
        let Kind::Function {
            params, returns, ..
        } = &item.kind
        else {
            return Known::Nothing;
        };
        self.count(item, params, arguments, at);
        self.season(item, arguments, at);
        let event = arguments.first().and_then(|argument| argument.text());
        for (index, argument) in arguments.iter().enumerate() {
            let param = params
                .get(index)
                .or_else(|| params.last().filter(|param| param.name == "..."));
            let Some(param) = param else {
                self.argument(*argument);
                continue;
            };
            self.handed(item, param, *argument, event.as_deref());
            let place = format!("argument {} ({})", index + 1, param.name);
            match argument {
                Argument::Expression(expression) => {
                    self.held(param.what, param.optional, expression, at, &place);
                }
                _ => self.literal(param.what, param.optional, argument.literal(), at, &place),
            }
        }
        Known::Results(returns)
    }

    /// Goes over an argument; a function gets what the description says.
    fn handed(&mut self, item: &Item, param: &Field, argument: Argument<'_>, event: Option<&str>) {
        let later = CALLS_LATER.contains(&item.name);
        let gets: Vec<Known> = match param.what {
            Type::EventHandler => EVENTS
                .iter()
                .find(|known| Some(known.name) == event)
                .map(|event| vec![Known::Payload(event)])
                .unwrap_or_default(),
            Type::Function(fields, _) => fields
                .iter()
                .map(|field| Known::Typed(field.what))
                .collect(),
            _ => {
                self.argument(argument);
                return;
            }
        };
        let Argument::Expression(expression) = argument else {
            self.argument(argument);
            return;
        };
        match unwrapped(expression) {
            Expression::Function(function) => self.function(function.body(), &gets, false, later),
            Expression::Var(Var::Name(name)) if later => {
                if let Some(local) = self.scopes.find(&word(name)) {
                    let id = local.id;
                    self.gathered.later.insert(id);
                }
                self.expression(expression);
            }
            other => {
                self.expression(other);
            }
        }
    }

    fn count(&mut self, item: &Item, params: &[Field], arguments: &[Argument<'_>], at: Position) {
        let open = arguments.last().is_some_and(|argument| argument.expands());
        let needed = params
            .iter()
            .filter(|param| !param.optional && param.name != "..." && !takes_nil(param.what))
            .count();
        let given = arguments.len();
        let endless = params.last().is_some_and(|param| param.name == "...");
        let few = given < needed && !open;
        // A last argument that expands to nothing still counts as none.
        let many = given > params.len() && !endless && !(open && given == params.len() + 1);
        if few || many {
            let takes = match (needed, params.len()) {
                (_, _) if endless => format!("at least {needed}"),
                (least, most) if least == most => format!("{most}"),
                (least, most) => format!("{least} to {most}"),
            };
            let message = format!(
                "'{}' takes {takes} arguments, got {given}",
                item.full_name()
            );
            self.report(at, "script.argument_count", message, None);
        }
    }

    /// What is registered only while the script loads.
    fn season(&mut self, item: &Item, arguments: &[Argument<'_>], at: Position) {
        let named = CALLS_LATER.contains(&item.name)
            && arguments.iter().any(|argument| match argument.literal() {
                Literal::Table(table) => super::literal::keys(table).any(|key| key == "name"),
                _ => false,
            });
        if self.frame().later && (AT_LOAD.contains(&item.name) || named) {
            let message = format!(
                "'{}' works only while the script loads, not in a handler or a schedule",
                item.full_name()
            );
            self.report(at, "script.registration", message, None);
        }
    }
}

fn takes_nil(what: Type) -> bool {
    matches!(what, Type::Any)
}
