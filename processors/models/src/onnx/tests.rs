//! Files of others, whole and damaged. What onnxruntime makes of ours, and the program of those of others, is compared in `tests/onnx`.

use millstream_testkit::Hostile;

use super::{ElementType, Foreign, ForeignTensor};
use crate::label::Class;

/// scikit-learn's logistic regression over two columns of numbers and one of texts, by skl2onnx, whose probabilities are maps.
const COLUMNS: &[u8] = include_bytes!("../../tests/data/columns.onnx");

fn tensor(name: &str, element: ElementType, columns: Option<usize>) -> ForeignTensor {
    ForeignTensor { name: name.to_owned(), element, is_vector: false, columns }
}

#[test]
fn a_file_says_what_goes_in_and_what_comes_out() {
    let foreign = Foreign::read(COLUMNS).unwrap();
    let [amount, items, country] =
        [("amount", ElementType::Float), ("items", ElementType::Int64), ("country", ElementType::String)]
            .map(|(name, element)| tensor(name, element, Some(1)));
    assert_eq!(foreign.inputs, [amount, items, country]);
    assert_eq!(foreign.outputs, [tensor("probabilities", ElementType::Float, None)]);
    assert_eq!(foreign.label, Some(("output_label".to_owned(), ElementType::String)));
    assert_eq!(foreign.classes, ["no", "odd", "yes"].map(|class| Class::Text(class.to_owned())));
}

#[test]
fn maps_are_left_out_and_nothing_else() {
    let foreign = Foreign::read(COLUMNS).unwrap();
    let again = Foreign::read(&foreign.bytes).unwrap();
    assert_eq!(again.bytes, foreign.bytes, "there are no maps any more");
    assert_eq!((again.inputs, again.outputs, again.label), (foreign.inputs, foreign.outputs, foreign.label));
    assert!(foreign.bytes.len() < COLUMNS.len());
}

#[test]
fn files_that_are_none_are_refused() {
    for (file, why) in
        [(&b""[..], "it has no graph"), (b"rubbish", "reading it as an ONNX file"), (&COLUMNS[..300], "reading it")]
    {
        let error = Foreign::read(file).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn hostile_files_are_refused_or_read() {
    Hostile::new([COLUMNS]).attack(|file| {
        let _ = Foreign::read(file);
    });
}
