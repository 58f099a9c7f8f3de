//! The parser: turns tokens into statements by Jinja2's grammar.

mod expression;

use std::rc::Rc;

use super::ast::{Body, Expr, For, Macro, Statement, StatementKind, Target, Uses};
use super::error::{Result, TemplateError, fail};
use super::lexer::{Token, tokenize};

/// Maximum nesting of blocks and brackets.
const MAX_NESTING: usize = 100;

/// Parses the statements of a template.
pub(super) fn parse(source: &str) -> Result<Body> {
    let tokens = tokenize(source)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        nesting: 0,
        loops: 0,
        conditional: false,
        unknown: None,
        uses: Uses::default(),
    };
    let body = parser.body(&[]).map_err(|error| error.at(parser.line()))?;
    parser.unknown.map_or(Ok(body), Err)
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    nesting: usize,
    /// Number of enclosing loops within the macro.
    loops: usize,
    /// Whether the statement is within a condition. There an unknown filter or test is an error
    /// only when it is reached.
    conditional: bool,
    /// The error of the first unknown filter or test outside of conditions.
    unknown: Option<TemplateError>,
    /// The special names used so far.
    uses: Uses,
}

impl Parser {
    fn line(&self) -> usize {
        self.tokens.get(self.at.min(self.tokens.len() - 1)).map_or(0, |(_, line)| *line)
    }

    fn token(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn next(&mut self) -> Token {
        let token = self.token().clone();
        self.at += 1;
        token
    }

    fn is_operator(&self, operator: &str) -> bool {
        matches!(self.token(), Token::Operator(found) if *found == operator)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.token(), Token::Name(found) if &**found == name)
    }

    fn skip_operator(&mut self, operator: &str) -> bool {
        let found = self.is_operator(operator);
        self.at += usize::from(found);
        found
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, expected: &Token) -> Result<()> {
        if self.token() == expected {
            self.at += 1;
            return Ok(());
        }
        Err(self.unexpected(&describe(expected)))
    }

    fn expect_operator(&mut self, operator: &'static str) -> Result<()> {
        self.expect(&Token::Operator(operator))
    }

    fn unexpected(&self, expected: &str) -> TemplateError {
        TemplateError::new(format!("expected {expected}, not {}", describe(self.token())))
    }

    fn name(&mut self) -> Result<Rc<str>> {
        match self.next() {
            Token::Name(name) => Ok(name),
            _ => {
                self.at -= 1;
                Err(self.unexpected("a name"))
            }
        }
    }

