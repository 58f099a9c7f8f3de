//! Expressions, which are compared by their values at a few points.

use std::collections::{BTreeMap, BTreeSet};

use num_complex::Complex64;

use crate::grade::python::is_close;

/// The values of variables at which expressions are compared. They are arbitrary and complex, since
/// a variable represents any number: the root of x^2 is not always x.
const POINTS: [Complex64; 5] = [
    Complex64::new(0.7391, 0.4142),
    Complex64::new(-1.3247, 0.8731),
    Complex64::new(1.2360, -1.0713),
    Complex64::new(-0.6473, -0.5591),
    Complex64::new(1.9137, 0.2913),
];
/// Relative tolerance for numbers, the same as in the reference grader.
const TOLERANCE: f64 = 1e-4;
/// Relative tolerance for values of expressions with variables: rounding errors only.
const ROUNDING: f64 = 1e-9;

/// A step of the evaluation on a stack of values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Pushes a number.
    Number(f64),
    /// Pushes a variable.
    Variable(String),
    /// Replaces two values by one.
    Join(Join),
    /// Replaces a value.
    Apply(Function),
    /// Applies a function of which only the name is known.
    Unknown(String),
}

/// An operation on two values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Join {
    Sum,
    Difference,
    Product,
    Quotient,
    Power,
    /// The logarithm of the first to the base of the second.
    Logarithm,
    Binomial,
    /// A single value that represents the pair.
    Pair,
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Negation,
    Absolute,
    Conjugate,
    Factorial,
    Floor,
    Ceiling,
    Exponential,
    Sine,
    Cosine,
    Tangent,
    Cosecant,
    Secant,
    Cotangent,
    Arcsine,
    Arccosine,
    Arctangent,
    Arccosecant,
    Arcsecant,
    Arccotangent,
    HyperbolicSine,
    HyperbolicCosine,
    HyperbolicTangent,
    AreaSine,
    AreaCosine,
    AreaTangent,
}

/// An expression: steps that leave one value on the stack. A list of steps, unlike a tree, needs no
/// recursion for deep answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Formula {
    pub(super) steps: Vec<Step>,
}

