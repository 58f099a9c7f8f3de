//! A parser for LaTeX that follows SymPy's. Input that cannot continue an expression ends it and is
//! ignored: `1,2` is 1.

use std::collections::HashSet;

use super::expression::{Formula, Function, Join, Step};
use super::tokens::{RELATIONS, Token, function, is_function, is_no_name, tokens};

/// Maximum nesting.
const DEPTH: usize = 64;

/// The meaning of a text.
pub(super) enum Statement {
    /// An expression.
    Value(Formula),
    /// An equation or inequality, as the difference of its sides.
    Relation(Formula),
}

impl Statement {
    /// Parses a text: as LaTeX with single backslashes, as LaTeX as it is, or as Python arithmetic.
    /// Returns `None` if it does not begin with an expression.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let latex = || Self::read(&text.replace("\\\\", "\\")).or_else(|| Self::read(text));
        let arithmetic = |c: char| c.is_ascii_digit() || ".()+-*/ ".contains(c);
        let python = || text.chars().all(arithmetic).then(|| Self::read(&with_digits(text)));
        latex().or_else(|| python().flatten())
    }

    fn read(text: &str) -> Option<Self> {
        let tokens = tokens(text);
        let mut parser = Parser::new(&tokens);
        parser.sum()?;
        let relation = parser.relation();
        if relation {
            parser.sum()?;
            parser.join(Join::Difference);
        }
        // A relation of relations is invalid. Text that is not LaTeX is parsed up to its first such
        // part.
        let foreign = parser.tokens.first() == Some(&Token::Foreign);
        if foreign || parser.failed || parser.relation() {
            return None;
        }
        let expression = Formula { steps: parser.steps };
        Some(if relation { Self::Relation(expression) } else { Self::Value(expression) })
    }

    /// Whether two statements are equivalent.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(a), Self::Value(b)) => a.same(b),
            // Without variables a relation is only true or false.
            (Self::Relation(a), Self::Relation(b)) => {
                !a.is_constant() && !b.is_constant() && a.same_size(b)
            }
            _ => false,
        }
    }
}

/// Adds digits so that every decimal point has some on both sides.
fn with_digits(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '.' && !out.ends_with(|c: char| c.is_ascii_digit()) {
            out.push('0');
        }
        out.push(c);
        if c == '.' && !chars.peek().is_some_and(char::is_ascii_digit) {
            out.push('0');
        }
    }
    out
}

/// A recursive-descent parser that emits steps. `None` means an incomplete expression. Where an
/// expression can end before the incomplete part, it ends there.
struct Parser<'a> {
    all: &'a [Token],
    tokens: &'a [Token],
    steps: Vec<Step>,
    depth: usize,
    /// Number of open absolute values.
    bars: usize,
    /// Number of optional parts that are being parsed.
    optional: usize,
    /// Whether the text must not be parsed in part.
    failed: bool,
    /// Positions, by the number of remaining tokens, where no factor or script begins. Nothing is
    /// parsed twice.
    dead: HashSet<(Part, usize)>,
}

/// A part of an expression that can be nested.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Factor,
    Script,
}

impl<'a> Parser<'a> {
    fn new(tokens: &'a [Token]) -> Self {
        Self {
            all: tokens,
            tokens,
            steps: Vec::new(),
            depth: 0,
            bars: 0,
            optional: 0,
            failed: false,
            dead: HashSet::new(),
        }
    }

    /// Parses an optional part, completely or not at all.
    fn maybe(&mut self, read: impl FnOnce(&mut Self) -> Option<()>) -> bool {
        let Self { tokens, depth, bars, .. } = *self;
        let steps = self.steps.len();
        self.optional += 1;
        let done = read(self).is_some();
        self.optional -= 1;
        if !done {
            (self.tokens, self.depth, self.bars) = (tokens, depth, bars);
            self.steps.truncate(steps);
        }
        done
    }

