//! How features are encoded, as flows and model files say it.

use std::borrow::Cow;

use arrow::datatypes::DataType;
use millstream_core::ColumnType;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::rows::{LARGEST_OF_32_BITS, is_usable};

/// How a column becomes numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// The number as it is.
    Raw,
    /// The number less the mean so far, divided by the standard deviation so far.
    Standardise,
    /// From 0 for the smallest number so far to 1 for the largest; what lies outside is cut off.
    MinMax,
    /// The number less the median so far, divided by the distance between the quartiles so far, which a few numbers of another size don't move. Cut off
    /// at -10 and 10.
    Robust,
    /// The share of the numbers so far that are smaller, from 0 to 1: evenly spread, whatever the numbers are like.
    Quantile,
    /// A one in the slot of the value. The first N values get a slot, later ones share the last.
    OneHot(#[schemars(range(min = 1, max = 16777216))] u32),
    /// A one in one of N slots, by a hash of the value. Values may share a slot, and none is remembered.
    Hash(#[schemars(range(min = 1, max = 16777216))] u32),
    /// The share of the rows so far that had the value, from 0 for a new one. The first N values are counted, later ones all together.
    Frequency(#[schemars(range(min = 1, max = 16777216))] u32),
    /// The mean of the label of the rows so far that had the value, drawn to the mean of all by `smoothing`; of classes how often each was the label, of two the second;
    /// of numbers, where others are standardised, how far that lies from the mean of all, in standard deviations. The label of a row is not in its own number, so that nothing leaks.
    Target(TargetEncoding),
    /// Where in the day, the week and the year a timestamp lies, in UTC: the sine and the cosine of each, six numbers, which are 0 where it is missing. A number is taken for seconds
    /// since 1970.
    Time,
    /// The words of a text, each counted in one of so many numbers by its hash, times how rare it was so far (TF-IDF), brought to the length 1.
    Text(TextEncoding),
}

/// How texts are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextEncoding {
    /// How many numbers there are. Words whose hashes are the same count as one.
    #[schemars(range(min = 1, max = 65536))]
    #[serde(default = "numbers")]
    pub numbers: u32,
    /// Runs of up to so many words count as well, each as a word of its own.
    #[schemars(range(min = 1, max = 5))]
    #[serde(default = "words")]
    pub words: u32,
    /// Whether rare words count more.
    #[serde(default = "idf")]
    pub idf: bool,
}

impl TextEncoding {
    /// The most numbers that one column may have.
    pub(crate) const MOST_NUMBERS: u32 = 1 << 16;
}

fn numbers() -> u32 {
    256
}

fn words() -> u32 {
    1
}

fn idf() -> bool {
    true
}

/// How categories are encoded by the label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetEncoding {
    /// How many values are known by themselves: the first ones. Later ones are known all together.
    #[schemars(range(min = 1, max = 16_777_216))]
    #[serde(default = "categories")]
    pub categories: u32,
    /// As how many rows the mean of all counts beside those that had the value.
    #[schemars(range(min = 0))]
    #[serde(default = "smoothing")]
    pub smoothing: f64,
}

fn categories() -> u32 {
    1024
}

fn smoothing() -> f64 {
    10.0
}

impl Encoder {
    /// The most slots that one column may have.
    pub const MOST_SLOTS: u32 = 1 << 24;

    /// What a column is encoded by when nothing else is said, or `None` for types that can't be learned from.
    pub fn usual(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Utf8 | DataType::Boolean => Some(Self::OneHot(1024)),
            other if other.is_numeric() => Some(Self::Standardise),
            _ => None,
        }
    }

    /// Whether the column is read as a number, and not as a category.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Raw | Self::Standardise | Self::MinMax | Self::Robust | Self::Quantile | Self::Time)
    }

    /// How many slots the column has; 0 if it has none.
    pub fn slots(self) -> u32 {
        match self {
            Self::OneHot(slots) | Self::Hash(slots) => slots,
            _ => 0,
        }
    }

    /// Whether a column of this type can be encoded so.
    pub fn takes(self, data_type: &DataType) -> bool {
        if self == Self::Time {
            data_type.is_numeric() || matches!(data_type, DataType::Timestamp(..))
        } else if matches!(self, Self::Text(_)) {
            *data_type == DataType::Utf8
        } else if self.is_number() {
            data_type.is_numeric() || *data_type == DataType::Boolean
        } else {
            matches!(data_type, DataType::Utf8 | DataType::Boolean) || data_type.is_integer()
        }
    }
}

