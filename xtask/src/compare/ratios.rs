//! The goals of a comparison and the ratios reached.

use serde::Serialize;

use super::plan::Plan;
use super::row::Row;

/// The ratio of a goal: the largest median of our rows to the largest of theirs.
#[derive(Serialize)]
pub(super) struct Ratio<'a> {
    goal: &'a str,
    test: String,
    ours: &'a str,
    theirs: &'a str,
    ratio: f64,
    at_least: f64,
}

/// The ratios of the goals for which both sides were measured.
pub(super) fn ratios<'a>(plan: &'a Plan, rows: &'a [Row]) -> Vec<Ratio<'a>> {
    let mut ratios = Vec::new();
    for goal in &plan.goals {
        for test in plan.tests() {
            if test.name().rsplit_once('-').is_none_or(|(name, _)| name != goal.test) {
                continue;
            }
            let best = |names: &[String]| {
                let named = rows.iter().filter(|row| names.contains(&row.name));
                let speeds = named.filter_map(|r| Some((r.name.as_str(), r.speed(test)?.median)));
                speeds.max_by(|(_, a), (_, b)| a.total_cmp(b))
            };
            if let (Some(ours), Some(theirs)) = (best(&goal.ours), best(&goal.theirs)) {
                ratios.push(Ratio {
                    goal: &goal.name,
                    test: plan.label(test),
                    ours: ours.0,
                    theirs: theirs.0,
                    ratio: ours.1 / theirs.1,
                    at_least: goal.at_least,
                });
            }
        }
    }
    ratios
}
