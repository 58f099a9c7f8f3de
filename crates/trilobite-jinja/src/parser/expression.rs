//! The grammar of expressions.

use std::rc::Rc;

use super::super::ast::{Arguments, Comparison, Expr, Operator, PostfixStep};
use super::super::error::{Result, fail};
use super::super::lexer::Token;
use super::super::{filters, predicates};
use super::Parser;

impl Parser {
    pub(super) fn expression(&mut self) -> Result<Expr> {
        self.nested(Self::condition)
    }

    /// Parses an expression, or several separated by commas, which form a tuple.
    pub(super) fn tuple(&mut self, ends: &[&str]) -> Result<Expr> {
        self.comma_separated(ends, Self::expression)
    }

    /// Parses an expression or a tuple whose items are not conditional (`a if b else c`).
    pub(super) fn tuple_without_condition(&mut self, ends: &[&str]) -> Result<Expr> {
        self.comma_separated(ends, |parser| parser.nested(Self::or))
    }

    fn comma_separated(
        &mut self,
        ends: &[&str],
        parse: impl Fn(&mut Self) -> Result<Expr>,
    ) -> Result<Expr> {
        let first = parse(self)?;
        if !self.is_operator(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_operator(",") {
            let over = matches!(self.token(), Token::BlockEnd | Token::OutputEnd)
                || self.is_operator(")")
                || ends.iter().any(|end| self.is_name(end));
            if over {
                break;
            }
            items.push(parse(self)?);
        }
        Ok(Expr::Tuple(items))
    }

    /// `value if condition else value`
    fn condition(&mut self) -> Result<Expr> {
        let unknown = self.unknown.take();
        let value = self.or()?;
        if !self.is_name("if") {
            self.unknown = unknown.or(self.unknown.take());
            return Ok(value);
        }
        self.unknown = unknown;
        let before = std::mem::replace(&mut self.conditional, true);
        let result = self.branches_of(value);
        self.conditional = before;
        result
    }

    fn branches_of(&mut self, mut value: Expr) -> Result<Expr> {
        let mut branches = Vec::new();
        while self.skip_name("if") {
            branches.push((self.or()?, value));
            if !self.skip_name("else") {
                return Ok(Expr::Conditional(branches, None));
            }
            value = self.or()?;
        }
        Ok(Expr::Conditional(branches, Some(Box::new(value))))
    }

    /// Parses operands separated by a keyword.
    fn chain(
        &mut self,
        name: &str,
        operand: fn(&mut Self) -> Result<Expr>,
        wrap: fn(Vec<Expr>) -> Expr,
    ) -> Result<Expr> {
        let first = operand(self)?;
        if !self.is_name(name) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.skip_name(name) {
            operands.push(operand(self)?);
        }
        Ok(wrap(operands))
    }

    fn or(&mut self) -> Result<Expr> {
        self.chain("or", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Result<Expr> {
        self.chain("and", Self::not, Expr::And)
    }

    fn not(&mut self) -> Result<Expr> {
        if self.skip_name("not") {
            return Ok(Expr::Not(Box::new(self.nested(Self::not)?)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.token() {
                Token::Operator("==") => Comparison::Equal,
                Token::Operator("!=") => Comparison::NotEqual,
                Token::Operator("<") => Comparison::Less,
                Token::Operator("<=") => Comparison::LessEqual,
                Token::Operator(">") => Comparison::Greater,
                Token::Operator(">=") => Comparison::GreaterEqual,
                Token::Name(name) if &**name == "in" => Comparison::In,
                Token::Name(name) if &**name == "not" => {
                    let next = self.tokens.get(self.at + 1);
                    if !matches!(next, Some((Token::Name(name), _)) if &**name == "in") {
                        break;
                    }
                    self.at += 1;
                    Comparison::NotIn
                }
                _ => break,
            };
            self.at += 1;
            rest.push((comparison, self.sum()?));
        }
        Ok(match rest.is_empty() {
            true => first,
            false => Expr::Compare(Box::new(first), rest),
        })
    }

    /// Parses operands separated by operators of one precedence.
    fn binary(
        &mut self,
        operators: &[(&str, Operator)],
        operand: fn(&mut Self) -> Result<Expr>,
    ) -> Result<Expr> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Token::Operator(found) = self.token() {
            let operator = operators.iter().find(|(symbol, _)| symbol == found);
            let Some((_, operator)) = operator else { break };
            self.at += 1;
            rest.push((*operator, operand(self)?));
        }
        Ok(match rest.is_empty() {
            true => first,
            false => Expr::Arithmetic(Box::new(first), rest),
        })
    }

    fn sum(&mut self) -> Result<Expr> {
        self.binary(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::concat)
    }

    fn concat(&mut self) -> Result<Expr> {
        let first = self.product()?;
        if !self.is_operator("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_operator("~") {
            parts.push(self.product()?);
        }
        Ok(Expr::Concat(parts))
    }

    fn product(&mut self) -> Result<Expr> {
        let operators = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("//", Operator::FloorDivide),
            ("%", Operator::Remainder),
        ];
        self.binary(&operators, Self::power)
    }

    fn power(&mut self) -> Result<Expr> {
        self.binary(&[("**", Operator::Power)], |parser| {
            let operand = parser.signed()?;
            parser.filters_and_tests(operand)
        })
    }

    /// Parses a value with its sign and postfix operators, without filters and tests.
    fn signed(&mut self) -> Result<Expr> {
        if self.skip_operator("-") {
            return Ok(Expr::Negative(Box::new(self.nested(Self::signed)?)));
        }
        if self.skip_operator("+") {
            return Ok(Expr::Positive(Box::new(self.nested(Self::signed)?)));
        }
        let value = self.primary()?;
        self.postfix(value)
    }

    fn primary(&mut self) -> Result<Expr> {
        Ok(match self.next() {
            Token::Name(name) => match &*name {
                "true" | "True" => Expr::Bool(true),
                "false" | "False" => Expr::Bool(false),
                "none" | "None" => Expr::None,
                _ => {
                    match &*name {
                        "varargs" => self.uses.varargs = true,
                        "kwargs" => self.uses.kwargs = true,
                        "caller" => self.uses.caller = true,
                        _ => {}
                    }
                    Expr::Name(name)
                }
            },
            Token::Str(text) => {
                let mut parts = vec![text];
                while let Token::Str(more) = self.token() {
                    parts.push(Rc::clone(more));
                    self.at += 1;
                }
                Expr::Str(match &parts[..] {
                    [text] => Rc::clone(text),
                    parts => parts.concat().into(),
                })
            }
            Token::Int(number) => Expr::Int(number),
            Token::Float(number) => Expr::Float(number),
            Token::Operator("(") => {
                let inner = match self.is_operator(")") {
                    true => Expr::Tuple(Vec::new()),
                    false => self.tuple(&[])?,
                };
                self.expect_operator(")")?;
                inner
            }
            Token::Operator("[") => {
                let mut items = Vec::new();
                while !self.skip_operator("]") {
                    if !items.is_empty() {
                        self.expect_operator(",")?;
                        if self.skip_operator("]") {
                            break;
                        }
                    }
                    items.push(self.expression()?);
                }
                Expr::List(items)
            }
            Token::Operator("{") => {
                let mut pairs = Vec::new();
                while !self.skip_operator("}") {
                    if !pairs.is_empty() {
                        self.expect_operator(",")?;
                        if self.skip_operator("}") {
                            break;
                        }
                    }
                    let key = self.expression()?;
                    self.expect_operator(":")?;
                    pairs.push((key, self.expression()?));
                }
                Expr::Dict(pairs)
            }
            _ => {
                self.at -= 1;
                return Err(self.unexpected("an expression"));
            }
        })
    }

    /// Parses attributes, subscripts and calls after a value.
    fn postfix(&mut self, value: Expr) -> Result<Expr> {
        let mut steps = Vec::new();
        loop {
            if self.skip_operator(".") {
                steps.push(match self.next() {
                    Token::Name(name) => PostfixStep::Attribute(name),
                    Token::Int(index) => PostfixStep::Item(Expr::Int(index)),
                    _ => {
                        self.at -= 1;
                        return Err(self.unexpected("a name or a number"));
                    }
                });
            } else if self.skip_operator("[") {
                steps.push(self.subscript()?);
            } else if self.is_operator("(") {
                steps.push(PostfixStep::Call(self.call_arguments()?));
            } else {
                return Ok(with_steps(value, steps));
            }
        }
    }

    fn subscript(&mut self) -> Result<PostfixStep> {
        let mut bounds = [None, None, None];
        let mut colons = 0;
        while !self.skip_operator("]") {
            if self.skip_operator(":") {
                colons += 1;
                if colons > 2 {
                    return fail("a slice has at most two colons");
                }
            } else if bounds[colons].is_none() {
                bounds[colons] = Some(match colons {
                    0 => self.tuple(&[])?,
                    _ => self.expression()?,
                });
            } else {
                return Err(self.unexpected("\"]\""));
            }
        }
        match (colons, bounds) {
            (0, [Some(key), None, None]) => Ok(PostfixStep::Item(key)),
            (0, _) => fail("a subscript is empty"),
            (_, bounds) => Ok(PostfixStep::Slice(bounds)),
        }
    }

    fn call_arguments(&mut self) -> Result<Arguments> {
        let mut arguments = Arguments::default();
        self.expect_operator("(")?;
        let mut first = true;
        while !self.skip_operator(")") {
            if !first {
                self.expect_operator(",")?;
                if self.skip_operator(")") {
                    break;
                }
            }
            first = false;
            let next_is_assignment =
                matches!(self.tokens.get(self.at + 1), Some((Token::Operator("="), _)));
            if self.skip_operator("**") {
                arguments.more_named = Some(Box::new(self.expression()?));
            } else if self.skip_operator("*") {
                arguments.more_positional = Some(Box::new(self.expression()?));
            } else if next_is_assignment {
                let name = self.name()?;
                self.at += 1;
                arguments.named.push((name, self.expression()?));
            } else if arguments.named.is_empty() {
                arguments.positional.push(self.expression()?);
            } else {
                return fail("an argument without a name follows one with a name");
            }
        }
        Ok(arguments)
    }

    fn filters_and_tests(&mut self, value: Expr) -> Result<Expr> {
        let mut steps = Vec::new();
        loop {
            if self.skip_operator("|") {
                let name = self.name()?;
                steps.push(self.filter(name)?);
            } else if self.skip_name("is") {
                steps.push(self.test()?);
            } else if self.is_operator("(") {
                // The result of a filter can be called.
                steps.push(PostfixStep::Call(self.call_arguments()?));
            } else {
                return Ok(with_steps(value, steps));
            }
        }
    }

    /// Parses the rest of a filter after its name.
    pub(super) fn filter(&mut self, name: Rc<str>) -> Result<PostfixStep> {
        let arguments = match self.is_operator("(") {
            true => self.call_arguments()?,
            false => Arguments::default(),
        };
        if !self.conditional && !filters::exists(&name) {
            let error = filters::unknown(&name).at(self.line());
            self.unknown.get_or_insert(error);
        }
        Ok(PostfixStep::Filter(name, arguments))
    }

    /// Parses a test after `is`.
    fn test(&mut self) -> Result<PostfixStep> {
        let negated = self.skip_name("not");
        let name = self.name()?;
        let mut arguments = Arguments::default();
        let value_follows = match self.token() {
            Token::Name(next) => !matches!(&**next, "else" | "or" | "and"),
            Token::Str(_) | Token::Int(_) | Token::Float(_) => true,
            Token::Operator(next) => matches!(*next, "[" | "{"),
            _ => false,
        };
        if self.is_operator("(") {
            arguments = self.call_arguments()?;
        } else if self.is_name("is") {
            return fail("a test cannot follow a test");
        } else if value_follows {
            let value = self.primary()?;
            arguments.positional.push(self.postfix(value)?);
        }
        if !self.conditional && !predicates::exists(&name) {
            let error = predicates::unknown(&name).at(self.line());
            self.unknown.get_or_insert(error);
        }
        Ok(PostfixStep::Test { name, arguments, negated })
    }
}

/// Applies postfix operators to a value.
fn with_steps(value: Expr, steps: Vec<PostfixStep>) -> Expr {
    match value {
        _ if steps.is_empty() => value,
        // This keeps the tree flat.
        Expr::Postfix(base, mut before) => {
            before.extend(steps);
            Expr::Postfix(base, before)
        }
        _ => Expr::Postfix(Box::new(value), steps),
    }
}
