//! How a model or an evaluation does, in figures.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::Error;

/// Names and values of metrics, in the order in which they are shown. What can't be computed is NaN.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(pub Vec<(&'static str, f64)>);

impl Metrics {
    /// The value of one metric.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

impl Serialize for Metrics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// What a node has to report.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A model in training.
    Model(ModelReport),
    /// Predictions compared with labels.
    Evaluation(Evaluation),
    /// Anything else, which is shown as it is.
    Figures(Figures),
}

impl Report {
    /// What keeps the node from its other side while it tries again: the figure that is called so.
    pub fn trouble(&self) -> Option<&str> {
        let Self::Figures(Figures { values, .. }) = self else { return None };
        values.iter().find(|(name, _)| *name == TROUBLE)?.1.as_str()
    }
}

/// The name of the figure that says what keeps a node from its other side, such as a broker that does not answer. As long as a node reports it,
/// people are told that it tries again.
pub const TROUBLE: &str = "trouble";

/// What keeps a node from its other side at the moment: noted where something is tried again, and told by what the node reports.
#[derive(Clone, Debug, Default)]
pub struct Disturbance(Arc<Mutex<Option<String>>>);

impl Disturbance {
    /// Notes what is wrong, or that nothing is.
    pub fn note(&self, why: Option<&Error>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why.map(ToString::to_string);
    }

    /// The figure that says it, if something is wrong.
    pub fn figure(&self) -> Option<(&'static str, Value)> {
        let why = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        why.map(|why| (TROUBLE, Value::from(why)))
    }

    /// A report that says nothing else; none if nothing is wrong.
    pub fn report(&self, title: &str) -> Option<Report> {
        let values = vec![self.figure()?];
        Some(Report::Figures(Figures { title: title.to_owned(), values }))
    }
}

/// What a node has to say that nobody else need know the meaning of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// What they are about, for people: "cache of prices".
    pub title: String,
    /// Names and values, in the order in which they are shown: numbers and texts; programs can read others as well.
    pub values: Vec<(&'static str, Value)>,
}

impl Serialize for Figures {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.values.iter().map(|(name, value)| (name, value)))
    }
}

/// A model in training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelReport {
    /// The model's name.
    #[serde(skip)]
    pub model: String,
    /// The version last published.
    pub version: Option<u64>,
    /// How many rows it has learned.
    pub rows: u64,
    /// The SHA-256 of the model file as it is now.
    pub sha256: Option<String>,
    /// Of the rows it learned, each predicted before it was learned.
    pub metrics: Metrics,
    /// Of the last 1000 of them.
    pub recent: Metrics,
    /// Of the rows that it was told not to learn, if there were such.
    pub held_out: Option<Metrics>,
    /// What predictions without any model reach on the learned rows.
    pub baselines: Baselines,
    /// Of the rows it learned, which classes were predicted for which.
    pub confusion: Option<ConfusionMatrix>,
}

/// How often each class was predicted for the rows of each class.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ConfusionMatrix {
    /// The classes, in their order.
    pub classes: Vec<String>,
    /// Class by class, for how many of its rows each class was predicted.
    pub counts: Vec<Vec<u64>>,
}

/// What predictions without any model reach.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Baselines {
    /// The label of the row before: the persistence baseline of forecasting.
    pub persistence: Metrics,
    /// The most frequent class so far, or the mean.
    pub majority: Metrics,
}

/// Predictions compared with labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// How many rows had a prediction and a label.
    pub rows: u64,
    /// The figures.
    pub metrics: Metrics,
    /// Of the last 1000 of these rows.
    pub recent: Metrics,
    /// What predictions without any model reach on these rows; nothing if it is not known which classes there are.
    pub baselines: Baselines,
    /// The figures of each class, in their order.
    #[serde(serialize_with = "as_map")]
    pub by_class: Vec<(String, Metrics)>,
    /// Which classes were predicted for which.
    pub confusion: Option<ConfusionMatrix>,
    /// The figures of rows apart by the values of a column, if they were asked for.
    pub segments: BTreeMap<String, Evaluation>,
}

fn as_map<S: serde::Serializer>(entries: &[(String, Metrics)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(name, metrics)| (name, metrics)))
}
