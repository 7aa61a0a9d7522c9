//! What a model learns from, what it predicts, and how: planned from the columns that there are.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use arrow::datatypes::{DataType, Field, Schema};
use millstream_core::{Problem, Problems, Result, ResultExt, Step, require_column, type_name};
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::Predictions;
use crate::device::{self, DeviceSettings};
use crate::encode::{Encoder, Feature, Missing};
use crate::estimator::{EstimatorSettings, Labels};
use crate::label::{Class, Label};
use crate::metrics::Scores;

/// What a model learns from, what it predicts, and how. It stands in the model's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// What learns.
    pub estimator: EstimatorSettings,
    /// What it learns from.
    pub features: Vec<Feature>,
    /// What it predicts.
    pub label: Label,
    /// What happens to rows that lack a feature.
    pub missing: Missing,
}

impl Signature {
    /// Checks what was asked for against the columns that there are.
    ///
    /// `estimator`, `features`, `label` and `classes` are also the keys under which problems are reported.
    pub fn plan(
        schema: &Schema,
        estimator: &EstimatorSettings,
        features: &Features,
        label: &str,
        classes: Option<&[Class]>,
        missing: Missing,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let features = features.plan(schema, label).map_err(|found| problems.extend(found));
        let label = plan_label(schema, estimator, label, classes).map_err(|found| problems.push(found));
        let classes = label.as_ref().map_or(&[][..], |label| &label.classes);
        if let Err(problem) = estimator.check(classes) {
            problems.push(problem.under("estimator"));
        }
        match (features, label) {
            (Ok(features), Ok(label)) if problems.is_empty() => {
                let signature = Self { estimator: estimator.clone(), features, label, missing };
                signature.check().map(|()| signature).map_err(|message| Problem::new(message).into())
            }
            _ => Err(problems),
        }
    }

    /// Says if a device was asked for that such a model isn't computed on.
    pub(crate) fn check_device(&self, device: DeviceSettings) -> Result<(), Problem> {
        match (&self.estimator, device) {
            (_, DeviceSettings::Auto | DeviceSettings::Cpu) => Ok(()),
            (EstimatorSettings::Network(_), DeviceSettings::Cuda(_)) => {
                device::check_build(device).map_err(|problem| problem.under("device"))
            }
            (estimator, DeviceSettings::Cuda(_)) => {
                let problem = format!("`{}` is always computed on the CPU", estimator.name());
                Err(Problem::new(problem).help("leave `device` out: it is for networks").under("device"))
            }
        }
    }

    /// As JSON, always the same for equal signatures.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a signature has only texts as keys")
    }

    /// From JSON.
    pub fn from_json(text: &str) -> Result<Self> {
        let signature: Self = serde_json::from_str(text).doing(|| "reading the signature of the model")?;
        signature.check().map_err(millstream_core::Error::new).doing(|| "reading the signature of the model")?;
        Ok(signature)
    }

    /// Room for the predictions of so many rows, each of so many numbers.
    pub(crate) fn predictions(&self, rows: usize, outputs: usize) -> Predictions {
        Predictions::new(rows, outputs, self.estimator.certainty())
    }

    /// Scores of nothing yet.
    pub(crate) fn scores(&self) -> Scores {
        Scores::new(self.label.task(), self.estimator.certainty())
    }

    /// What has to hold for a model to be built, whoever wrote the signature.
    fn check(&self) -> Result<(), String> {
        self.features.iter().try_for_each(check_slots)?;
        check_classes(&self.estimator, &self.label.classes)?;
        if let Some(odd) = self.label.classes.iter().find(|class| !self.label.has(class)) {
            let Label { column, type_name, .. } = &self.label;
            return Err(format!("`{odd}` is no value of the label `{column}`, which is {type_name}"));
        }
        self.estimator.check(&self.label.classes).map_err(|problem| problem.message)?;
        let weights = self.weights();
        if weights > MOST_WEIGHTS {
            return Err(format!("the model would have {weights} weights; {MOST_WEIGHTS} are the most"));
        }
        Ok(())
    }

    /// How many weights the largest part of the model has: those of slots, or those of a network's layers for all rows that
    /// are learned at once.
    fn weights(&self) -> u64 {
        let classes = self.label.classes.len().max(1) as u64;
        let slots = self.features.iter().map(|feature| u64::from(feature.encoder.slots())).sum::<u64>();
        let EstimatorSettings::Network(settings) = &self.estimator else { return slots.saturating_mul(classes) };
        let numbers = self.features.iter().filter(|feature| feature.encoder.is_number()).count() as u64;
        settings.most_numbers(numbers, self.features.len() as u64 - numbers, slots, classes)
    }
}

