//! What the server can, what models take and give, and what they have done.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::Failure;
use crate::datatype::Datatype;
use crate::rest::{EXTENSIONS, Serving};
use crate::served::{Output, Served};
use crate::statistics::Duration;

pub async fn server() -> Json<Value> {
    Json(json!({ "name": "millstream", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }))
}

pub async fn model(State(serving): State<Arc<Serving>>, Path(model): Path<String>) -> Result<Json<Value>, Failure> {
    described(&serving, &model, None).await
}

pub async fn version(
    State(serving): State<Arc<Serving>>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    described(&serving, &model, Some(&version)).await
}

async fn described(serving: &Serving, model: &str, version: Option<&str>) -> Result<Json<Value>, Failure> {
    let served = serving.repository.resolve(model, version).await?;
    let versions: Vec<_> = match version {
        None => serving.repository.loaded(model)?.iter().map(|served| served.version.to_string()).collect(),
        Some(_) => vec![served.version.to_string()],
    };
    let features = served.features().iter();
    let inputs: Vec<_> = features
        .map(|feature| json!({ "name": feature.name, "datatype": served.datatype(feature).name(), "shape": [-1] }))
        .collect();
    let output = |output: &Output| {
        let mut described = json!({ "name": output.name, "datatype": output.datatype.name(), "shape": output.shape() });
        if !output.labels.is_empty() {
            described["parameters"] = json!({ "labels": output.labels.join(",") });
        }
        described
    };
    Ok(Json(json!({
        "name": model,
        "versions": versions,
        "platform": "millstream",
        "inputs": inputs,
        "outputs": served.outputs.iter().map(output).collect::<Vec<_>>(),
        "properties": served.properties(),
    })))
}

pub async fn config(State(serving): State<Arc<Serving>>, Path(model): Path<String>) -> Result<Json<Value>, Failure> {
    configured(&serving, &model, None).await
}

pub async fn version_config(
    State(serving): State<Arc<Serving>>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    configured(&serving, &model, Some(&version)).await
}

async fn configured(serving: &Serving, model: &str, version: Option<&str>) -> Result<Json<Value>, Failure> {
    let served = serving.repository.resolve(model, version).await?;
    let tensor = |name: &str, datatype: Datatype, dims: Vec<i64>| {
        let data_type = if datatype == Datatype::Bytes { "STRING" } else { datatype.name() };
        json!({ "name": name, "data_type": format!("TYPE_{data_type}"), "dims": dims })
    };
    let inputs = served.features().iter().map(|feature| tensor(&feature.name, served.datatype(feature), vec![-1]));
    let outputs = served.outputs.iter().map(|output| tensor(&output.name, output.datatype, output.shape()));
    Ok(Json(json!({
        "name": model,
        "platform": "millstream",
        "backend": "millstream",
        "max_batch_size": 0,
        "input": inputs.collect::<Vec<_>>(),
        "output": outputs.collect::<Vec<_>>(),
    })))
}

pub async fn all_statistics(State(serving): State<Arc<Serving>>) -> Result<Json<Value>, Failure> {
    let mut all = Vec::new();
    for model in serving.repository.names() {
        // One that was unloaded meanwhile has none.
        all.extend(serving.repository.loaded(&model).unwrap_or_default());
    }
    Ok(statistics_of(&all))
}

pub async fn statistics(
    State(serving): State<Arc<Serving>>,
    Path(model): Path<String>,
) -> Result<Json<Value>, Failure> {
    Ok(statistics_of(&serving.repository.loaded(&model)?))
}

pub async fn version_statistics(
    State(serving): State<Arc<Serving>>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    Ok(statistics_of(&[serving.repository.resolve(&model, Some(&version)).await?]))
}

fn statistics_of(versions: &[Arc<Served>]) -> Json<Value> {
    let of = |served: &Arc<Served>| {
        let figures = &served.figures;
        let took = |duration: &Duration| json!({ "count": duration.count(), "ns": duration.nanos() });
        json!({
            "name": served.model,
            "version": served.version.to_string(),
            "last_inference": figures.last(),
            "inference_count": figures.rows(),
            "execution_count": figures.batches(),
            "inference_stats": {
                "success": took(&figures.success),
                "fail": took(&figures.fail),
                "queue": took(&figures.queue),
                "compute_input": took(&figures.input),
                "compute_infer": took(&figures.infer),
                "compute_output": took(&figures.output),
                "cache_hit": { "count": 0, "ns": 0 },
                "cache_miss": { "count": 0, "ns": 0 },
            },
            "batch_stats": [],
        })
    };
    Json(json!({ "model_stats": versions.iter().map(of).collect::<Vec<_>>() }))
}