    /// Parses something one level deeper.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.nesting >= MAX_NESTING {
            return fail(format!("blocks and brackets are nested more than {MAX_NESTING} deep"));
        }
        self.nesting += 1;
        let result = parse(self);
        self.nesting -= 1;
        result
    }

    /// Parses statements up to a tag with one of these names, which is left to the caller. Without
    /// names, parses to the end of the template.
    fn body(&mut self, ends: &[&str]) -> Result<Body> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let kind = match self.next() {
                Token::Text(text) => StatementKind::Text(text),
                Token::OutputBegin => {
                    let value = self.tuple(&[])?;
                    self.expect(&Token::OutputEnd)?;
                    StatementKind::Output(value)
                }
                Token::BlockBegin => {
                    if ends.iter().any(|end| self.is_name(end)) {
                        return Ok(body);
                    }
                    let kind = self.nested(Self::statement);
                    kind.map_err(|error| error.at(line))?
                }
                _ if ends.is_empty() => return Ok(body),
                _ => {
                    return fail(format!(
                        "the template ends without {{% {} %}}",
                        ends.join(" or ")
                    ));
                }
            };
            body.push(Statement { line, kind });
        }
    }

    /// Parses the body of a block and its end tag.
    fn block(&mut self, end: &str) -> Result<Body> {
        let body = self.body(&[end])?;
        self.at += 1;
        self.expect(&Token::BlockEnd)?;
        Ok(body)
    }

    /// Parses the body of a block and its end tag, as if outside of any condition.
    fn own_block(&mut self, end: &str) -> Result<Body> {
        let before = std::mem::replace(&mut self.conditional, false);
        let body = self.block(end);
        self.conditional = before;
        body
    }

    /// Parses the rest of a tag, and its body if it has one.
    fn statement(&mut self) -> Result<StatementKind> {
        let tag = self.name()?;
        let kind = match &*tag {
            "if" => return self.conditional(),
            "for" => return self.for_loop(),
            "set" => return self.set(),
            "macro" => return self.macro_definition(),
            "call" => return self.call_block(),
            "with" => {
                let mut bindings = Vec::new();
                while *self.token() != Token::BlockEnd {
                    if !bindings.is_empty() {
                        self.expect_operator(",")?;
                    }
                    let target = self.target(false)?;
                    self.expect_operator("=")?;
                    bindings.push((target, self.expression()?));
                }
                self.at += 1;
                return Ok(StatementKind::With { bindings, body: self.own_block("endwith")? });
            }
            // Marks the assistant's turns for training.
            "generation" => {
                self.expect(&Token::BlockEnd)?;
                let body = self.own_block("endgeneration")?;
                return Ok(StatementKind::With { bindings: Vec::new(), body });
            }
            "filter" => {
                let name = self.name()?;
                let mut filters = vec![self.filter(name)?];
                while self.skip_operator("|") {
                    let name = self.name()?;
                    filters.push(self.filter(name)?);
                }
                self.expect(&Token::BlockEnd)?;
                return Ok(StatementKind::Filter { filters, body: self.own_block("endfilter")? });
            }
            "print" => {
                let mut parts = vec![self.expression()?];
                while self.skip_operator(",") {
                    parts.push(self.expression()?);
                }
                StatementKind::Output(Expr::Concat(parts))
            }
            "break" | "continue" if self.loops == 0 => {
                return fail(format!("{{% {tag} %}} outside of a loop"));
            }
            "break" => StatementKind::Break,
            "continue" => StatementKind::Continue,
            "include" | "import" | "from" | "extends" => {
                while !matches!(self.token(), Token::BlockEnd | Token::End) {
                    self.at += 1;
                }
                StatementKind::Unsupported(tag)
            }
            "block" | "autoescape" => return fail(format!("{{% {tag} %}} is not supported")),
            _ => return fail(format!("{{% {tag} %}} is not a tag that belongs here")),
        };
        self.expect(&Token::BlockEnd)?;
        Ok(kind)
    }

    fn conditional(&mut self) -> Result<StatementKind> {
        let before = std::mem::replace(&mut self.conditional, true);
        let result = self.branches();
        self.conditional = before;
        result
    }

    fn branches(&mut self) -> Result<StatementKind> {
        let mut branches = Vec::new();
        loop {
            let condition = self.tuple_without_condition(&[])?;
            self.expect(&Token::BlockEnd)?;
            let body = self.body(&["elif", "else", "endif"])?;
            branches.push((condition, body));
            if self.skip_name("elif") {
                continue;
            }
            let otherwise = if self.skip_name("else") {
                self.expect(&Token::BlockEnd)?;
                self.body(&["endif"])?
            } else {
                Vec::new()
            };
            self.at += 1;
            self.expect(&Token::BlockEnd)?;
            return Ok(StatementKind::If { branches, otherwise });
        }
    }

    fn for_loop(&mut self) -> Result<StatementKind> {
        let target = self.targets(false, "in")?;
        if !self.skip_name("in") {
            return Err(self.unexpected("in"));
        }
        let iterable = self.tuple_without_condition(&["recursive", "if"])?;
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.expect(&Token::BlockEnd)?;
        let before = std::mem::replace(&mut self.conditional, false);
        self.loops += 1;
        let body = self.body(&["else", "endfor"]);
        self.loops -= 1;
        let body = body?;
        let otherwise = if self.skip_name("else") {
            self.expect(&Token::BlockEnd)?;
            self.body(&["endfor"])?
        } else {
            Vec::new()
        };
        self.conditional = before;
        self.at += 1;
        self.expect(&Token::BlockEnd)?;
        Ok(StatementKind::For(Rc::new(For {
            target,
            iterable,
            condition,
            recursive,
            body,
            otherwise,
        })))
    }

    fn set(&mut self) -> Result<StatementKind> {
        let target = self.targets(true, "")?;
        if self.skip_operator("=") {
            let value = self.tuple(&[])?;
            self.expect(&Token::BlockEnd)?;
            return Ok(StatementKind::Set { target, value });
        }
        let mut filters = Vec::new();
        while self.skip_operator("|") {
            let name = self.name()?;
            filters.push(self.filter(name)?);
        }
        self.expect(&Token::BlockEnd)?;
        Ok(StatementKind::SetBlock { target, filters, body: self.own_block("endset")? })
    }

    /// Parses one target: a name, an attribute or a list in parentheses.
    fn target(&mut self, attributes: bool) -> Result<Target> {
        if self.skip_operator("(") {
            let target = self.nested(|parser| parser.targets(attributes, ""))?;
            self.expect_operator(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        if matches!(&*name, "true" | "True" | "false" | "False" | "none" | "None") {
            return fail(format!("cannot assign to {name}"));
        }
        if attributes && self.skip_operator(".") {
            return Ok(Target::Attribute(name, self.name()?));
        }
        Ok(Target::Name(name))
    }

    /// Parses targets separated by commas, up to another token or the name `end`.
    fn targets(&mut self, attributes: bool, end: &str) -> Result<Target> {
        let first = self.target(attributes)?;
        if !self.is_operator(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.skip_operator(",") {
            let more = self.is_operator("(") || matches!(self.token(), Token::Name(_));
            if !more || self.is_name(end) {
                break;
            }
            targets.push(self.target(attributes)?);
        }
        Ok(Target::Tuple(targets))
    }

    fn parameters(&mut self) -> Result<Vec<(Rc<str>, Option<Expr>)>> {
        let mut parameters: Vec<(Rc<str>, Option<Expr>)> = Vec::new();
        self.expect_operator("(")?;
        while !self.skip_operator(")") {
            if !parameters.is_empty() {
                self.expect_operator(",")?;
            }
            let name = self.name()?;
            let default = if self.skip_operator("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, last)| last.is_some()) {
                return fail(format!("parameter {name} needs a default: one before it has one"));
            }
            parameters.push((name, default));
        }
        Ok(parameters)
    }

    /// Parses a macro from its body on.
    fn macro_body(
        &mut self,
        name: Rc<str>,
        parameters: Vec<(Rc<str>, Option<Expr>)>,
        end: &str,
    ) -> Result<Rc<Macro>> {
        let outer = std::mem::take(&mut self.uses);
        let loops = std::mem::take(&mut self.loops);
        let body = self.own_block(end);
        self.loops = loops;
        let uses = self.uses;
        self.uses = Uses {
            varargs: uses.varargs | outer.varargs,
            kwargs: uses.kwargs | outer.kwargs,
            caller: uses.caller | outer.caller,
        };
        Ok(Rc::new(Macro { name, parameters, body: body?, uses }))
    }

    fn macro_definition(&mut self) -> Result<StatementKind> {
        let name = self.name()?;
        let parameters = self.parameters()?;
        self.expect(&Token::BlockEnd)?;
        Ok(StatementKind::Macro(self.macro_body(name, parameters, "endmacro")?))
    }

    fn call_block(&mut self) -> Result<StatementKind> {
        let parameters = if self.is_operator("(") { self.parameters()? } else { Vec::new() };
        let call = self.expression()?;
        self.expect(&Token::BlockEnd)?;
        let caller = self.macro_body("caller".into(), parameters, "endcall")?;
        Ok(StatementKind::Call { call, caller })
    }
}

/// A description of a token.
fn describe(token: &Token) -> String {
    match token {
        Token::Text(_) => "text".to_owned(),
        Token::BlockBegin => "{%".to_owned(),
        Token::BlockEnd => "%}".to_owned(),
        Token::OutputBegin => "{{".to_owned(),
        Token::OutputEnd => "}}".to_owned(),
        Token::Name(name) => format!("{name:?}"),
        Token::Str(_) => "a string".to_owned(),
        Token::Int(_) | Token::Float(_) => "a number".to_owned(),
        Token::Operator(operator) => format!("{operator:?}"),
        Token::End => "the end of the template".to_owned(),
    }
}
