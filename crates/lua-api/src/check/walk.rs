//! Goes over the syntax tree: statements, expressions, scopes.

use full_moon::ast::lua54::Attribute;
use full_moon::ast::{
    Assignment, Ast, BinOp, Block, Expression, Field as Entry, FunctionBody, GenericFor, If, Index,
    LastStmt, LocalAssignment, Parameter, Prefix, Stmt, Suffix, TableConstructor, UnOp, Var,
};
use full_moon::ast::{Call, punctuated::Punctuated};
use full_moon::node::Node as _;
use full_moon::tokenizer::{Position, TokenReference, TokenType};

use super::literal::{Literal, text};
use super::scope::{Builtin, Facts, Frame, Known, Scopes};
use super::{Finding, Validators, finding};
use crate::item::Type;

/// What is wrong with a script that parses.
pub(super) fn findings(ast: &Ast, validators: &Validators<'_>) -> Vec<Finding> {
    let first = Walker::new(validators, Facts::default()).over(ast);
    let second = Walker::new(validators, first.gathered).over(ast);
    second.findings
}

/// One time over the script. The first gathers what the second must know.
pub(super) struct Walker<'a> {
    pub(super) validators: &'a Validators<'a>,
    pub(super) facts: Facts,
    pub(super) gathered: Facts,
    pub(super) scopes: Scopes,
    frames: Vec<Frame>,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Walker<'a> {
    fn new(validators: &'a Validators<'a>, facts: Facts) -> Self {
        Self {
            validators,
            facts,
            gathered: Facts::default(),
            scopes: Scopes::default(),
            frames: vec![Frame {
                varargs: true,
                ..Frame::default()
            }],
            findings: Vec::new(),
        }
    }

    fn over(mut self, ast: &Ast) -> Self {
        self.block(ast.nodes());
        self
    }

    pub(super) fn report(
        &mut self,
        at: Position,
        code: &'static str,
        message: String,
        near: Option<&str>,
    ) {
        self.findings.push(finding(at, code, message, near));
    }

    /// The function that is gone over.
    pub(super) fn frame(&self) -> Frame {
        self.frames.last().copied().unwrap_or_default()
    }

    fn in_main_chunk(&self) -> bool {
        self.frames.len() == 1
    }

    fn block(&mut self, block: &Block) {
        self.scopes.open();
        self.statements(block);
        self.scopes.close();
    }

    fn statements(&mut self, block: &Block) {
        for statement in block.stmts() {
            self.statement(statement);
        }
        match block.last_stmt() {
            Some(LastStmt::Return(values)) => self.expressions(values.returns()),
            Some(LastStmt::Break(token)) if self.frame().loops == 0 => self.report(
                token.token().start_position(),
                "script.syntax",
                "break outside a loop".to_owned(),
                None,
            ),
            _ => {}
        }
    }

    fn expressions(&mut self, list: &Punctuated<Expression>) {
        for expression in list {
            self.expression(expression);
        }
    }

    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Assignment(assignment) => self.assignment(assignment),
            Stmt::Do(block) => self.block(block.block()),
            Stmt::FunctionCall(call) => {
                let suffixes: Vec<&Suffix> = call.suffixes().collect();
                self.chain(call.prefix(), &suffixes);
            }
            Stmt::FunctionDeclaration(function) => {
                let names: Vec<&TokenReference> = function.name().names().iter().collect();
                let method = function.name().method_name().is_some();
                if let ([name], false) = (names.as_slice(), method) {
                    self.assigned(name);
                } else if let Some(first) = names.first() {
                    let object = self.name(first);
                    let member = function.name().method_name().or(names.get(1).copied());
                    self.gathered.fields.extend(member.map(word));
                    if let (Known::Library(library), Some(member)) = (object, member) {
                        let member = (library.to_owned(), word(member));
                        self.gathered.members.insert(member);
                    }
                }
                self.function(function.body(), &[], method, false);
            }
            Stmt::GenericFor(generic) => self.generic_for(generic),
            Stmt::If(branches) => self.branches(branches),
            Stmt::LocalAssignment(local) => self.locals(local),
            Stmt::LocalFunction(local) => {
                let id = self
                    .scopes
                    .declare(word(local.name()), Known::Nothing, false);
                let later = self.facts.later.contains(&id);
                self.function(local.body(), &[], false, later);
            }
            Stmt::NumericFor(numeric) => {
                self.expression(numeric.start());
                self.expression(numeric.end());
                if let Some(step) = numeric.step() {
                    self.expression(step);
                }
                self.scopes.open();
                let name = word(numeric.index_variable());
                self.scopes.declare(name, Known::Nothing, false);
                self.looped(numeric.block());
                self.scopes.close();
            }
            // `until` sees the locals of the block.
            Stmt::Repeat(repeat) => {
                self.scopes.open();
                self.in_loop(|walker| walker.statements(repeat.block()));
                self.tested(repeat.until());
                self.scopes.close();
            }
            Stmt::While(repeated) => {
                self.tested(repeated.condition());
                self.looped(repeated.block());
            }
            _ => {}
        }
    }

    fn looped(&mut self, block: &Block) {
        self.in_loop(|walker| walker.block(block));
    }

    fn in_loop(&mut self, inside: impl FnOnce(&mut Self)) {
        if let Some(frame) = self.frames.last_mut() {
            frame.loops += 1;
        }
        inside(self);
        if let Some(frame) = self.frames.last_mut() {
            frame.loops -= 1;
        }
    }

    fn branches(&mut self, branches: &If) {
        self.tested(branches.condition());
        self.block(branches.block());
        for branch in branches.else_if().into_iter().flatten() {
            self.tested(branch.condition());
            self.block(branch.block());
        }
        if let Some(block) = branches.else_block() {
            self.block(block);
        }
    }

    fn generic_for(&mut self, generic: &GenericFor) {
        let mut known = Vec::new();
        for expression in generic.expressions() {
            known.push(self.expression(expression));
        }
        let item = match known.first() {
            Some(Known::Items(item)) => Known::Typed(*item),
            _ => Known::Nothing,
        };
        self.scopes.open();
        for (index, name) in generic.names().iter().enumerate() {
            let known = if index == 1 { item } else { Known::Nothing };
            self.declare(name, known, false);
        }
        self.looped(generic.block());
        self.scopes.close();
    }

    fn locals(&mut self, local: &LocalAssignment) {
        let mut values = Vec::new();
        let count = local.expressions().len();
        for (index, expression) in local.expressions().iter().enumerate() {
            // The function of a local that is handed on is known by the local's number.
            let later = local.names().len() == count
                && self.facts.later.contains(&(self.scopes.next() + index));
            let known = match expression {
                Expression::Function(function) => {
                    self.function(function.body(), &[], false, later);
                    Known::Nothing
                }
                other => self.expression(other),
            };
            if index + 1 == count {
                values.extend(known.all());
            } else {
                values.push(known.one());
            }
        }
        for ((index, name), attribute) in local.names().iter().enumerate().zip(local.attributes()) {
            let attribute = attribute.map(Attribute::name);
            if let Some(attribute) = attribute
                && !matches!(word(attribute).as_str(), "const" | "close")
            {
                self.report(
                    attribute.token().start_position(),
                    "script.syntax",
                    format!("unknown attribute '{:.40}'", word(attribute)),
                    None,
                );
            }
            let known = values.get(index).copied().unwrap_or(Known::Nothing);
            self.declare(name, known, attribute.is_some());
        }
    }

    fn declare(&mut self, name: &TokenReference, known: Known, constant: bool) {
        let known = if self.facts.reassigned.contains(&self.scopes.next()) {
            Known::Nothing
        } else {
            known
        };
        self.scopes.declare(word(name), known, constant);
    }

    fn assignment(&mut self, assignment: &Assignment) {
        self.expressions(assignment.expressions());
        for variable in assignment.variables() {
            match variable {
                Var::Name(name) => self.assigned(name),
                Var::Expression(place) => {
                    let suffixes: Vec<&Suffix> = place.suffixes().collect();
                    let Some((last, before)) = suffixes.split_last() else {
                        continue;
                    };
                    let object = self.chain(place.prefix(), before);
                    match last {
                        Suffix::Index(Index::Dot { name, .. }) => {
                            self.gathered.fields.insert(word(name));
                            self.given(object, name);
                            if let Known::Library(library) = object {
                                let member = (library.to_owned(), word(name));
                                self.gathered.members.insert(member);
                            }
                        }
                        Suffix::Index(Index::Brackets { expression, .. }) => {
                            if let Literal::Text(token) = Literal::of(expression) {
                                self.gathered.fields.extend(text(token));
                            }
                            self.expression(expression);
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }

    /// A name that gets another value.
    fn assigned(&mut self, token: &TokenReference) {
        let name = word(token);
        let at = token.token().start_position();
        if let Some(local) = self.scopes.find(&name) {
            let (id, constant) = (local.id, local.constant);
            self.gathered.reassigned.insert(id);
            if constant {
                let message = format!("'{name:.60}' is constant");
                self.report(at, "script.syntax", message, None);
            }
        } else if self.in_main_chunk() {
            self.gathered.globals.insert(name);
        } else if name == "_ENV" {
            self.gathered.open = true;
        } else if !self.facts.globals.contains(&name) && !self.facts.open {
            self.gathered.leaked.insert(name.clone());
            let message = format!(
                "'{name:.60}' becomes a global of the whole script: declare it with 'local'"
            );
            self.report(at, "script.global_assignment", message, None);
        }
    }

    /// A function and its parameters, of which `known` says what they are.
    pub(super) fn function(
        &mut self,
        body: &FunctionBody,
        known: &[Known],
        method: bool,
        later: bool,
    ) {
        let varargs = body
            .parameters()
            .iter()
            .any(|parameter| matches!(parameter, Parameter::Ellipsis(_)));
        let later = later || self.frame().later;
        self.frames.push(Frame {
            later,
            varargs,
            loops: 0,
        });
        self.scopes.open();
        if method {
            self.scopes
                .declare("self".to_owned(), Known::Nothing, false);
        }
        for (index, parameter) in body.parameters().iter().enumerate() {
            if let Parameter::Name(name) = parameter {
                self.declare(
                    name,
                    known.get(index).copied().unwrap_or(Known::Nothing),
                    false,
                );
            }
        }
        self.block(body.block());
        self.scopes.close();
        self.frames.pop();
    }

    /// An expression of which only matters whether it is there: `if jit then`.
    fn tested(&mut self, expression: &Expression) {
        if !matches!(expression, Expression::Var(Var::Name(_))) {
            self.expression(expression);
        }
    }

    pub(super) fn expression(&mut self, expression: &Expression) -> Known {
        match expression {
            Expression::BinaryOperator { lhs, binop, rhs } => {
                match binop {
                    BinOp::And(_) | BinOp::Or(_) | BinOp::TwoEqual(_) | BinOp::TildeEqual(_) => {
                        self.tested(lhs);
                    }
                    _ => {
                        self.expression(lhs);
                    }
                }
                self.expression(rhs);
                Known::Nothing
            }
            Expression::Parentheses { expression, .. } => self.expression(expression).one(),
            Expression::UnaryOperator { unop, expression } => {
                if matches!(unop, UnOp::Not(_)) {
                    self.tested(expression);
                } else {
                    self.expression(expression);
                }
                Known::Nothing
            }
            Expression::Function(function) => {
                self.function(function.body(), &[], false, false);
                Known::Nothing
            }
            Expression::FunctionCall(call) => {
                let suffixes: Vec<&Suffix> = call.suffixes().collect();
                self.chain(call.prefix(), &suffixes)
            }
            Expression::TableConstructor(table) => {
                self.table(table);
                Known::Nothing
            }
            Expression::Symbol(token) => {
                if token.token().to_string().trim() == "..." && !self.frame().varargs {
                    self.report(
                        token.token().start_position(),
                        "script.syntax",
                        "'...' outside a function that takes it".to_owned(),
                        None,
                    );
                }
                Known::Nothing
            }
            Expression::Var(Var::Name(name)) => self.name(name),
            Expression::Var(Var::Expression(place)) => {
                let suffixes: Vec<&Suffix> = place.suffixes().collect();
                self.chain(place.prefix(), &suffixes)
            }
            _ => Known::Nothing,
        }
    }

    pub(super) fn table(&mut self, table: &TableConstructor) {
        for entry in table.fields() {
            match entry {
                Entry::ExpressionKey { key, value, .. } => {
                    self.expression(key);
                    self.expression(value);
                }
                Entry::NameKey { value, .. } => {
                    self.expression(value);
                }
                Entry::NoKey(value) => {
                    self.expression(value);
                }
                _ => {}
            }
        }
    }

    /// `prefix.a[b]:c(…)(…)`.
    fn chain(&mut self, prefix: &Prefix, suffixes: &[&Suffix]) -> Known {
        let mut at = match prefix {
            Prefix::Name(name) => self.name(name),
            Prefix::Expression(expression) => match unwrapped(expression) {
                Expression::String(_) => Known::Typed(Type::Text),
                other => self.expression(other),
            },
            _ => Known::Nothing,
        };
        let mut place = prefix.start_position().unwrap_or_default();
        for (index, suffix) in suffixes.iter().enumerate() {
            let object = at.one();
            at = match suffix {
                Suffix::Index(Index::Dot { name, .. }) => {
                    place = name.token().start_position();
                    let called = matches!(suffixes.get(index + 1), Some(Suffix::Call(_)));
                    self.member(object, name, called)
                }
                Suffix::Index(Index::Brackets { expression, .. }) => {
                    self.expression(expression);
                    match object {
                        Known::Typed(Type::List(of)) => Known::Typed(*of),
                        _ => Known::Nothing,
                    }
                }
                Suffix::Call(Call::AnonymousCall(arguments)) => self.call(at, arguments, place),
                Suffix::Call(Call::MethodCall(method)) => {
                    place = method.name().token().start_position();
                    self.method(object, method)
                }
                _ => Known::Nothing,
            };
        }
        at
    }

    /// A name that is used.
    fn name(&mut self, token: &TokenReference) -> Known {
        let name = word(token);
        if let Some(local) = self.scopes.find(&name) {
            return local.known;
        }
        match name.as_str() {
            "_G" | "_ENV" | "load" => {
                self.gathered.open = true;
                Known::Nothing
            }
            "require" => Known::Builtin(Builtin::Require),
            "assert" => Known::Builtin(Builtin::Assert),
            "ipairs" | "pairs" => Known::Builtin(Builtin::Ipairs),
            _ => self.global(&name, token.token().start_position()),
        }
    }
}

/// The word of a token.
pub(super) fn word(token: &TokenReference) -> String {
    match token.token_type() {
        TokenType::Identifier { identifier } => identifier.to_string(),
        _ => token.token().to_string(),
    }
}

/// An expression without the parentheses around it.
pub(super) fn unwrapped(mut expression: &Expression) -> &Expression {
    while let Expression::Parentheses {
        expression: inner, ..
    } = expression
    {
        expression = inner;
    }
    expression
}
