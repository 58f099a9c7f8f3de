//! Expressions in LaTeX, compared by their values at a few points.

use std::collections::BTreeSet;

/// Where expressions are compared: values of the variables without a pattern, positive so that roots
/// and logarithms are real.
const POINTS: [f64; 5] = [0.7391, 1.3247, 2.2360, 3.1473, 0.2913];
/// Relative distance of values of expressions in variables that count as equal: rounding only.
const ROUNDING: f64 = 1e-9;
/// Deepest nesting that is followed.
const DEPTH: usize = 64;

/// An expression.
#[derive(Clone, Debug)]
pub(crate) enum Expression {
    Number(f64),
    Variable(String),
    Sum(Box<Expression>, Box<Expression>),
    Product(Box<Expression>, Box<Expression>),
    Quotient(Box<Expression>, Box<Expression>),
    Power(Box<Expression>, Box<Expression>),
    Function(Function, Box<Expression>),
}

/// A function of one number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Function {
    Negation,
    Absolute,
    Sine,
    Cosine,
    Tangent,
    Logarithm,
    Exponential,
    Factorial,
}

impl Expression {
    /// An expression that is understood as a whole.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: &tokens, depth: 0 };
        let expression = parser.sum()?;
        parser.tokens.is_empty().then_some(expression)
    }

    /// The same with the other sign.
    pub(crate) fn negated(&self) -> Self {
        Expression::Function(Function::Negation, Box::new(self.clone()))
    }

    /// Whether both have the same variables and values; `tolerance` is for numbers.
    pub(crate) fn same(&self, other: &Self, tolerance: f64) -> bool {
        let (mut mine, mut others) = (BTreeSet::new(), BTreeSet::new());
        self.variables(&mut mine);
        other.variables(&mut others);
        // Variables may cancel.
        let names: Vec<&String> = mine.union(&others).copied().collect();
        let tolerance = if names.is_empty() { tolerance } else { ROUNDING };
        let mut compared = 0;
        for shift in 0..POINTS.len() {
            let value = |name: &str| {
                let place = names.iter().position(|other| *other == name).unwrap_or(0);
                POINTS[(place + shift) % POINTS.len()] + place as f64
            };
            let (a, b) = (self.value(&value), other.value(&value));
            if a.is_nan() && b.is_nan() {
                continue;
            }
            let near = (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(f64::MIN_POSITIVE);
            // Different sums of the same terms leave a rounding error of their size.
            let zero = !names.is_empty() && a.abs().max(b.abs()) < ROUNDING;
            if !(near || zero || a == b) {
                return false;
            }
            compared += 1;
        }
        compared > 0
    }

    fn variables<'a>(&'a self, names: &mut BTreeSet<&'a String>) {
        match self {
            Expression::Number(_) => {}
            Expression::Variable(name) => {
                names.insert(name);
            }
            Expression::Sum(a, b)
            | Expression::Product(a, b)
            | Expression::Quotient(a, b)
            | Expression::Power(a, b) => {
                a.variables(names);
                b.variables(names);
            }
            Expression::Function(_, a) => a.variables(names),
        }
    }

    fn value(&self, variable: &dyn Fn(&str) -> f64) -> f64 {
        match self {
            Expression::Number(number) => *number,
            Expression::Variable(name) => variable(name),
            Expression::Sum(a, b) => a.value(variable) + b.value(variable),
            Expression::Product(a, b) => a.value(variable) * b.value(variable),
            Expression::Quotient(a, b) => a.value(variable) / b.value(variable),
            Expression::Power(a, b) => {
                let (base, exponent) = (a.value(variable), b.value(variable));
                // Odd roots of negative numbers are not taken: the reference's are complex.
                base.powf(exponent)
            }
            Expression::Function(function, a) => {
                let a = a.value(variable);
                match function {
                    Function::Negation => -a,
                    Function::Absolute => a.abs(),
                    Function::Sine => a.sin(),
                    Function::Cosine => a.cos(),
                    Function::Tangent => a.tan(),
                    Function::Logarithm => a.ln(),
                    Function::Exponential => a.exp(),
                    Function::Factorial => {
                        if (0.0..=170.0).contains(&a) && a.fract() == 0.0 {
                            (1..=a as u32).map(f64::from).product()
                        } else {
                            f64::NAN
                        }
                    }
                }
            }
        }
    }
}

/// A piece of LaTeX.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(f64),
    Letter(char),
    Command(String),
    Sign(char),
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length =
            |fits: fn(char) -> bool| rest[1..].find(|c| !fits(c)).map_or(rest.len(), |at| at + 1);
        let taken = match c {
            '0'..='9' | '.' => {
                let end = length(|c| c.is_ascii_digit() || c == '.');
                tokens.push(Token::Number(rest[..end].parse().ok()?));
                end
            }
            'a'..='z' | 'A'..='Z' => {
                tokens.push(Token::Letter(c));
                1
            }
            '\\' => {
                let end = length(|c| c.is_ascii_alphabetic());
                match &rest[1..end] {
                    // A thin blank, or a blank.
                    "" => match rest[1..].chars().next()? {
                        ',' | ';' | ':' | ' ' => 2,
                        _ => return None,
                    },
                    command => {
                        tokens.push(Token::Command(command.to_owned()));
                        end
                    }
                }
            }
            '+' | '-' | '*' | '/' | '^' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '!' | '_' => {
                tokens.push(Token::Sign(c));
                1
            }
            ' ' | '~' => 1,
            'π' => {
                tokens.push(Token::Command("pi".to_owned()));
                c.len_utf8()
            }
            _ => return None,
        };
        rest = &rest[taken..];
    }
    Some(tokens)
}

