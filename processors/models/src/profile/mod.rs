//! What the rows looked like that a model has learned, and how far those lie from them that it is asked about.

mod observed;
mod sample;

use serde::{Deserialize, Serialize};

pub use observed::{InputFigures, Observed};
pub(crate) use sample::Sample;

/// What the values of a feature were in a sample of the rows that a model has learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureProfile {
    /// The feature's name.
    pub feature: String,
    /// How many rows the sample has.
    pub rows: u64,
    /// The share of the rows that lack it.
    pub missing: f64,
    /// The values of the others.
    pub values: Values,
}

/// The values of a feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// Numbers.
    Numbers {
        /// Their mean.
        mean: f64,
        /// Their standard deviation.
        deviation: f64,
        /// Where the sample is cut into ten parts as equal as its values allow: the largest value of each part but the last.
        edges: Vec<f64>,
        /// The share of each part.
        shares: Vec<f64>,
    },
    /// Texts, and what is encoded as they are.
    Categories {
        /// The frequent ones. Rare values are not told, since they may be of one person.
        frequent: Vec<Frequent>,
        /// The share of all others.
        others: f64,
    },
}

/// A value that is frequent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frequent {
    /// The value, or its beginning.
    pub value: String,
    /// Its share.
    pub share: f64,
}

impl Values {
    /// The shares of all parts, whose sum is 1 unless there is no value.
    fn shares(&self) -> Vec<f64> {
        match self {
            Self::Numbers { shares, .. } => shares.clone(),
            Self::Categories { frequent, others } => {
                frequent.iter().map(|frequent| frequent.share).chain([*others]).collect()
            }
        }
    }

    /// The part that a number belongs to.
    fn part_of_number(&self, number: f64) -> usize {
        match self {
            Self::Numbers { edges, .. } => edges.partition_point(|edge| *edge < number),
            Self::Categories { frequent, .. } => frequent.len(),
        }
    }

    /// The part that a text belongs to.
    fn part_of_text(&self, text: &str) -> usize {
        let Self::Categories { frequent, .. } = self else { return 0 };
        let text = sample::beginning(text);
        frequent.iter().position(|frequent| frequent.value == text).unwrap_or(frequent.len())
    }
}

/// A share of nothing counts as so much, half a row of the sample.
const LEAST_SHARE: f64 = 1e-3;

/// How far counts lie from shares: the population stability index, which credit scoring reads as no change below 0.1 and as a large one above 0.25
/// (Siddiqi 2006, *Credit Risk Scorecards*).
fn stability_index(shares: &[f64], counts: &[u64]) -> f64 {
    let total: u64 = counts.iter().sum();
    let parts = shares.iter().zip(counts).map(|(share, count)| {
        let (learned, asked) = (share.max(LEAST_SHARE), (*count as f64 / total as f64).max(LEAST_SHARE));
        (asked - learned) * libm::log(asked / learned)
    });
    parts.sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