/// The most weights that a part of a model may have: 1 GiB of them.
const MOST_WEIGHTS: u64 = 1 << 27;

fn check_slots(feature: &Feature) -> Result<(), String> {
    let slots = feature.encoder.slots();
    if feature.encoder.is_number() || (1..=Encoder::MOST_SLOTS).contains(&slots) {
        return Ok(());
    }
    Err(format!("`{}` has {slots} slots; there must be 1 to {}", feature.name, Encoder::MOST_SLOTS))
}

/// The columns that a model learns from: `["a", "b"]`, or by column how it is encoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Features {
    /// Columns, encoded as is usual for their types.
    Listed(Vec<String>),
    /// Columns and how they are encoded.
    Encoded(Vec<(String, Encoder)>),
}

impl Features {
    /// The names of the columns.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Listed(names) => names.iter().map(String::as_str).collect(),
            Self::Encoded(columns) => columns.iter().map(|(name, _)| name.as_str()).collect(),
        }
    }

    fn step(&self, index: usize, name: &str) -> Step {
        match self {
            Self::Listed(_) => Step::Index(index),
            Self::Encoded(_) => Step::Key(name.to_owned()),
        }
    }

    fn plan(&self, schema: &Schema, label: &str) -> Result<Vec<Feature>, Problems> {
        let names = self.names();
        if names.is_empty() {
            return Err(Problem::new("there are no features to learn from").under("features").into());
        }
        let mut problems = Problems::new();
        let mut features = Vec::new();
        let mut known = HashSet::new();
        for (index, name) in names.into_iter().enumerate() {
            let fresh = known.insert(name);
            match self.plan_one(schema, index, name, label, fresh) {
                Ok(feature) => features.push(feature),
                Err(problem) => problems.push(problem.under(self.step(index, name)).under("features")),
            }
        }
        if problems.is_empty() { Ok(features) } else { Err(problems) }
    }

    fn plan_one(
        &self,
        schema: &Schema,
        index: usize,
        name: &str,
        label: &str,
        fresh: bool,
    ) -> Result<Feature, Problem> {
        if name == label {
            return Err(Problem::new(format!("`{name}` is the label, so the model would learn from the answer")));
        }
        if !fresh {
            return Err(Problem::new(format!("`{name}` is listed twice")));
        }
        let data_type = require_column(name, schema)?.data_type();
        let encoder = match self {
            Self::Listed(_) => usual_encoder(name, data_type)?,
            Self::Encoded(columns) => fitting_encoder(name, data_type, columns[index].1)?,
        };
        let feature = Feature { name: name.to_owned(), type_name: type_name(data_type).into_owned(), encoder };
        check_slots(&feature).map(|()| feature).map_err(Problem::new)
    }
}

fn usual_encoder(name: &str, data_type: &DataType) -> Result<Encoder, Problem> {
    Encoder::usual(data_type).ok_or_else(|| {
        Problem::new(format!("column `{name}` is {}, which can't be learned from", type_name(data_type)))
            .help("compute a number or a text from it in an `sql` node")
    })
}

