//! Whether flows that learn give River's answers: the figures of every row predicted before it was learned.

use millstream_core::{Result, ResultExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::measurement::{Goal, Measurement};
use crate::{place, python};

/// Figures, and how near they have to be.
const OF_NUMBERS: &[(&str, f64)] = &[("accuracy", 0.001), ("log_loss", 0.005)];
const OF_FLIGHTS: &[(&str, f64)] = &[("auc", 0.001), ("log_loss", 0.001), ("accuracy", 0.001)];

/// Ours beside River's.
pub fn run() -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    for stream in ["synth28", "elec2", "covtype", "shuttle"] {
        let table = format!("{stream}.parquet");
        let ours = learn("numbers", &sets_for(&table)?)?;
        measurements.extend(compare(stream, &ours, &python::river_once(&place::data(&table))?, OF_NUMBERS)?);
    }
    let river = python::river_once(&place::data("flights.parquet"))?;
    measurements.extend(compare("flights", &learn("flights", &[])?, &river, OF_FLIGHTS)?);
    Ok(measurements)
}

/// The figures of a flow's model, which has the flow's name.
fn learn(flow: &str, sets: &[String]) -> Result<Value> {
    let folder = place::empty_folder("answers")?;
    let mut command = place::millstream_run(&folder, &place::flow(&format!("{flow}.toml")), sets)?;
    let summary = place::json_of(command.arg("--json"))?;
    Ok(summary["models"][flow]["metrics"].clone())
}

/// The table and its features, for the flow `numbers`.
fn sets_for(table: &str) -> Result<Vec<String>> {
    let path = place::data(table).canonicalize()?;
    let file = std::fs::File::open(&path)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).doing(|| format!("opening `{table}`"))?;
    let names: Vec<_> =
        reader.schema().fields().iter().map(|field| field.name()).filter(|name| *name != "label").collect();
    Ok(vec![format!("input.rows.path={}", path.display()), format!("processor.learned.features={names:?}")])
}

fn compare(stream: &str, ours: &Value, river: &Value, figures: &[(&str, f64)]) -> Result<Vec<Measurement>> {
    let one = |(figure, within): &(&str, f64)| {
        let pointer = format!("/{figure}");
        let name = format!("answers: {stream}, {}; beside River", figure.replace('_', "-"));
        let measured = Measurement::new(name, "", place::number(ours, &pointer)?, Goal::Within(*within));
        Ok(measured.beside(place::number(river, &pointer)?))
    };
    figures.iter().map(one).collect()
}
