//! How long publishing a version and looking one up take in a registry that has many of them, beside one that has few.

use std::path::Path;
use std::time::Instant;

use arrow::datatypes::{DataType, Field, Schema};
use millstream_core::{Error, Result, ResultExt as _};
use millstream_models::registry::{ModelCard, ModelRegistry};
use millstream_models::{Features, Missing, Signature};
use millstream_store::{LocalStore, RemoteStore, Store};
use serde_json::json;

use crate::measurement::{Goal, Measurement, median};
use crate::{objects, place};

/// The numbers of versions in the registries that are compared.
const FEW: usize = 10;
const MANY: usize = 10_000;

/// So many are published, and looked up, at each; the medians count.
const TURNS: usize = 50;

/// Measures both, in a folder and in S3. Both are in memory where that can be, so that no disk hides what it costs to find a place among many.
pub fn run() -> Result<Vec<Measurement>> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.join("millstream-registry") } else { place::empty_folder("registry")? };
    let local = measured("a folder", || Box::new(LocalStore::new(&folder)));
    std::fs::remove_dir_all(&folder).doing(|| format!("removing `{}`", folder.display()))?;
    let services = objects::services();
    let bucket = objects::store(&services, "s3://bucket/models")?;
    let remote = || RemoteStore::new(bucket.store.clone(), &bucket.prefix, bucket.location.clone());
    let mut measurements = local?;
    measurements.extend(measured("S3", || Box::new(remote()))?);
    Ok(measurements)
}

fn measured(place: &str, store: impl Fn() -> Box<dyn Store>) -> Result<Vec<Measurement>> {
    let (registry, store) = (ModelRegistry::open(store(), place), store());
    let card = card()?;
    publish(&registry, &card, 0..FEW)?;
    let few = times(&registry, &*store, &card, FEW)?;
    publish(&registry, &card, FEW + TURNS..MANY)?;
    let many = times(&registry, &*store, &card, MANY)?;
    let name = |what: &str| format!("registry in {place}: {what} with 10,000 versions; beside 10");
    let measurement = |what, turn: usize, goal| {
        Measurement::new(name(what), "ms", many[turn] * 1000.0, goal).beside(few[turn] * 1000.0)
    };
    Ok(vec![
        measurement("publishing", 0, Goal::AtMostTimes(1.2)),
        measurement("looking up the latest", 1, Goal::AtMostTimes(1.2)),
        // A server of tests may look at all objects for that, which those of services don't.
        measurement("the store's own listing of one key", 2, Goal::Shown),
    ])
}

/// For how many seconds one is published, the latest looked up, and the key listed by which it is found: the medians.
fn times(registry: &ModelRegistry, store: &dyn Store, card: &ModelCard, first: usize) -> Result<[f64; 3]> {
    let (mut published, mut found, mut listed) = (Vec::new(), Vec::new(), Vec::new());
    for number in first..first + TURNS {
        let begin = Instant::now();
        publish(registry, card, number..number + 1)?;
        published.push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let newest = registry.resolve("fraud@latest")?;
        found.push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        store.list("fraud/last/")?;
        listed.push(begin.elapsed().as_secs_f64());
        if newest.version != number as u64 + 1 {
            return Err(Error::new(format!("version {} is the latest, and not {}", newest.version, number + 1)));
        }
    }
    Ok([median(published), median(found), median(listed)])
}

fn publish(registry: &ModelRegistry, card: &ModelCard, numbers: std::ops::Range<usize>) -> Result<()> {
    // As large as a linear model of some features.
    let bytes = [7; 4096];
    numbers.into_iter().try_for_each(|number| {
        registry.publish("fraud", &bytes, card.clone(), &format!("publication {number}")).map(drop)
    })
}

fn card() -> Result<ModelCard> {
    let fields = vec![Field::new("amount", DataType::Float64, false), Field::new("fraud", DataType::Boolean, false)];
    let estimator = serde_json::from_value(json!({ "type": "logistic_regression" })).doing(|| "an estimator")?;
    let features = Features::Listed(vec!["amount".into()]);
    let signature = Signature::plan(&Schema::new(fields), &estimator, &features, "fraud", None, Missing::Fail);
    let signature = signature.map_err(|problems| Error::new(format!("{problems:?}")))?;
    Ok(ModelCard::new("fraud", &signature, 1).trained_by("benchmark", "train"))
}
