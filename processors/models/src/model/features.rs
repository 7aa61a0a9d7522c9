//! The columns that a model learns from, and how each is encoded.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use arrow::datatypes::{DataType, Schema};
use millstream_core::{Problem, Problems, Result, Step, require_column, type_name};
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use crate::encode::{Encoder, Encoding, Feature, Missing, TargetEncoding, TextEncoding};
use crate::estimator::Takes;

/// The columns that a model learns from: `["a", "b"]`, or by column how it is encoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Features {
    /// Columns, encoded as is usual for their types.
    Listed(Vec<String>),
    /// Columns and how they are encoded.
    Encoded(Vec<(String, Encoding)>),
}

impl Default for Features {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
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

    /// `answers` are the columns that tell what is right.
    pub(super) fn plan(
        &self,
        schema: &Schema,
        answers: [Option<&str>; 2],
        takes: Takes,
        missing: Missing,
    ) -> Result<Vec<Feature>, Problems> {
        let names = self.names();
        let has_answers = answers[0].is_some() && answers[1].is_none();
        check_count(names.len(), takes).map_err(|problem| problem.under("features"))?;
        let mut problems = Problems::new();
        let mut features = Vec::new();
        let mut known = HashSet::new();
        for (index, name) in names.into_iter().enumerate() {
            let fresh = known.insert(name);
            let planned = self.plan_one(schema, index, name, answers, fresh, takes);
            let checked = planned.and_then(|feature| {
                check_encoding(&feature, missing, has_answers).map(|()| feature).map_err(Problem::new)
            });
            match checked {
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
        answers: [Option<&str>; 2],
        fresh: bool,
        takes: Takes,
    ) -> Result<Feature, Problem> {
        if Some(name) == answers[1] {
            return Err(Problem::new(format!("`{name}` is the reward, so the model would learn from the answer")));
        }
        if Some(name) == answers[0] {
            return Err(Problem::new(format!("`{name}` is the label, so the model would learn from the answer")));
        }
        if !fresh {
            return Err(Problem::new(format!("`{name}` is listed twice")));
        }
        let data_type = require_column(name, schema)?.data_type();
        let said = match self {
            Self::Listed(_) => Encoding { encoder: None, missing: None, indicator: false },
            Self::Encoded(columns) => columns[index].1,
        };
        let encoder = match said.encoder {
            None => usual_encoder(name, data_type, takes)?,
            Some(encoder) => fitting_encoder(name, data_type, encoder)?,
        };
        let feature = Feature::new(name, type_name(data_type), encoder);
        Ok(Feature { missing: said.missing, indicator: said.indicator, ..feature })
    }
}

/// Says if there are too few features, or too many.
fn check_count(features: usize, takes: Takes) -> Result<(), Problem> {
    match (takes, features) {
        (Takes::Dense | Takes::Raw, 0) => {
            let help = "add `features = [..]`, the columns to learn from";
            Err(Problem::new("there are no features to learn from").help(help))
        }
        (Takes::Nothing, 1..) => {
            Err(Problem::new(format!("this estimator learns from labels alone, and there are {features} features")))
        }
        _ => Ok(()),
    }
}

fn usual_encoder(name: &str, data_type: &DataType, takes: Takes) -> Result<Encoder, Problem> {
    if matches!(takes, Takes::Raw | Takes::Series) && data_type.is_numeric() {
        return Ok(Encoder::Raw);
    }
    Encoder::usual(data_type).ok_or_else(|| {
        Problem::new(format!("column `{name}` is {}, which can't be learned from", type_name(data_type)))
            .help("compute a number or a text from it in an `sql` node")
    })
}

fn fitting_encoder(name: &str, data_type: &DataType, encoder: Encoder) -> Result<Encoder, Problem> {
    if encoder.takes(data_type) {
        return Ok(encoder);
    }
    let (wanted, help) = if encoder == Encoder::Time {
        ("timestamps, and seconds since 1970", "times of other types are made timestamps by an `sql` node")
    } else if encoder.is_number() {
        ("numbers", "texts are encoded by `{ one_hot = 1024 }` or `{ hash = 1024 }`")
    } else {
        ("texts, booleans and integers", "numbers are encoded by `\"standardise\"` or `\"raw\"`")
    };
    let problem = format!("column `{name}` is {}, and this encodes {wanted}", type_name(data_type));
    Err(Problem::new(problem).help(help))
}

/// Says what of an encoding can't be; `missing` is what holds where the feature says nothing of its own, and `has_answers` whether there is a label that is
/// a number or a class.
pub(super) fn check_encoding(feature: &Feature, missing: Missing, has_answers: bool) -> Result<(), String> {
    let Feature { name, encoder, .. } = feature;
    let (what, count) = match encoder {
        Encoder::OneHot(slots) | Encoder::Hash(slots) => ("slots", *slots),
        Encoder::Frequency(most) | Encoder::Target(TargetEncoding { categories: most, .. }) => ("categories", *most),
        _ => ("", 1),
    };
    if !(1..=Encoder::MOST_SLOTS).contains(&count) {
        return Err(format!("`{name}` has {count} {what}; there must be 1 to {}", Encoder::MOST_SLOTS));
    }
    if let Encoder::Text(TextEncoding { numbers, words, .. }) = encoder
        && !((1..=TextEncoding::MOST_NUMBERS).contains(numbers) && (1..=5).contains(words))
    {
        let most = TextEncoding::MOST_NUMBERS;
        return Err(format!(
            "`{name}` has {numbers} numbers for runs of {words} words; there must be 1 to {most} for 1 to 5"
        ));
    }
    if let Encoder::Target(TargetEncoding { smoothing, .. }) = encoder {
        if !has_answers {
            return Err(format!("`{name}` is encoded by `target`, the mean of the label, and no label is learned"));
        }
        if !(0.0..=1e9).contains(smoothing) {
            return Err(format!("the `smoothing` of `{name}` is {smoothing}, and should be from 0 to 1e9"));
        }
    }
    if feature.indicator && feature.missing_or(missing) == Missing::Fail {
        let problem = format!("`{name}` has an `indicator`, and rows that lack it leave by the port `failed`");
        return Err(format!("{problem}; say by `missing` what stands for it, such as \"mean\""));
    }
    feature.missing_or(missing).check()
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
        let encoder = generator.subschema_for::<Encoding>();
        json_schema!({
            "anyOf": [
                { "type": "array", "items": { "type": "string" } },
                { "type": "object", "additionalProperties": encoder },
            ],
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn numbers_are_encoded_as_the_estimator_takes_them() {
        let schema = Schema::new(vec![
            Field::new("a", DataType::Float64, false),
            Field::new("b", DataType::Utf8, false),
            Field::new("c", DataType::Boolean, false),
        ]);
        let plan = |names: &[&str], takes| {
            let features = Features::Listed(names.iter().map(ToString::to_string).collect());
            let planned = features
                .plan(&schema, [Some("y"), None], takes, Missing::Fail)
                .map_err(|problems| problems[0].message.clone());
            planned.map(|features| features.into_iter().map(|feature| feature.encoder).collect::<Vec<_>>())
        };
        let one_hot = Encoder::OneHot(1024);
        assert_eq!(plan(&["a", "b", "c"], Takes::Dense).unwrap(), [Encoder::Standardise, one_hot, one_hot]);
        assert_eq!(plan(&["a", "b", "c"], Takes::Raw).unwrap(), [Encoder::Raw, one_hot, one_hot]);
        assert_eq!(plan(&[], Takes::Nothing).unwrap(), []);
        assert_eq!(plan(&[], Takes::Raw).unwrap_err(), "there are no features to learn from");
        let problem = plan(&["a"], Takes::Nothing).unwrap_err();
        assert_eq!(problem, "this estimator learns from labels alone, and there are 1 features");
    }
}
