//! How features are encoded, as flows and model files say it.

use millstream_core::ColumnType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use arrow::datatypes::DataType;

/// How a column becomes numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// The number as it is.
    Raw,
    /// The number less the mean so far, divided by the standard deviation so far.
    Standardise,
    /// A one in the slot of the value. The first N values get a slot, later ones share the last.
    OneHot(#[schemars(range(min = 1, max = 16777216))] u32),
    /// A one in one of N slots, by a hash of the value. Values may share a slot, and none is remembered.
    Hash(#[schemars(range(min = 1, max = 16777216))] u32),
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
        matches!(self, Self::Raw | Self::Standardise)
    }

    /// How many slots the column has; none if it is a number.
    pub fn slots(self) -> u32 {
        match self {
            Self::OneHot(slots) | Self::Hash(slots) => slots,
            Self::Raw | Self::Standardise => 0,
        }
    }

    /// Whether a column of this type can be encoded so.
    pub fn takes(self, data_type: &DataType) -> bool {
        if self.is_number() {
            data_type.is_numeric() || *data_type == DataType::Boolean
        } else {
            matches!(data_type, DataType::Utf8 | DataType::Boolean) || data_type.is_integer()
        }
    }
}

/// A column that a model learns from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// The column's name.
    pub name: String,
    /// Its type in the type language: `float64`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// How it is encoded.
    pub encoder: Encoder,
}

impl Feature {
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

/// What to do with rows that lack a feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The row leaves by the port `failed`.
    #[default]
    Fail,
    /// A number counts as the mean of those so far, and a category has no slot.
    Mean,
}