impl Formula {
    /// Whether both have the same value, as numbers or for all values of their variables.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.agrees(other, |a, b| {
            let distance = (a - b).norm();
            let near = distance <= ROUNDING * a.norm().max(b.norm());
            a == b || (near && distance.is_finite())
        })
    }

    /// Whether the absolute values are equal.
    pub(super) fn same_size(&self, other: &Self) -> bool {
        self.agrees(other, |a, b| is_close(a.norm(), b.norm(), ROUNDING))
    }

    fn agrees(&self, other: &Self, same: fn(Complex64, Complex64) -> bool) -> bool {
        // Identical expressions are equal even without a value.
        if self.steps == other.steps {
            return true;
        }
        // Variables may cancel, so both expressions get values for the variables of both.
        let names: BTreeSet<&str> = self.variables().chain(other.variables()).collect();
        if names.is_empty() {
            let value = |expression: &Self| expression.value(&BTreeMap::new());
            let (Some(a), Some(b)) = (value(self), value(other)) else { return false };
            return same(a, b) || (real(a) && real(b) && is_close(a.re, b.re, TOLERANCE));
        }
        let mut compared = 0;
        for shift in 0..POINTS.len() {
            let point = |(place, name): (usize, &&str)| {
                let far = (place / POINTS.len()) as f64;
                ((*name).to_owned(), POINTS[(place + shift) % POINTS.len()] + far)
            };
            let values = names.iter().enumerate().map(point).collect();
            let (Some(a), Some(b)) = (self.value(&values), other.value(&values)) else {
                return false;
            };
            if a.is_nan() && b.is_nan() {
                continue;
            }
            // Different sums of the same terms differ by a rounding error of their magnitude.
            let zero = a.norm().max(b.norm()) < ROUNDING;
            if !(same(a, b) || zero) {
                return false;
            }
            compared += 1;
        }
        compared > 0
    }

    fn variables(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            Step::Variable(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether the expression has no variables.
    pub(super) fn is_constant(&self) -> bool {
        self.variables().next().is_none()
    }

    fn value(&self, variables: &BTreeMap<String, Complex64>) -> Option<Complex64> {
        let mut stack: Vec<Complex64> = Vec::new();
        for step in &self.steps {
            let value = match step {
                Step::Number(number) => Complex64::from(*number),
                Step::Variable(name) => *variables.get(name)?,
                Step::Join(join) => {
                    let b = stack.pop()?;
                    join.of(stack.pop()?, b)
                }
                Step::Apply(function) => function.of(stack.pop()?),
                Step::Unknown(name) => unknown(name, stack.pop()?),
            };
            stack.push(value);
        }
        stack.pop().filter(|_| stack.is_empty())
    }
}

/// Whether a value is real, up to rounding errors.
fn real(value: Complex64) -> bool {
    value.im.abs() <= ROUNDING * value.re.abs()
}

/// A value that is determined by the function's name and argument.
fn unknown(name: &str, argument: Complex64) -> Complex64 {
    let mix = |seed: f64, c: char| (seed * 1.618 + f64::from(u32::from(c))) % 97.0;
    let seed = Complex64::new(name.chars().fold(0.0, mix) / 97.0, 0.5);
    (seed * 1.3 + argument).sin() + seed * argument
}

impl Join {
    fn of(self, a: Complex64, b: Complex64) -> Complex64 {
        match self {
            Join::Sum => a + b,
            Join::Difference => a - b,
            Join::Product => a * b,
            Join::Quotient => a / b,
            Join::Power if a.im == 0.0 && b.im == 0.0 && (a.re >= 0.0 || b.re.fract() == 0.0) => {
                a.re.powf(b.re).into()
            }
            Join::Power => a.powc(b),
            Join::Logarithm => a.ln() / b.ln(),
            Join::Binomial => binomial(a, b),
            Join::Pair => unknown("pair", a + unknown("second", b)),
        }
    }
}

/// The binomial coefficient of a small number of factors.
fn binomial(n: Complex64, k: Complex64) -> Complex64 {
    if k.im != 0.0 || k.re.fract() != 0.0 || !(0.0..=1000.0).contains(&k.re) {
        return unknown("binomial", Join::Pair.of(n, k));
    }
    (0..k.re as u32).map(f64::from).fold(1.0.into(), |c, i| c * (n - i) / (i + 1.0))
}

impl Function {
    /// The inverse function, which the exponent -1 denotes.
    pub(super) fn inverse(self) -> Option<Self> {
        Some(match self {
            Function::Sine => Function::Arcsine,
            Function::Cosine => Function::Arccosine,
            Function::Tangent => Function::Arctangent,
            Function::Cosecant => Function::Arccosecant,
            Function::Secant => Function::Arcsecant,
            Function::Cotangent => Function::Arccotangent,
            Function::HyperbolicSine => Function::AreaSine,
            Function::HyperbolicCosine => Function::AreaCosine,
            Function::HyperbolicTangent => Function::AreaTangent,
            _ => return None,
        })
    }

    fn of(self, a: Complex64) -> Complex64 {
        let whole = |round: fn(f64) -> f64| Complex64::new(round(a.re), round(a.im));
        match self {
            Function::Negation => -a,
            Function::Absolute => a.norm().into(),
            Function::Conjugate => a.conj(),
            Function::Factorial => {
                if a.im == 0.0 && (0.0..=170.0).contains(&a.re) && a.re.fract() == 0.0 {
                    (1..=a.re as u32).map(f64::from).product::<f64>().into()
                } else {
                    unknown("factorial", a)
                }
            }
            Function::Floor => whole(f64::floor),
            Function::Ceiling => whole(f64::ceil),
            Function::Exponential => a.exp(),
            Function::Sine => a.sin(),
            Function::Cosine => a.cos(),
            Function::Tangent => a.tan(),
            Function::Cosecant => a.sin().inv(),
            Function::Secant => a.cos().inv(),
            Function::Cotangent => a.tan().inv(),
            Function::Arcsine => a.asin(),
            Function::Arccosine => a.acos(),
            Function::Arctangent => a.atan(),
            Function::Arccosecant => a.inv().asin(),
            Function::Arcsecant => a.inv().acos(),
            Function::Arccotangent => a.inv().atan(),
            Function::HyperbolicSine => a.sinh(),
            Function::HyperbolicCosine => a.cosh(),
            Function::HyperbolicTangent => a.tanh(),
            Function::AreaSine => a.asinh(),
            Function::AreaCosine => a.acosh(),
            Function::AreaTangent => a.atanh(),
        }
    }
}