fn fitting_encoder(name: &str, data_type: &DataType, encoder: Encoder) -> Result<Encoder, Problem> {
    if encoder.takes(data_type) {
        return Ok(encoder);
    }
    let (wanted, help) = match encoder.is_number() {
        true => ("numbers", "texts are encoded by `{ one_hot = 1024 }` or `{ hash = 1024 }`"),
        false => ("texts, booleans and integers", "numbers are encoded by `\"standardise\"` or `\"raw\"`"),
    };
    let problem = format!("column `{name}` is {}, and this encodes {wanted}", type_name(data_type));
    Err(Problem::new(problem).help(help))
}

fn plan_label(
    schema: &Schema,
    estimator: &EstimatorSettings,
    label: &str,
    classes: Option<&[Class]>,
) -> Result<Label, Problem> {
    let field = require_column(label, schema).map_err(|problem| problem.under("label"))?;
    let type_name = type_name(field.data_type()).into_owned();
    let classes = match estimator.labels() {
        Labels::Numbers => regression_classes(estimator, field, classes)?,
        Labels::TwoClasses => plan_classes(field, classes, true)?,
        Labels::Classes => plan_classes(field, classes, false)?,
        Labels::Any if classes.is_none() && field.data_type().is_numeric() => Vec::new(),
        Labels::Any => plan_classes(field, classes, false)?,
    };
    check_classes(estimator, &classes).map_err(|message| Problem::new(message).under("classes"))?;
    Ok(Label { column: label.to_owned(), type_name, classes })
}

fn regression_classes(
    estimator: &EstimatorSettings,
    label: &Field,
    classes: Option<&[Class]>,
) -> Result<Vec<Class>, Problem> {
    if classes.is_some() {
        let problem = format!("`{}` predicts a number, which has no classes", estimator.name());
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
    let fits = |class: &Class| match class {
        Class::Boolean(_) => *label.data_type() == DataType::Boolean,
        Class::Integer(_) => label.data_type().is_integer(),
        Class::Text(_) => *label.data_type() == DataType::Utf8,
    };
    match given.iter().position(|class| !fits(class)) {
        None => Ok(given.to_vec()),
        Some(odd) => {
            let type_name = type_name(label.data_type());
            let problem = format!("`{}` is no value of the label `{}`, which is {type_name}", given[odd], label.name());
            Err(Problem::new(problem).under(odd).under("classes"))
        }
    }
}

fn check_classes(estimator: &EstimatorSettings, classes: &[Class]) -> Result<(), String> {
    let distinct: HashSet<_> = classes.iter().collect();
    if distinct.len() != classes.len() {
        return Err("a class is listed twice".to_owned());
    }
    let (fits, wanted) = match estimator.labels() {
        Labels::Numbers => (classes.is_empty(), "no classes"),
        Labels::TwoClasses => (classes.len() == 2, "two classes"),
        Labels::Classes => (classes.len() >= 2, "two or more classes"),
        Labels::Any => (classes.len() != 1, "no classes, or two or more"),
    };
    if fits {
        return Ok(());
    }
    let help = if classes.len() > 2 { "; `softmax_regression` has any number" } else { "" };
    Err(format!("`{}` has {wanted}, and there are {}{help}", estimator.name(), classes.len()))
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrTable;
        impl<'de> Visitor<'de> for ListOrTable {
            type Value = Features;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of columns, or a table of columns and encoders")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Features, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(Features::Listed(names))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Features, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = table.next_entry()? {
                    columns.push(column);
                }
                Ok(Features::Encoded(columns))
            }
        }
        deserializer.deserialize_any(ListOrTable)
    }
}

impl JsonSchema for Features {
    fn schema_name() -> Cow<'static, str> {
        "Features".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> schemars::Schema {
        let encoder = generator.subschema_for::<Encoder>();
        json_schema!({
            "anyOf": [
                { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                { "type": "object", "additionalProperties": encoder },
            ],
        })
    }
}
