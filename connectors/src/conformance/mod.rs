//! The inputs and outputs of this crate keep to what all do. The samples of each are in a function of its own.

mod inputs;
mod outputs;

use std::fs::{self, File};
use std::path::Path;

use arrow::array::RecordBatch;
use millstream_core::NodeTypes;
use millstream_formats::{FileKind, Format, WriteFiles, WriteOptions};
use millstream_testkit::{check_inputs, check_outputs, table};

fn types() -> NodeTypes {
    let mut types = NodeTypes::default();
    crate::register(&mut types);
    types
}

#[test]
fn every_input_keeps_to_what_all_do() {
    check_inputs(&types(), &[inputs::file(), inputs::stdin(), inputs::http_listen(), inputs::dead_letters()]);
}

#[test]
fn every_output_keeps_to_what_all_do() {
    let _stderr = outputs::Stderr::kept();
    check_outputs(&types(), &[outputs::file(), outputs::stdout(), outputs::drop(), outputs::respond()], &rows(23));
}

#[test]
#[should_panic(
    expected = "the output `file` has no sample: in connectors/src/conformance/mod.rs, add `OutputSamples` with"
)]
fn a_node_without_samples_is_told() {
    check_outputs(&types(), &[outputs::drop()], &rows(1));
}

/// Rows that are all different. Texts have spaces and quotes, and some values are missing.
fn rows(count: usize) -> RecordBatch {
    let texts = ["plain", "\"two words\"", "null", "ü,;"];
    let row = |n: usize| format!("{n} {} {}.5 1970-01-01T00:{:02}:00Z", texts[n % 4], n * 3, n % 60);
    let lines: Vec<_> = (0..count).map(row).collect();
    table(&format!("n:int64 text:utf8? amount:float64 at:timestamp\n{}", lines.join("\n")))
}

/// Writes a file in the format that its name says.
fn write(path: &Path, rows: &RecordBatch) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let FileKind { format, compression, ending } = FileKind::of(path);
    let format = Format::<WriteFiles>::named(format.unwrap().name).unwrap().write(&ending).unwrap();
    let options = WriteOptions { format, compression, begins: true };
    let mut writer = options.open(File::create(path).unwrap(), &rows.schema()).unwrap();
    writer.write(rows).unwrap();
    writer.finish().unwrap();
}