/// A column that a model learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// The column's name.
    pub name: String,
    /// Its type in the type language: `float64`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// How it is encoded.
    pub encoder: Encoder,
    /// What stands for a missing value, if that is another one than for other features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// Whether there is one more number: 1 where the value is missing, else 0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub indicator: bool,
}

impl Feature {
    /// A column of that name and type, encoded so. What is missing is as for other features.
    pub fn new(name: impl Into<String>, type_name: impl Into<String>, encoder: Encoder) -> Self {
        Self { name: name.into(), type_name: type_name.into(), encoder, missing: None, indicator: false }
    }

    /// What stands for a missing value, where that is said for all features.
    pub(crate) fn missing_or(&self, of_all: Missing) -> Missing {
        self.missing.unwrap_or(of_all)
    }

    /// Whether a column of this type can stand where the model was trained on this feature: numbers for numbers,
    /// and the same texts for categories.
    pub fn accepts(&self, data_type: &DataType) -> bool {
        let trained_on = ColumnType::parse(&self.type_name).ok().map(|column| column.data_type);
        if self.encoder.is_number() {
            self.encoder.takes(data_type)
        } else {
            trained_on.is_some_and(|known| known == *data_type || known.is_integer() && data_type.is_integer())
        }
    }
}

/// What to do with rows that lack a feature. What stands for the value is known before the row, and changes nothing of what is learned about the values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The row leaves by the port `failed`.
    #[default]
    Fail,
    /// A number counts as the mean of those so far, and a category has no slot.
    Mean,
    /// A number counts as the median of those so far, and a category has no slot.
    Median,
    /// The value of the last row that was learned and had one; before there is any, 0 or no slot.
    Previous,
    /// A number counts as this one, and a category has no slot.
    Constant(f64),
}

impl Missing {
    /// Says if a number is none that can be learned from.
    pub(crate) fn check(self) -> Result<(), String> {
        match self {
            Self::Constant(number) if !is_usable(number, LARGEST_OF_32_BITS) => {
                Err(format!("`constant` is {number}, and should be a number up to {LARGEST_OF_32_BITS:e}"))
            }
            _ => Ok(()),
        }
    }
}

/// A column, and how it is encoded, as flows say it: an encoder, or a table with `encode` and what stands for missing values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// How it is encoded; as is usual for its type if nothing is said.
    pub encoder: Option<Encoder>,
    /// What stands for a missing value, if that is another one than for other features.
    pub missing: Option<Missing>,
    /// Whether there is one more number: 1 where the value is missing, else 0.
    pub indicator: bool,
}

impl From<Encoder> for Encoding {
    fn from(encoder: Encoder) -> Self {
        Self { encoder: Some(encoder), missing: None, indicator: false }
    }
}

/// How a column is encoded, and what stands for missing values.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct Table {
    /// How the column becomes numbers; as is usual for its type if nothing is said.
    encode: Option<Encoder>,
    /// What to do with rows that lack this feature, if it is not what `missing` of the node says.
    missing: Option<Missing>,
    /// Adds a number: 1 where the value is missing, else 0.
    #[serde(default)]
    indicator: bool,
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let said = serde_json::Value::deserialize(deserializer)?;
        let is_table =
            |said: &serde_json::Map<_, _>| ["encode", "missing", "indicator"].iter().any(|key| said.contains_key(*key));
        if said.as_object().is_some_and(is_table) {
            let Table { encode, missing, indicator } = serde_json::from_value(said).map_err(D::Error::custom)?;
            return Ok(Self { encoder: encode, missing, indicator });
        }
        serde_json::from_value::<Encoder>(said).map(Self::from).map_err(D::Error::custom)
    }
}

impl JsonSchema for Encoding {
    fn schema_name() -> Cow<'static, str> {
        "Encoding".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (encoder, table) = (generator.subschema_for::<Encoder>(), Table::json_schema(generator));
        json_schema!({ "anyOf": [encoder, table] })
    }
}