    fn sign(&mut self, sign: char) -> bool {
        let found = self.tokens.first() == Some(&Token::Sign(sign));
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    fn command(&mut self, names: &[&str]) -> bool {
        let fits = |token: &Token| match token {
            Token::Command(found) => names.contains(&found.as_str()),
            _ => false,
        };
        let found = self.tokens.first().is_some_and(fits);
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    fn relation(&mut self) -> bool {
        self.sign('=') || self.sign('<') || self.sign('>') || self.command(&RELATIONS)
    }

    fn join(&mut self, join: Join) {
        self.steps.push(Step::Join(join));
    }

    fn sum(&mut self) -> Option<()> {
        self.product(true)?;
        let more = |parser: &mut Self| {
            let join = if parser.sign('+') {
                Join::Sum
            } else {
                parser.sign('-').then_some(Join::Difference)?
            };
            parser.product(true)?;
            parser.join(join);
            Some(())
        };
        while self.maybe(more) {}
        Some(())
    }

    /// Parses factors joined by operators. Those in the argument of a function without brackets end
    /// before the next function.
    fn product(&mut self, functions: bool) -> Option<()> {
        self.signed(functions)?;
        let more = |parser: &mut Self| {
            let join = if parser.sign('*') || parser.command(&["cdot", "times"]) {
                Join::Product
            } else if parser.sign('/') || parser.sign(':') || parser.command(&["div"]) {
                Join::Quotient
            } else {
                return None;
            };
            parser.signed(functions)?;
            parser.join(join);
            Some(())
        };
        while self.maybe(more) {}
        Some(())
    }

    /// Parses factors joined without operators, which bind tighter, and the signs before them.
    fn signed(&mut self, functions: bool) -> Option<()> {
        let mut negative = false;
        loop {
            if self.sign('-') {
                negative = !negative;
            } else if !self.sign('+') {
                break;
            }
        }
        let mut factors = vec![self.steps.len()];
        self.power()?;
        let mut start = self.steps.len();
        while self.begins_factor(functions) && self.maybe(Self::power) {
            factors.push(start);
            start = self.steps.len();
        }
        self.crosses(&factors);
        self.steps.extend((1..factors.len()).map(|_| Step::Join(Join::Product)));
        if negative {
            self.steps.push(Step::Apply(Function::Negation));
        }
        Some(())
    }

    /// Treats an x between two numbers as a multiplication sign.
    fn crosses(&mut self, factors: &[usize]) {
        let ends = factors.iter().skip(1).copied().chain([self.steps.len()]);
        let kind = |(&start, end): (&usize, usize)| {
            let steps = &self.steps[start..end];
            let variable = |step: &Step| matches!(step, Step::Variable(_));
            (steps == [Step::Variable("x".to_owned())], !steps.iter().any(variable))
        };
        let kinds: Vec<(bool, bool)> = factors.iter().zip(ends).map(kind).collect();
        for (three, places) in kinds.windows(3).zip(factors.windows(3)) {
            if let [(_, true), (true, _), (_, true)] = three {
                self.steps[places[1]] = Step::Number(1.0);
            }
        }
    }

    /// Whether a factor can follow without an operator.
    fn begins_factor(&self, functions: bool) -> bool {
        match self.tokens.first() {
            Some(Token::Digit(_) | Token::Name(_)) => true,
            Some(Token::Command(name)) => functions || !is_function(name),
            Some(Token::Sign(sign)) => {
                matches!(sign, '(' | '[' | '{' | '⦃') || (*sign == '|' && self.bars == 0)
            }
            _ => false,
        }
    }

    /// Whether the argument of a function can follow.
    fn begins_argument(&self) -> bool {
        match self.tokens.first() {
            Some(Token::Sign('+' | '-')) => true,
            Some(Token::Command(name)) => !is_no_name(name),
            _ => self.begins_factor(true),
        }
    }

    fn power(&mut self) -> Option<()> {
        self.atom()?;
        let raised = |parser: &mut Self| {
            parser.sign('^').then_some(())?;
            parser.script()?;
            parser.join(Join::Power);
            Some(())
        };
        while self.maybe(raised) {
            // A subscript here is ignored.
            self.subscript();
        }
        while self.sign('!') {
            self.steps.push(Step::Apply(Function::Factorial));
        }
        Some(())
    }

    /// Parses an optional subscript and returns its text.
    fn subscript(&mut self) -> Option<String> {
        let (before, steps) = (self.tokens, self.steps.len());
        let read = |parser: &mut Self| {
            parser.sign('_').then_some(())?;
            parser.script()
        };
        self.maybe(read).then_some(())?;
        self.steps.truncate(steps);
        let read = &before[1..before.len() - self.tokens.len()];
        let inner = match read {
            [Token::Sign('{'), inner @ .., Token::Sign('}')] => inner,
            read => read,
        };
        Some(format!("{inner:?}"))
    }

    /// Parses a number, a name, a fraction or an expression in braces.
    fn script(&mut self) -> Option<()> {
        self.nested(
            Part::Script,
            |parser| {
                if parser.sign('{') { parser.until('}') } else { parser.plain() }
            },
        )
    }

    fn atom(&mut self) -> Option<()> {
        self.nested(Part::Factor, Self::any_atom)
    }

    /// Parses a part one level deeper.
    fn nested(&mut self, part: Part, read: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        let place = (part, self.tokens.len());
        if self.depth == DEPTH || self.dead.contains(&place) {
            return None;
        }
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        if done.is_none() {
            self.dead.insert(place);
        }
        done
    }

    /// Parses a sum and the closing bracket.
    fn until(&mut self, close: char) -> Option<()> {
        let bars = std::mem::take(&mut self.bars);
        self.sum()?;
        self.bars = bars;
        self.sign(close).then_some(())
    }

    fn in_braces(&mut self) -> Option<()> {
        self.sign('{').then_some(())?;
        self.until('}')
    }

    fn any_atom(&mut self) -> Option<()> {
        let (token, rest) = self.tokens.split_first()?;
        match token {
            Token::Sign(open) => {
                self.tokens = rest;
                match open {
                    '(' => self.until(')'),
                    '[' => self.until(']'),
                    '{' => self.until('}'),
                    '⦃' => self.until('⦄'),
                    '|' => {
                        self.bars += 1;
                        self.sum()?;
                        self.bars -= 1;
                        self.steps.push(Step::Apply(Function::Absolute));
                        self.sign('|').then_some(())
                    }
                    _ => None,
                }
            }
            Token::Command(name) if is_function(name) => {
                self.tokens = rest;
                self.applied(name)
            }
            _ => {
                self.plain()?;
                // A name before a bracket is a function.
                if let Some(Step::Variable(name)) = self.steps.last()
                    && matches!(token, Token::Name(_) | Token::Command(_))
                    && self.tokens.first() == Some(&Token::Sign('('))
                {
                    let (name, place) = (name.clone(), (Part::Factor, self.tokens.len()));
                    let variable = self.steps.pop();
                    if self.maybe(Self::argument) {
                        self.more_arguments()?;
                        self.steps.push(Step::Unknown(name));
                    } else if self.optional == 0 {
                        self.steps.extend(variable);
                        self.dead.insert(place);
                    } else {
                        return None;
                    }
                }
                Some(())
            }
        }
    }

    /// If nothing follows a number that is the script of a function, its last digit becomes the
    /// argument.
    fn leave_a_digit(&mut self, script: &mut [Step]) {
        let left = self.tokens.len();
        if let ([Step::Number(number)], Some(from)) = (script, self.all.len().checked_sub(left + 2))
            && let [Token::Digit(_), Token::Digit(digit)] = &self.all[from..from + 2]
            && !self.begins_argument()
        {
            *number = (*number - f64::from(digit.to_digit(10).unwrap_or(0))) / 10.0;
            self.tokens = &self.all[from + 1..];
        }
    }

    /// Parses the first argument of a function in brackets, up to the following comma or bracket.
    fn argument(&mut self) -> Option<()> {
        self.sign('(').then_some(())?;
        let bars = std::mem::take(&mut self.bars);
        self.sum()?;
        self.bars = bars;
        matches!(self.tokens.first(), Some(Token::Sign(',' | ')'))).then_some(())
    }

    /// Parses the further arguments of a function. After a comma in brackets, a name before them
    /// can only be a function, unless the comma may be part of a number.
    fn more_arguments(&mut self) -> Option<()> {
        while self.sign(',') {
            let from = self.all.len() - self.tokens.len();
            let read = self.sum();
            self.join(Join::Pair);
            let ends = matches!(self.tokens.first(), Some(Token::Sign(',' | ')')));
            if read.is_none() || !ends {
                let digit = |token: &Token| matches!(token, Token::Digit(_));
                let read = &self.all[from..self.all.len() - self.tokens.len()];
                let number = from > 1 && digit(&self.all[from - 2]) && read.iter().all(digit);
                self.failed |= !number;
                return None;
            }
        }
        self.sign(')').then_some(())
    }

    /// Parses a number, a name, a fraction or a binomial coefficient.
    fn plain(&mut self) -> Option<()> {
        let (token, rest) = self.tokens.split_first()?;
        match token {
            Token::Digit(_) => self.number(),
            Token::Name(name) => {
                self.tokens = rest;
                self.named(name.clone());
                Some(())
            }
            Token::Command(name) if !is_function(name) && !is_no_name(name) => {
                self.tokens = rest;
                match name.as_str() {
                    "frac" | "dfrac" | "tfrac" => {
                        self.part()?;
                        self.part()?;
                        self.join(Join::Quotient);
                    }
                    "binom" | "dbinom" | "tbinom" => {
                        self.in_braces()?;
                        self.in_braces()?;
                        self.join(Join::Binomial);
                    }
                    "infty" => self.steps.push(Step::Number(f64::INFINITY)),
                    // Any other command is a name, including pi.
                    name => self.named(format!("\\{name}")),
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Parses a part of a fraction: a digit, or an expression in braces.
    fn part(&mut self) -> Option<()> {
        if let Some((Token::Digit(digit), rest)) = self.tokens.split_first() {
            self.tokens = rest;
            self.steps.push(Step::Number(f64::from(digit.to_digit(10)?)));
            return Some(());
        }
        self.in_braces()
    }

    fn number(&mut self) -> Option<()> {
        let mut digits = self.digits(usize::MAX);
        let follows = |parser: &Self, sign: char, count: usize| {
            let tokens = parser.tokens.get(1..=count).unwrap_or_default();
            let digit = |token: &Token| matches!(token, Token::Digit(_));
            parser.tokens.first() == Some(&Token::Sign(sign))
                && tokens.len() == count
                && tokens.iter().all(digit)
        };
        while follows(self, ',', 3) {
            self.tokens = &self.tokens[1..];
            digits += &self.digits(3);
        }
        if follows(self, '.', 1) {
            self.tokens = &self.tokens[1..];
            digits.push('.');
            digits += &self.digits(usize::MAX);
        }
        self.steps.push(Step::Number(digits.parse().ok()?));
        Some(())
    }

    fn digits(&mut self, most: usize) -> String {
        let mut digits = String::new();
        while digits.len() < most
            && let Some((Token::Digit(digit), rest)) = self.tokens.split_first()
        {
            digits.push(*digit);
            self.tokens = rest;
        }
        digits
    }

    /// Parses the subscript and the primes of a variable, which are part of its name.
    fn named(&mut self, mut name: String) {
        let mut subscript = self.subscript();
        while self.sign('\'') {
            name.push('\'');
        }
        if subscript.is_none() && name.ends_with('\'') {
            subscript = self.subscript();
        }
        name += subscript.as_deref().unwrap_or_default();
        self.steps.push(Step::Variable(name));
    }

    fn applied(&mut self, name: &str) -> Option<()> {
        match name {
            "sqrt" => {
                let mark = self.steps.len();
                if self.sign('[') {
                    self.until(']')?;
                } else {
                    self.steps.push(Step::Number(2.0));
                }
                let root = self.steps.split_off(mark);
                self.in_braces()?;
                self.steps.push(Step::Number(1.0));
                self.steps.extend(root);
                self.join(Join::Quotient);
                self.join(Join::Power);
                return Some(());
            }
            "overline" => {
                self.in_braces()?;
                self.steps.push(Step::Apply(Function::Conjugate));
                return Some(());
            }
            "lfloor" => {
                self.sum()?;
                self.steps.push(Step::Apply(Function::Floor));
                return self.command(&["rfloor"]).then_some(());
            }
            "lceil" => {
                self.sum()?;
                self.steps.push(Step::Apply(Function::Ceiling));
                return self.command(&["rceil"]).then_some(());
            }
            _ => {}
        }
        let mark = self.steps.len();
        let script = |parser: &mut Self, sign: char| {
            let read = |parser: &mut Self| {
                parser.sign(sign).then_some(())?;
                parser.script()
            };
            parser.maybe(read).then(|| parser.steps.split_off(mark))
        };
        let mut base = script(self, '_');
        let mut exponent = script(self, '^');
        let last = match (&base, &exponent) {
            (None, Some(_)) => {
                base = script(self, '_');
                if base.is_some() { &mut base } else { &mut exponent }
            }
            (_, Some(_)) => &mut exponent,
            _ => &mut base,
        };
        if let Some(script) = last {
            self.leave_a_digit(script);
        }
        if self.tokens.first() == Some(&Token::Sign('(')) {
            // Only the first of several arguments is used.
            self.argument()?;
            let mark = self.steps.len();
            while self.sign(',') {
                self.sum()?;
            }
            self.steps.truncate(mark);
            self.sign(')').then_some(())?;
        } else {
            self.product(false)?;
        }
        let inverse = [Step::Number(1.0), Step::Apply(Function::Negation)];
        let inverted = function(name).and_then(Function::inverse);
        let inverted = inverted.filter(|_| exponent.as_deref() == Some(&inverse));
        match name {
            "log" | "ln" | "lg" => {
                let usual = if name == "lg" { 10.0 } else { std::f64::consts::E };
                self.steps.extend(base.unwrap_or_else(|| vec![Step::Number(usual)]));
                self.join(Join::Logarithm);
            }
            _ => self.steps.push(Step::Apply(inverted.or_else(|| function(name))?)),
        }
        if let (Some(exponent), None) = (exponent, inverted) {
            self.steps.extend(exponent);
            self.join(Join::Power);
        }
        Some(())
    }
}
