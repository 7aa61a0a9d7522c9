//! `millstream predict`: JSON lines in, the same lines with predictions out.
//!
//! It is a flow like any other, written here instead of in a file.

use std::sync::atomic::Ordering;

use clap::Args;
use millstream_core::ColumnType;
use millstream_models::Feature;
use millstream_models::registry::{ModelCard, ModelReference};

use crate::exit::{Exit, Outcome};
use crate::models::RegistryArguments;
use crate::small_flow;
use crate::workplace::Workplace;

/// What `predict` takes.
#[derive(Debug, Args)]
pub struct PredictArguments {
    /// `fraud` (its champion), `fraud@champion`, `fraud@latest` or `fraud/3`.
    model: String,
    /// Pass a key of the lines on that is no feature: `id`, or with its type, `id:int64`.
    #[arg(long, value_name = "KEY[:TYPE]")]
    keep: Vec<String>,
    /// The registry.
    #[command(flatten)]
    registry: RegistryArguments,
}

/// `millstream predict`
pub fn predict(arguments: PredictArguments) -> Outcome {
    let registry = arguments.registry.open()?;
    let reference = ModelReference::parse(&arguments.model)?;
    let version = registry.find(&reference)?;
    let card = registry.resolve(&format!("{}/{version}", reference.model))?.card;
    let plan = small_flow::plan(&Workplace::here()?, "predict", &flow(&card, &arguments))?;
    let stats = small_flow::run(plan)?;
    let rejected: u64 = stats.nodes.iter().map(|node| node.rows_failed.load(Ordering::Relaxed)).sum();
    Ok(if rejected > 0 { Exit::Failed } else { Exit::Done })
}

/// A flow from standard input through the model to standard output; lines that can't be predicted go to standard error.
fn flow(card: &ModelCard, arguments: &PredictArguments) -> toml::Table {
    let mut rows = toml::toml! {
        type = "stdin"
        format = "ndjson"
    };
    rows.insert("schema".into(), toml::Value::Table(columns(card, &arguments.keep)));
    let mut predicted = toml::toml! {
        type = "predict"
        from = "rows"
    };
    predicted.insert("model".into(), format!("{}/{}", card.model, card.version).into());
    let printed = toml::toml! {
        type = "stdout"
        from = "predicted"
        format = "ndjson"
    };
    let rejected = toml::toml! {
        type = "stdout"
        from = ["rows.failed", "predicted.failed"]
        format = "ndjson"
        stream = "stderr"
    };
    let mut flow = toml::toml! { name = "predict" };
    flow.insert("registry".into(), arguments.registry.registry.as_str().into());
    tables([
        ("flow", flow),
        ("input", tables([("rows", rows)])),
        ("processor", tables([("predicted", predicted)])),
        ("output", tables([("printed", printed), ("rejected", rejected)])),
    ])
}

fn tables<'a>(entries: impl IntoIterator<Item = (&'a str, toml::Table)>) -> toml::Table {
    entries.into_iter().map(|(name, table)| (name.to_owned(), toml::Value::Table(table))).collect()
}

/// The features and what is kept besides. Any of them may be missing, and the model decides what that means.
fn columns(card: &ModelCard, keep: &[String]) -> toml::Table {
    let kept = keep.iter().map(|key| key.rsplit_once(':').unwrap_or((key, "utf8")));
    let kept = kept.map(|(name, data_type)| (name, data_type.to_owned()));
    const FLOAT: &str = "float64";
    // To a model decimals are floats, so that a line may have more digits than those that it has learned from.
    let data_type = |feature: &Feature| {
        let takes_floats = ColumnType::parse(FLOAT).is_ok_and(|float| feature.accepts(&float.data_type));
        let is_decimal = feature.type_name.starts_with("decimal");
        if is_decimal && takes_floats { FLOAT.to_owned() } else { feature.type_name.clone() }
    };
    let features = card.features.iter().map(|feature| (feature.name.as_str(), data_type(feature)));
    kept.chain(features).map(|(name, data_type)| (name.to_owned(), format!("{data_type}?").into())).collect()
}
