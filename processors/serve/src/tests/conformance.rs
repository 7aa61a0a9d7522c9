//! The input `served` keeps to what all inputs do.

use std::sync::mpsc::channel;

use millstream_core::NodeTypes;
use millstream_store::{LocalFiles, Log, LogOptions};
use millstream_testkit::{InputSamples, Source, check_examples, check_inputs};

use super::*;
use crate::request_log::{Head, Kind, Labelled, pack};

const LABELLED: &str =
    "log = 'requests'\nmodel = 'fraud'\nschema = { amount = 'float64', country = 'utf8?', fraud = 'boolean' }";
const PREDICTED: &str =
    "log = 'requests'\nmodel = 'fraud'\nrows = 'predicted'\nschema = { amount = 'float64', country = 'utf8?' }";

/// Rows of a model that were predicted.
fn predicted(model: &str) -> Head {
    Head { model: model.to_owned(), at: 1_000_000, kind: Kind::Predicted { version: 2 } }
}

/// Rows of a model that are labelled, of these numbers.
fn labelled(model: &str, numbers: &[u64]) -> Head {
    let of = numbers.iter().map(|number| Labelled { number: *number, version: 2, predicted_at: 1_000_000, label: 0 });
    Head { model: model.to_owned(), at: 2_000_000, kind: Kind::Labelled { of: of.collect() } }
}

fn write(folder: &Path, records: &[(Head, &str)]) {
    let folder = folder.join("requests");
    let log = Log::open(Arc::new(LocalFiles), &folder, LogOptions { segment_bytes: 200, max_bytes: 1 << 20 }).unwrap();
    std::fs::write(folder.join("name"), "0123456789abcdef").unwrap();
    for (head, lines) in records {
        let (sender, written) = channel();
        let rows = lines.lines().count() as u32;
        log.append_then(pack(head, lines.as_bytes()).unwrap(), rows, move |number| {
            sender.send(number.is_ok()).unwrap()
        });
        assert!(written.recv().unwrap());
    }
}

fn begin(folder: &Path) {
    let three = "{\"amount\":1,\"country\":\"FR\"}\n{\"amount\":2.5,\"country\":null}\n{\"amount\":\"much\",\"country\":\"DE\"}\n";
    write(
        folder,
        &[(predicted("fraud"), three), (predicted("flower"), "{\"length\":1}\n"), (predicted("fraud"), three)],
    );
}

fn go_on(folder: &Path) {
    let two =
        "{\"amount\":2.5,\"country\":null,\"fraud\":true}\n{\"amount\":\"much\",\"country\":\"DE\",\"fraud\":false}\n";
    let one = "{\"amount\":1,\"country\":\"FR\",\"fraud\":false}\n";
    let records = [
        (labelled("fraud", &[1, 2]), two),
        (labelled("flower", &[3]), "{\"length\":1,\"kind\":\"setosa\"}\n"),
        (predicted("fraud"), "{\"amount\":7,\"country\":\"IT\"}\n"),
        (labelled("fraud", &[0]), one),
        (labelled("fraud", &[4, 5]), two),
    ];
    write(folder, &records);
}

#[test]
fn the_input_keeps_to_what_all_do() {
    let mut types = NodeTypes::default();
    crate::register(&mut types);
    check_examples(&types);
    let served = InputSamples {
        node: "served",
        sources: vec![
            Source::new(LABELLED, 3, 2, begin).with_rest(go_on),
            Source::new(PREDICTED, 5, 2, begin).with_rest(go_on),
            Source::new(LABELLED, 0, 0, begin),
        ],
        wrong: &[
            ("log = 'requests'\nmodel = 'fraud'\nschema = { model_version = 'utf8' }", "schema.model_version"),
            ("log = 'requests'\nmodel = 'fraud'\nreader = '../x'\nschema = { a = 'utf8' }", "reader"),
            ("log = 'requests'\nmodel = 'fraud@latest'\nschema = { a = 'utf8' }", "model"),
        ],
        excuses: &[],
    };
    check_inputs(&types, &[served]);
}
