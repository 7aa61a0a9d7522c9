//! The text of a flow that reads a data file, chooses columns, and learns if it is told what.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value};

use super::sample::{Column, Sample, relative};
use super::{FILE, NAME};
use crate::exit::CommandError;
use crate::workplace::Workplace;

/// A text column with more different values than this in the sample is no feature.
const MOST_CATEGORIES: usize = 100;

/// An integer label with at most so many different values in the sample stands for classes.
const MOST_CLASSES: usize = 20;

/// The text of a flow in the file `flow` that reads the file `data`.
pub fn flow(workplace: &Workplace, flow: &Path, data: &Path, label: Option<&str>) -> Result<String, CommandError> {
    let sample = Sample::take(workplace, data)?;
    let label = label.map(|label| find(&sample, label)).transpose()?;
    let path = relative(data, flow.parent().unwrap_or(Path::new("")));
    let mut text = head();
    input(&mut text, &path.to_string_lossy(), &sample);
    chosen(&mut text, &sample);
    let last = label.map_or("chosen", |label| {
        learner(&mut text, &sample, label);
        "learner"
    });
    output(&mut text, last);
    test(&mut text, &sample);
    Ok(text)
}

fn find<'a>(sample: &'a Sample, label: &str) -> Result<&'a Column, CommandError> {
    sample.columns.iter().find(|column| column.name == label).ok_or_else(|| {
        let names: Vec<_> = sample.columns.iter().map(|column| format!("`{}`", column.name)).collect();
        CommandError::Usage(format!("there is no column `{label}`; the file has {}", names.join(", ")))
    })
}

fn head() -> String {
    format!(
        "# What comes in, what becomes of it, where it goes: say it here in a sentence.\n\
         #\n\
         #     millstream check {FILE}               # what is wrong, and where\n\
         #     millstream test {FILE}                # the tests at the end of this file\n\
         #     millstream run {FILE}\n\
         #     millstream run {FILE} --show chosen   # the first rows that leave a node\n\n\
         [flow]\nname = \"{NAME}\"   # by which its state is found\n\n"
    )
}

fn input(text: &mut String, path: &str, sample: &Sample) {
    let _ = writeln!(text, "[input.rows]\ntype = \"file\"\npath = {}", toml_text(path));
    let says_its_types = [".parquet", ".arrow"].iter().any(|extension| path.ends_with(extension));
    if !says_its_types {
        let rows = sample.len();
        let _ = writeln!(
            text,
            "\n# The types, as the first {rows} rows have them. A value of another type fails its row; `?` allows null."
        );
        let _ = writeln!(text, "[input.rows.schema]");
        for Column { name, type_name, .. } in &sample.columns {
            let mark = if sample.has_null(name) { "?" } else { "" };
            let _ = writeln!(text, "{} = {}", toml_key(name), toml_text(&format!("{type_name}{mark}")));
        }
    }
}

fn chosen(text: &mut String, sample: &Sample) {
    let names: Vec<_> = sample.columns.iter().map(|column| format!("  {}", sql_name(&column.name))).collect();
    let _ = writeln!(
        text,
        "\n# Choose, compute and filter: `amount * 1.19 AS gross`, `WHERE amount > 0`.\n\
         [processor.chosen]\ntype = \"sql\"\nfrom = \"rows\"\nquery = \"\"\"\nSELECT\n{}\nFROM rows\n\"\"\"",
        names.join(",\n").replace('\\', "\\\\").replace("\"\"\"", "\"\"\\\"")
    );
}

fn learner(text: &mut String, sample: &Sample, label: &Column) {
    let others = sample.columns.iter().filter(|column| column.name != label.name);
    let (features, left): (Vec<_>, Vec<_>) = others.partition(|column| is_feature(sample, column));
    let _ = writeln!(
        text,
        "\n# Every row is predicted before it is learned, so the figures that `run` prints are of predictions that have not seen the\n\
         # answer. The baselines beside them are what a model has to beat."
    );
    if !left.is_empty() {
        let names: Vec<_> = left.iter().map(|column| format!("`{}`", column.name)).collect();
        let _ = writeln!(
            text,
            "# No features, because of their types or since they differ in almost every row: {}.",
            names.join(", ")
        );
    }
    let names: Vec<_> = features.iter().map(|column| toml_text(&column.name)).collect();
    let _ = writeln!(text, "[processor.learner]\ntype = \"train\"\nfrom = \"chosen\"\nmodel = \"{NAME}\"");
    let _ = writeln!(text, "{}", estimator(sample, label));
    let _ = writeln!(text, "features = [{}]\nlabel = {}", names.join(", "), toml_text(&label.name));
    if features.iter().any(|column| sample.has_null(&column.name)) {
        let _ = writeln!(text, "missing = \"mean\"   # a row that lacks a feature is learned as well");
    }
}

/// Numbers, booleans, and texts that say of which kind a row is.
fn is_feature(sample: &Sample, column: &Column) -> bool {
    match column.type_name.as_str() {
        "utf8" => sample.values(&column.name).len() <= MOST_CATEGORIES.min(sample.len() / 2),
        name => name == "boolean" || is_integer(name) || name.starts_with("float") || name.starts_with("decimal"),
    }
}

fn is_integer(type_name: &str) -> bool {
    type_name.starts_with("int") || type_name.starts_with("uint")
}

/// The estimator for a label, and its classes where they have to be said.
fn estimator(sample: &Sample, label: &Column) -> String {
    let values = sample.values(&label.name);
    let kind = match label.type_name.as_str() {
        "boolean" => "logistic_regression",
        "utf8" => classifier(values.len()),
        name if is_integer(name) && values.len() <= MOST_CLASSES => classifier(values.len()),
        _ => "linear_regression",
    };
    let classes = match kind {
        "logistic_regression" if label.type_name != "boolean" => {
            let values: Vec<_> = values.into_iter().collect();
            format!("\nclasses = [{}]   # the second is the positive one", values.join(", "))
        }
        _ => String::new(),
    };
    format!("estimator = {{ type = \"{kind}\", learning_rate = 0.01 }}{classes}")
}

fn classifier(classes: usize) -> &'static str {
    if classes == 2 { "logistic_regression" } else { "softmax_regression" }
}

fn output(text: &mut String, from: &str) {
    let _ = writeln!(
        text,
        "\n# The file comes to its place when the flow has ended well. `.csv`, `.ndjson` and others are formats, too.\n\
         [output.{from}_rows]\ntype = \"file\"\nfrom = \"{from}\"\npath = \"out/{NAME}/{from}.parquet\""
    );
}

/// A test with the first row, whose values are all told.
fn test(text: &mut String, sample: &Sample) {
    let Some(row) = sample.first() else { return };
    let known: Map<String, Value> = row
        .iter()
        .filter(|(_, value)| toml_value(value).is_some())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let cells: Vec<_> =
        known.iter().filter_map(|(name, value)| Some(format!("{} = {}", toml_key(name), toml_value(value)?))).collect();
    let row = format!("{{ {} }}", cells.join(", "));
    let _ = writeln!(
        text,
        "\n[[test]]\nname = \"the first row comes through\"\ninput.rows = [{row}]\nexpect.chosen = [{row}]"
    );
}

/// A value of JSON as TOML writes it inline. None if it can't be.
fn toml_value(value: &Value) -> Option<String> {
    toml::Value::try_from(value).ok().map(|value| value.to_string())
}

fn toml_text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn toml_key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { name.to_owned() } else { toml_text(name) }
}

/// A column's name in SQL: quoted, unless it is of small letters, digits and `_`.
fn sql_name(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
