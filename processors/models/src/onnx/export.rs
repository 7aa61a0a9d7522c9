//! A model as an ONNX file: an input for each feature, the encoders, the estimator, and outputs of the names that skl2onnx gives them.

use millstream_core::{Error, Result};

use super::graph::Attribute;
use super::proto::ElementType;
use super::{Graph, Value};
use crate::encode::{Encoders, Preprocessing};
use crate::estimator::{Certainty, Estimator, Gives, PredictedColumn, estimators};
use crate::label::{Class, Label};
use crate::model::Signature;

/// Writes a model, with properties that say what it is.
///
/// # Errors
/// If ONNX has no operators for it.
pub(crate) fn export(
    signature: &Signature,
    preprocessing: &Preprocessing,
    encoders: &Encoders,
    estimator: &dyn Estimator,
    properties: Vec<(String, String)>,
) -> Result<Vec<u8>> {
    let name = signature.estimator.name();
    if !signature.can_be_exported() {
        let can = estimators().iter().filter(|kind| kind.exports).map(|kind| format!("`{}`", kind.name));
        let can = can.collect::<Vec<_>>().join(", ");
        let how = match (&signature.calibration, signature.estimator.settings().follows_from_one_row()) {
            (Some(_), _) => "with a calibration ",
            (None, false) => "over sequences ",
            (None, true) => "",
        };
        return Err(Error::new(format!("`{name}` {how}can't be written as ONNX; these can: {can}")));
    }
    let mut graph = Graph::new(signature.features.iter().map(|feature| feature.name.as_str()));
    let columns = preprocessing.to_onnx(&signature.features, &mut graph)?;
    let row = encoders.to_onnx(preprocessing.features(), &columns, &mut graph)?;
    let predicted = estimator.to_onnx(&mut graph, &row)?;
    match (signature.gives(), &signature.label) {
        (Gives::Columns(columns), _) => own_columns(&mut graph, &predicted, columns),
        (Gives::Quantiles(quantiles), _) => {
            let count = quantiles.shares().len();
            let number = graph.column(&predicted, 0);
            graph.output("variable", &number, ElementType::Double, &[None, Some(1)]);
            let quantiles = graph.columns(&predicted, 1..1 + count);
            graph.output("quantiles", &quantiles, ElementType::Double, &[None, Some(count)]);
        }
        (Gives::Number, _) | (_, None) => {
            graph.output("variable", &predicted, ElementType::Double, &[None, Some(1)]);
        }
        (_, Some(label)) => classes(&mut graph, &predicted, signature, estimator.outputs(), label),
    }
    graph.write(name, properties)
}

fn own_columns(graph: &mut Graph, predicted: &Value, columns: &[PredictedColumn]) {
    for (at, column) in columns.iter().enumerate() {
        let value = graph.column(predicted, at);
        let value = graph.squeeze(&value, 1);
        if column.whole {
            let whole = graph.cast(&value, ElementType::Int64);
            graph.output(column.name, &whole, ElementType::Int64, &[None]);
        } else {
            graph.output(column.name, &value, ElementType::Double, &[None]);
        }
    }
}

/// The class that is predicted, and how probable each is, or how much speaks for it.
fn classes(graph: &mut Graph, predicted: &Value, signature: &Signature, outputs: usize, label: &Label) {
    let (certainty, threshold) = (signature.gives().certainty(), signature.threshold);
    let class = match (outputs, threshold, certainty) {
        (1, Some(threshold), _) => above(graph, predicted, threshold),
        (1, None, Certainty::Probability) => above(graph, predicted, 0.5),
        (1, None, Certainty::Score) => above(graph, predicted, 0.0),
        (_, Some(threshold), _) => {
            let positive = graph.column(predicted, outputs - 1);
            above(graph, &positive, threshold)
        }
        (_, None, _) => {
            let attributes = [("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(0))];
            graph.add_with("ArgMax", &[predicted], attributes)
        }
    };
    let (labels, element) = labels(graph, label);
    let class = graph.add("Gather", &[&labels, &class]);
    graph.output("label", &class, element, &[None]);
    if certainty == Certainty::Score {
        graph.output("scores", predicted, ElementType::Double, &[None, Some(outputs)]);
        return;
    }
    let probabilities = if outputs == 1 {
        let one = graph.doubles(&[1], &[1.0]);
        let negative = graph.add("Sub", &[&one, predicted]);
        graph.side_by_side(&[&negative, predicted])
    } else {
        predicted.clone()
    };
    graph.output("probabilities", &probabilities, ElementType::Double, &[None, Some(label.classes.len())]);
}

/// The index of the second class where a column is above a number, else of the first.
fn above(graph: &mut Graph, column: &Value, threshold: f64) -> Value {
    let column = graph.squeeze(column, 1);
    let threshold = graph.doubles(&[], &[threshold]);
    let is_above = graph.add("Greater", &[&column, &threshold]);
    graph.cast(&is_above, ElementType::Int64)
}

/// All classes, in their order.
fn labels(graph: &mut Graph, label: &Label) -> (Value, ElementType) {
    match label.classes.first() {
        Some(Class::Boolean(_)) => {
            let classes = label.classes.iter().map(|class| *class == Class::Boolean(true));
            let column = graph.booleans(classes);
            (graph.squeeze(&column, 1), ElementType::Bool)
        }
        Some(Class::Integer(_)) => {
            let number = |class: &Class| if let Class::Integer(value) = class { *value } else { 0 };
            (graph.ints(&label.classes.iter().map(number).collect::<Vec<_>>()), ElementType::Int64)
        }
        _ => (graph.texts(label.classes.iter().map(Class::to_string)), ElementType::String),
    }
}
