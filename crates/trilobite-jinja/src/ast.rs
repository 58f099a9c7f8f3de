//! The syntax tree of a template.
//!
//! Operands of equal precedence, postfix operators and `elif` are lists, so that the depth of a
//! tree is the depth of brackets and blocks in the source, which the parser bounds.

use std::rc::Rc;

/// A statement and the number of its first line.
pub(super) struct Statement {
    pub(super) line: usize,
    pub(super) kind: StatementKind,
}

pub(super) type Body = Vec<Statement>;

pub(super) enum StatementKind {
    Text(String),
    Output(Expr),
    If {
        branches: Vec<(Expr, Body)>,
        otherwise: Body,
    },
    For(Rc<For>),
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<PostfixStep>,
        body: Body,
    },
    With {
        bindings: Vec<(Target, Expr)>,
        body: Body,
    },
    Filter {
        filters: Vec<PostfixStep>,
        body: Body,
    },
    Macro(Rc<Macro>),
    /// `{% call(arguments) callee(...) %}`: the body is a macro called `caller`.
    Call {
        call: Expr,
        caller: Rc<Macro>,
    },
    Break,
    Continue,
    /// A tag that needs other templates, which is not supported.
    Unsupported(Rc<str>),
}

pub(super) struct For {
    pub(super) target: Target,
    pub(super) iterable: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Body,
    pub(super) otherwise: Body,
}

pub(super) struct Macro {
    pub(super) name: Rc<str>,
    pub(super) parameters: Vec<(Rc<str>, Option<Expr>)>,
    pub(super) body: Body,
    /// Whether the body uses `varargs`, `kwargs` and `caller`. A macro accepts only those it uses.
    pub(super) uses: Uses,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Uses {
    pub(super) varargs: bool,
    pub(super) kwargs: bool,
    pub(super) caller: bool,
}

/// The target of an assignment.
pub(super) enum Target {
    Name(Rc<str>),
    /// An attribute of a namespace.
    Attribute(Rc<str>, Rc<str>),
    Tuple(Vec<Target>),
}

pub(super) enum Expr {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<str>),
    Name(Rc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    /// Operators of one precedence, applied from left to right.
    Arithmetic(Box<Expr>, Vec<(Operator, Expr)>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// `value if condition else value if condition else ...`
    Conditional(Vec<(Expr, Expr)>, Option<Box<Expr>>),
    Postfix(Box<Expr>, Vec<PostfixStep>),
}

/// A postfix operator.
pub(super) enum PostfixStep {
    Attribute(Rc<str>),
    Item(Expr),
    Slice([Option<Expr>; 3]),
    Call(Arguments),
    Filter(Rc<str>, Arguments),
    Test { name: Rc<str>, arguments: Arguments, negated: bool },
}

#[derive(Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(Rc<str>, Expr)>,
    /// `*list`
    pub(super) more_positional: Option<Box<Expr>>,
    /// `**dict`
    pub(super) more_named: Option<Box<Expr>>,
}

#[derive(Clone, Copy)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}

#[derive(Clone, Copy)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}