/// Recursive descent; `None` wherever something is not understood.
struct Parser<'a> {
    tokens: &'a [Token],
    depth: usize,
}

impl Parser<'_> {
    fn sign(&mut self, sign: char) -> bool {
        match self.tokens.split_first() {
            Some((Token::Sign(found), rest)) if *found == sign => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    fn command(&mut self, names: &[&str]) -> bool {
        match self.tokens.split_first() {
            Some((Token::Command(found), rest)) if names.contains(&found.as_str()) => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    fn sum(&mut self) -> Option<Expression> {
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        let mut left = self.product()?;
        loop {
            if self.sign('+') {
                left = Expression::Sum(Box::new(left), Box::new(self.product()?));
            } else if self.sign('-') {
                let right = self.product()?.negated();
                left = Expression::Sum(Box::new(left), Box::new(right));
            } else {
                self.depth -= 1;
                return Some(left);
            }
        }
    }

    fn product(&mut self) -> Option<Expression> {
        let mut left = self.signed()?;
        loop {
            if self.sign('*') || self.command(&["cdot", "times"]) {
                left = Expression::Product(Box::new(left), Box::new(self.signed()?));
            } else if self.sign('/') || self.command(&["div"]) {
                left = Expression::Quotient(Box::new(left), Box::new(self.signed()?));
            } else if self.begins_factor() {
                left = Expression::Product(Box::new(left), Box::new(self.power()?));
            } else {
                return Some(left);
            }
        }
    }

    /// Whether a factor follows without a sign between.
    fn begins_factor(&self) -> bool {
        match self.tokens.first() {
            // Two numbers side by side mean something else.
            Some(Token::Letter(_)) => true,
            Some(Token::Command(name)) => !matches!(name.as_str(), "cdot" | "times" | "div" | "pm"),
            Some(Token::Sign(sign)) => matches!(sign, '(' | '{'),
            _ => false,
        }
    }

    fn signed(&mut self) -> Option<Expression> {
        if self.sign('-') {
            return Some(self.signed()?.negated());
        }
        if self.sign('+') {
            return self.signed();
        }
        self.power()
    }

    fn power(&mut self) -> Option<Expression> {
        let mut base = self.atom()?;
        while self.sign('!') {
            base = Expression::Function(Function::Factorial, Box::new(base));
        }
        if self.sign('^') {
            let exponent = if self.sign('{') { self.until('}')? } else { self.signed_atom()? };
            return Some(Expression::Power(Box::new(base), Box::new(exponent)));
        }
        Some(base)
    }

    fn signed_atom(&mut self) -> Option<Expression> {
        if self.sign('-') { Some(self.atom()?.negated()) } else { self.atom() }
    }

    /// A sum and the bracket that closes it.
    fn until(&mut self, close: char) -> Option<Expression> {
        let inner = self.sum()?;
        self.sign(close).then_some(inner)
    }

    /// What stands in braces, or one atom.
    fn argument(&mut self) -> Option<Expression> {
        if self.sign('{') { self.until('}') } else { self.atom() }
    }

    fn atom(&mut self) -> Option<Expression> {
        let (token, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        match token {
            Token::Number(number) => {
                // A subscript is a base: another number.
                (!matches!(rest.first(), Some(Token::Sign('_'))))
                    .then_some(Expression::Number(*number))
            }
            Token::Letter('e') => Some(Expression::Number(std::f64::consts::E)),
            // The imaginary unit is compared as a variable: linear in it, both sides agree or not.
            Token::Letter(letter) => self.named(letter.to_string()),
            Token::Sign('(') => self.until(')'),
            Token::Sign('[') => self.until(']'),
            Token::Sign('{') => self.until('}'),
            Token::Sign('|') => {
                Some(Expression::Function(Function::Absolute, Box::new(self.until('|')?)))
            }
            Token::Sign(_) => None,
            Token::Command(name) => self.applied(name),
        }
    }

    fn named(&mut self, mut name: String) -> Option<Expression> {
        if self.sign('_') {
            let braced = self.sign('{');
            let (token, rest) = self.tokens.split_first()?;
            self.tokens = rest;
            name += &format!("_{token:?}");
            if braced && !self.sign('}') {
                return None;
            }
        }
        Some(Expression::Variable(name))
    }

    fn applied(&mut self, name: &str) -> Option<Expression> {
        let function = match name {
            "frac" => {
                let (a, b) = (self.argument()?, self.argument()?);
                return Some(Expression::Quotient(Box::new(a), Box::new(b)));
            }
            "sqrt" => {
                let root = if self.sign('[') { self.until(']')? } else { Expression::Number(2.0) };
                let exponent =
                    Expression::Quotient(Box::new(Expression::Number(1.0)), Box::new(root));
                return Some(Expression::Power(Box::new(self.argument()?), Box::new(exponent)));
            }
            "pi" => return Some(Expression::Number(std::f64::consts::PI)),
            "alpha" | "beta" | "gamma" | "delta" | "theta" | "lambda" | "mu" | "phi" | "omega" => {
                return self.named(format!("\\{name}"));
            }
            "sin" => Function::Sine,
            "cos" => Function::Cosine,
            "tan" => Function::Tangent,
            "ln" | "log" => Function::Logarithm,
            "exp" => Function::Exponential,
            _ => return None,
        };
        if name == "log" && matches!(self.tokens.first(), Some(Token::Sign('_'))) {
            return None;
        }
        let exponent = if self.sign('^') { Some(self.argument()?) } else { None };
        let value = Expression::Function(function, Box::new(self.power()?));
        Some(match exponent {
            Some(exponent) => Expression::Power(Box::new(value), Box::new(exponent)),
            None => value,
        })
    }
}
