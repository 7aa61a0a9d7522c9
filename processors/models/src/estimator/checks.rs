//! Checks of settings that several estimators have.

use std::collections::BTreeMap;

use millstream_core::{Problem, known_names};

use crate::label::Class;

/// How much the rows of classes count, by their names.
pub(super) type ClassWeight = BTreeMap<String, f64>;

/// How much the rows of a class count.
pub(super) fn weight_of(class: &Class, weights: &ClassWeight) -> f64 {
    weights.get(&class.to_string()).copied().unwrap_or(1.0)
}

/// How much the rows of each class count, in their order.
pub(super) fn weights_of(classes: &[Class], weights: &ClassWeight) -> Vec<f64> {
    classes.iter().map(|class| weight_of(class, weights)).collect()
}

/// Says which of the weights is none, or of none of these classes. Nothing is said of classes if they are not known.
pub(super) fn check_class_weight(weights: &ClassWeight, classes: &[Class]) -> Result<(), Problem> {
    for (name, weight) in weights {
        if !weight.is_finite() || *weight < 0.0 {
            let problem = format!("the weight of class `{name}` is {weight}, and should be a number from 0 up");
            return Err(Problem::new(problem).under(name.as_str()).under("class_weight"));
        }
        if !classes.is_empty() && !classes.iter().any(|class| class.to_string() == *name) {
            let known: Vec<_> = classes.iter().map(Class::to_string).collect();
            let problem = Problem::new(format!("`{name}` is no class of the label"));
            let help = known_names(name, known.iter().map(String::as_str));
            return Err(problem.help(help).under(name.as_str()).under("class_weight"));
        }
    }
    Ok(())
}

/// Says which of the values is no number from 0 up.
pub(super) fn check_not_negative(values: &[(&str, f64)]) -> Result<(), Problem> {
    match values.iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
        Some((name, value)) => {
            let problem = format!("`{name}` is {value}, and should be a number from 0 up, such as 0.01");
            Err(Problem::new(problem).under(*name))
        }
        None => Ok(()),
    }
}

/// Says which of the values is no number above 0.
pub(super) fn check_positive(values: &[(&str, f64)]) -> Result<(), Problem> {
    match values.iter().find(|(_, value)| !value.is_finite() || *value <= 0.0) {
        Some((name, value)) => {
            Err(Problem::new(format!("`{name}` is {value}, and should be more than 0, such as 1")).under(*name))
        }
        None => Ok(()),
    }
}

/// Says which of the values does not lie between its bounds, both included.
pub(super) fn check_from_to(values: &[(&str, f64, f64, f64)]) -> Result<(), Problem> {
    match values.iter().find(|(_, value, least, most)| !(*least..=*most).contains(value)) {
        Some((name, value, least, most)) => {
            Err(Problem::new(format!("`{name}` is {value}, and should be from {least} to {most}")).under(*name))
        }
        None => Ok(()),
    }
}

/// Says which of the values does not lie between 0 and 1, both excluded.
pub(super) fn check_inside(values: &[(&str, f64)]) -> Result<(), Problem> {
    match values.iter().find(|(_, value)| !(*value > 0.0 && *value < 1.0)) {
        Some((name, value)) => {
            Err(Problem::new(format!("`{name}` is {value}, and should lie between 0 and 1")).under(*name))
        }
        None => Ok(()),
    }
}
