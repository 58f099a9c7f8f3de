//! Small templates against the texts of transformers, as `models/golden/chat_templates.py` records them.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{Clock, render};

#[derive(Deserialize)]
struct Golden {
    now: String,
    variables: Map<String, Json>,
    expressions: Vec<Expression>,
}

#[derive(Deserialize)]
struct Expression {
    template: String,
    rendered: Option<String>,
}

#[test]
fn expressions_are_those_of_transformers() {
    let golden = include_str!("../../../models/golden/chat_templates.json");
    let golden: Golden = serde_json::from_str(golden).unwrap();
    let clock = Clock::Stopped(golden.now.parse().unwrap());
    assert!(golden.expressions.len() > 700);
    let mut wrong = Vec::new();
    for Expression { template, rendered } in &golden.expressions {
        let found = render(template, &golden.variables, clock);
        if found.as_ref().ok() != rendered.as_ref() {
            wrong.push(format!("{template:?}: {found:?}, not {rendered:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} texts differ:\n{}", wrong.len(), wrong.join("\n"));
}
