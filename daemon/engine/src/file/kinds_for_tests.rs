//! Types of nodes to test flow files with: their settings have one of each shape that settings have.

// Settings are built here, but nothing is done with them.
#![allow(dead_code)]

use std::collections::BTreeMap;

use millstream_core::{
    Columns, Duration, InputPlan, InputSettings, Kind, NodeTypes, OutputPlan, OutputSettings, PlanContext, Problem,
    Problems, ProcessorPlan, ProcessorSettings, Secret, Stream,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::LoadOptions;

pub fn registry() -> NodeTypes {
    let mut registry = NodeTypes::default();
    registry.input::<Rows>().input::<Csv>().input::<Queue>();
    registry.connection::<Broker>().connection::<Site>();
    registry.processor::<Sql>().processor::<Train>().processor::<Join>();
    registry.output::<Print>();
    registry
}

/// An environment without variables, and no `--set`.
pub fn options(registry: &NodeTypes) -> LoadOptions<'_> {
    LoadOptions { environment: &|_| None, ..LoadOptions::new(registry) }
}

/// Makes up rows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// How many.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub count: Option<u64>,
}

/// Reads CSV.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Csv {
    /// The file.
    #[schemars(length(min = 1))]
    pub path: String,
    /// The columns.
    pub schema: Columns,
    /// Where time comes from.
    pub event_time: Option<EventTime>,
    /// What stands between two values.
    #[serde(default)]
    pub quote: Quote,
}

/// How a broker is reached.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Broker {
    /// Where it is.
    pub host: String,
    /// Where it listens.
    pub port: Option<u16>,
    /// Who connects.
    pub login: Option<Login>,
}

/// A name and a password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// How a site is reached.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Site {
    /// Its address.
    pub url: String,
}

/// Reads a queue.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Queue {
    #[serde(flatten)]
    pub broker: Broker,
    /// The name of the queue.
    pub queue: String,
    /// What messages are signed with.
    pub key: Option<Secret>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventTime {
    pub column: String,
    pub lateness: Duration,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quote {
    #[default]
    Double,
    Single,
}

/// Runs a query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    /// The query.
    pub query: String,
}

/// Trains a model.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Train {
    pub model: String,
    pub estimator: Estimator,
    pub features: Features,
    #[serde(default)]
    pub publish: Publish,
    /// Whether to be quick.
    #[serde(default)]
    pub quick: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Estimator {
    Linear {
        #[serde(default)]
        #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
        learning_rate: Option<f64>,
    },
    Network {
        #[schemars(length(min = 1))]
        layers: Vec<Layer>,
    },
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Layer {
    Dense { dense: usize, activation: Option<String> },
    Dropout { dropout: f64 },
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Features {
    List(Vec<String>),
    ByName(BTreeMap<String, Feature>),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    Raw,
    OneHot(usize),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Publish {
    /// At the end.
    #[default]
    End,
    /// After so many rows.
    Rows(u64),
    /// After so much time.
    Interval(Duration),
}

/// Joins.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The columns.
    pub on: Vec<String>,
}

/// Prints rows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Print {}

fn cannot() -> Problems {
    Problem::new("made for tests of files only").into()
}

macro_rules! kind {
    ($type:ident, $name:literal, $trait:ident, |$($argument:ident: $of:ty),*| $plan:ty) => {
        impl $trait for $type {
            fn plan(&self, $($argument: $of),*) -> Result<$plan, Problems> {
                Err(cannot())
            }
        }

        kind!($type, $name, None);
    };
    ($type:ident, $name:literal, $side:expr) => {
        impl Kind for $type {
            const NAME: &'static str = $name;
            const EXAMPLE: &'static str = "";
            const ALSO_CALLED: &'static [&'static str] = match $name.as_bytes() {
                b"csv" => &["spreadsheet"],
                _ => &[],
            };
            const SIDE_INPUT: Option<&'static str> = $side;
        }
    };
}

kind!(Broker, "broker", None);
kind!(Site, "site", None);

impl Kind for Queue {
    const NAME: &'static str = "queue";
    const EXAMPLE: &'static str = "";
    const CONNECTION: Option<&'static str> = Some("broker");
}

impl InputSettings for Queue {
    fn plan(&self, _: &PlanContext) -> Result<InputPlan, Problems> {
        Err(Problem::new(format!("nobody listens at port {:?}", self.broker.port)).at(["port"]).into())
    }
}

kind!(Rows, "rows", InputSettings, |_context: &PlanContext| InputPlan);
kind!(Csv, "csv", InputSettings, |_context: &PlanContext| InputPlan);
kind!(Sql, "sql", ProcessorSettings, |_context: &PlanContext, _inputs: &[Stream]| ProcessorPlan);
kind!(Train, "train", ProcessorSettings, |_context: &PlanContext, _inputs: &[Stream]| ProcessorPlan);
kind!(Print, "print", OutputSettings, |_context: &PlanContext, _input: &Stream| OutputPlan);

kind!(Join, "join", Some("with"));

impl ProcessorSettings for Join {
    fn plan(&self, _: &PlanContext, _: &[Stream]) -> Result<ProcessorPlan, Problems> {
        Err(cannot())
    }
}
