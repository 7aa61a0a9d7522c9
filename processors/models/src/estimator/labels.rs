//! Which labels an estimator learns, and what is said of others.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Field, Schema};
use millstream_core::{Problem, require_column, type_name};

use crate::label::{Class, Label, LabelColumns};

/// The labels that an estimator learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Numbers.
    Numbers,
    /// Two classes, of which the second is the positive one.
    TwoClasses,
    /// Two or more classes.
    Classes,
    /// Classes if the label has any, else numbers.
    Any,
    /// Two or more classes, which are actions that were chosen, and a reward for each.
    Actions,
    /// No label.
    Nothing,
}

/// The most classes: every row has a prediction for each, and some rows are kept.
const MOST_CLASSES: usize = 10_000;

impl Labels {
    /// The label of the rows, or none where none is learned. `estimator` is what messages call the estimator.
    ///
    /// `label`, `reward` and `classes` are also the keys under which problems are reported.
    pub(crate) fn plan(
        self,
        estimator: &str,
        schema: &Schema,
        LabelColumns { label, reward, .. }: LabelColumns<'_>,
        classes: Option<&[Class]>,
    ) -> Result<Option<Label>, Problem> {
        let reward = self.reward(estimator, schema, label, reward)?;
        match (self, label, classes) {
            (Self::Nothing, None, None) => Ok(None),
            (Self::Nothing, None, Some(_)) => {
                let problem = format!("`{estimator}` learns without a label, so there are no classes");
                Err(Problem::new(problem).help("leave `classes` out").under("classes"))
            }
            (Self::Nothing, Some(_), _) => {
                let problem = format!("`{estimator}` learns without a label");
                Err(Problem::new(problem).help("leave `label` out").under("label"))
            }
            (_, None, _) => {
                let problem = format!("`{estimator}` learns to predict a label, and none is named");
                Err(Problem::new(problem).help("add `label = \"COLUMN\"`, the column with the true values"))
            }
            (_, Some(label), classes) => {
                let field = require_column(label, schema).map_err(|problem| problem.under("label"))?;
                let type_name = type_name(field.data_type()).into_owned();
                let classes = self.classes(estimator, field, classes)?;
                Ok(Some(Label { column: label.to_owned(), type_name, classes, reward }))
            }
        }
    }

    /// The column of the rewards, where the labels are actions.
    fn reward(
        self,
        estimator: &str,
        schema: &Schema,
        label: Option<&str>,
        reward: Option<&str>,
    ) -> Result<Option<String>, Problem> {
        let Some(reward) = reward else {
            if self != Self::Actions {
                return Ok(None);
            }
            let problem = format!("`{estimator}` learns which action is worth most, and no reward is named");
            return Err(
                Problem::new(problem).help("add `reward = \"COLUMN\"`, the column that says what each was worth")
            );
        };
        if self != Self::Actions {
            let problem = Problem::new(format!("`{estimator}` learns from no rewards"));
            return Err(problem.help("leave `reward` out").under("reward"));
        }
        let field = require_column(reward, schema).map_err(|problem| problem.under("reward"))?;
        if label == Some(reward) || !field.data_type().is_numeric() {
            let type_name = type_name(field.data_type());
            let problem = format!("reward `{reward}` is {type_name}, and should be a number besides the label");
            return Err(Problem::new(problem).under("reward"));
        }
        Ok(Some(reward.to_owned()))
    }

    /// The classes of a label: those that are given, or those that its type has; none for a number.
    fn classes(self, estimator: &str, label: &Field, given: Option<&[Class]>) -> Result<Vec<Class>, Problem> {
        let classes = match self {
            Self::Numbers | Self::Nothing => no_classes(estimator, label, given)?,
            Self::TwoClasses => plan_classes(label, given, true)?,
            Self::Any if given.is_none() && label.data_type().is_numeric() => Vec::new(),
            Self::Classes | Self::Actions | Self::Any => plan_classes(label, given, false)?,
        };
        self.check(estimator, &classes).map_err(|message| Problem::new(message).under("classes"))?;
        Ok(classes)
    }

    /// Says if a label of these classes is none that is learned.
    pub(crate) fn check(self, estimator: &str, classes: &[Class]) -> Result<(), String> {
        if classes.len() > MOST_CLASSES {
            return Err(format!("there are {} classes; {MOST_CLASSES} are the most", classes.len()));
        }
        let distinct: HashSet<_> = classes.iter().collect();
        if distinct.len() != classes.len() {
            return Err("a class is listed twice".to_owned());
        }
        let (fits, wanted) = match self {
            Self::Numbers | Self::Nothing => (classes.is_empty(), "no classes"),
            Self::TwoClasses => (classes.len() == 2, "two classes"),
            Self::Classes | Self::Actions => (classes.len() >= 2, "two or more classes"),
            Self::Any => (classes.len() != 1, "no classes, or two or more"),
        };
        if fits {
            return Ok(());
        }
        let help = if classes.len() > 2 { "; `softmax_regression` has any number" } else { "" };
        Err(format!("`{estimator}` has {wanted}, and there are {}{help}", classes.len()))
    }
}

fn no_classes(estimator: &str, label: &Field, given: Option<&[Class]>) -> Result<Vec<Class>, Problem> {
    if given.is_some() {
        let problem = format!("`{estimator}` predicts a number, which has no classes");
        return Err(Problem::new(problem).under("classes"));
    }
    if label.data_type().is_numeric() {
        return Ok(Vec::new());
    }
    let problem = format!("label `{}` is {}, and should be a number", label.name(), type_name(label.data_type()));
    let help = "`logistic_regression` predicts one of two classes, `softmax_regression` one of several";
    Err(Problem::new(problem).help(help).under("label"))
}

/// The classes of a label: those that are given, or those that its type has.
fn plan_classes(label: &Field, given: Option<&[Class]>, binary: bool) -> Result<Vec<Class>, Problem> {
    let (name, data_type) = (label.name(), label.data_type());
    match (data_type, given) {
        (DataType::Boolean, None) => Ok(vec![Class::Boolean(false), Class::Boolean(true)]),
        (integer, None) if integer.is_integer() && binary => Ok(vec![Class::Integer(0), Class::Integer(1)]),
        (DataType::Boolean | DataType::Utf8, Some(given)) => fitting_classes(label, given),
        (integer, Some(given)) if integer.is_integer() => fitting_classes(label, given),
        (integer, None) if *integer == DataType::Utf8 || integer.is_integer() => {
            let problem = format!("which values the label `{name}` can have must be said");
            let help = "add `classes = [..]`; of two classes the second is the positive one";
            Err(Problem::new(problem).help(help).under("label"))
        }
        (other, _) => {
            let problem = format!("label `{name}` is {}, and classes are boolean, integers or utf8", type_name(other));
            let help = "cast it in an `sql` node, or predict the number by `linear_regression`";
            Err(Problem::new(problem).help(help).under("label"))
        }
    }
}

fn fitting_classes(label: &Field, given: &[Class]) -> Result<Vec<Class>, Problem> {
    match given.iter().position(|class| !class.is_of(label.data_type())) {
        None => Ok(given.to_vec()),
        Some(odd) => {
            let type_name = type_name(label.data_type());
            let problem = format!("`{}` is no value of the label `{}`, which is {type_name}", given[odd], label.name());
            Err(Problem::new(problem).under(odd).under("classes"))
        }
    }
}
