//! Ensembles of any estimators: what they predict together. All learn the same rows, each on whatever thread, and what they predicted is put
//! together row by row in their order, so that neither batches nor threads matter.

mod bagging;
mod members;
mod stacking;
mod voting;

use millstream_core::{Error, Problem, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub(super) use bagging::Bagging;
use members::Members;
pub(super) use stacking::Stacking;
pub(super) use voting::Voting;

use super::checks::check_from_to;
use super::settings::an_estimator;
use super::{
    Estimator, EstimatorSettings, Gives, Kind, Labels, Predict, Settings, Shape, Step, Takes, likeliest, positive,
};
use crate::encode::Feature;
use crate::label::Class;
use crate::tensors::Tensors;

/// Each of them learns every row.
const MOST_MEMBERS: usize = 100;

/// The schema of a list of estimators, which would have no end if it said all that one can have: such lists are among it.
fn list_of_estimators(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "minItems": 1, "maxItems": MOST_MEMBERS, "items": an_estimator(generator) })
}

/// Says which member does not learn such labels, or is wrong in itself.
fn check_members(members: &[EstimatorSettings], classes: &[Class]) -> Result<(), Problem> {
    if !(1..=MOST_MEMBERS).contains(&members.len()) {
        let problem = format!("there are {} estimators, and should be 1 to {MOST_MEMBERS}", members.len());
        return Err(Problem::new(problem).under("estimators"));
    }
    for (index, member) in members.iter().enumerate() {
        check_member(member, classes).map_err(|problem| problem.under(index).under("estimators"))?;
    }
    Ok(())
}

/// Says if an estimator of an ensemble does not learn such labels, or is wrong in itself.
fn check_member(member: &EstimatorSettings, classes: &[Class]) -> Result<(), Problem> {
    if matches!(member.labels(), Labels::Nothing | Labels::Actions) {
        return Err(Problem::new(format!("`{}` predicts no label", member.name())));
    }
    member.labels().check(member.name(), classes).map_err(Problem::new)?;
    member.settings().check(classes)
}

/// What they take together: numbers are standardised if one of them needs that.
fn takes(members: &[EstimatorSettings]) -> Takes {
    if members.iter().all(|member| member.takes() == Takes::Raw) { Takes::Raw } else { Takes::Dense }
}

/// The labels that all of them learn.
fn labels(members: &[EstimatorSettings]) -> Labels {
    let all = |labels: &[Labels]| members.iter().all(|member| labels.contains(&member.labels()));
    if all(&[Labels::Any]) {
        Labels::Any
    } else if all(&[Labels::Any, Labels::Numbers]) {
        Labels::Numbers
    } else if members.iter().any(|member| member.labels() == Labels::TwoClasses) {
        Labels::TwoClasses
    } else {
        Labels::Classes
    }
}

fn check_features(members: &[EstimatorSettings], features: &[Feature]) -> Result<(), Problem> {
    for (index, member) in members.iter().enumerate() {
        let fits = member.settings().check_features(features);
        fits.map_err(|problem| problem.under(index).under("estimators"))?;
    }
    Ok(())
}

/// Whether what they have learned is looked at to see if it grows without end: what some keep, such as trees, is no weight, and may be large.
fn can_diverge<'a>(members: impl IntoIterator<Item = &'a EstimatorSettings>) -> bool {
    members.into_iter().all(|member| member.settings().can_diverge())
}

fn most_numbers(members: &[EstimatorSettings], features: &[Feature], classes: &[Class]) -> u64 {
    let of_members = members.iter().map(|member| member.settings().most_numbers(features, classes));
    of_members.max().unwrap_or(0).max(members.len() as u64)
}

/// How many numbers a prediction for so many classes has, or that of a number.
fn outputs(classes: usize) -> usize {
    if classes == 2 { 1 } else { classes.max(1) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
