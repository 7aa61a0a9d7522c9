//! Models of others become models: what their files don't say is asked for.

mod sklearn;
mod weights;

use std::collections::HashSet;

use millstream_core::{Error, Result, known_names};

use super::{Model, Signature};
use crate::encode::{Encoder, Feature, Missing};
use crate::estimator::{EstimatorSettings, Onnx, OnnxGives, OnnxInput};
use crate::label::{Class, Label};
use crate::layers;
use crate::onnx::{ElementType, Foreign};
use crate::sklearn::is_zip;
use crate::tensors::Tensors;

/// What is said about a model of others beside its file.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// The names of the features, in the order of the columns of the inputs.
    pub features: Option<Vec<String>>,
    /// The column that it predicts.
    pub label: Option<String>,
    /// The classes that it predicts, in the order of its numbers.
    pub classes: Option<Vec<String>>,
    /// The output with the prediction, if there are several.
    pub output: Option<String>,
    /// Whether its numbers are scores of classes, and no probabilities.
    pub scores: bool,
    /// What happens to rows that lack a feature: a missing number can be NaN.
    pub missing: Missing,
    /// What learns, if the file has nothing but weights.
    pub estimator: Option<EstimatorSettings>,
}

impl Import {
    /// The most bytes that a file may have.
    pub const MOST_BYTES: usize = 1 << 30;

    /// Refuses a file of so many bytes.
    ///
    /// # Errors
    /// If they are too many.
    pub fn check_size(bytes: u64) -> Result<()> {
        if bytes <= Self::MOST_BYTES as u64 {
            return Ok(());
        }
        Err(Error::new(format!("the file has {bytes} bytes; {} are read at most", Self::MOST_BYTES)))
    }
}

impl Model {
    /// The model of a file that somebody else has made. That of an ONNX file learns nothing, and is computed by onnxruntime; what scikit-learn has fitted,
    /// in a file of skops, becomes an estimator of ours; weights in HDF5 as Keras has them, or in safetensors as PyTorch has them, become those of the
    /// estimator that is said.
    ///
    /// # Errors
    /// If the file can't be read, or not be understood as a model of rows, with what is said about it.
    pub fn import(file: &[u8], said: &Import) -> Result<Self> {
        Import::check_size(file.len() as u64)?;
        match &said.estimator {
            Some(_) if is_zip(file) => {
                Err(Error::new("a file of skops says itself what learns; leave the estimator out"))
            }
            Some(estimator) => weights::import(file, estimator, said),
            None if layers::is_hdf5(file) => {
                Err(Error::new("an HDF5 file has weights, and does not say of which layers; say them by an estimator"))
            }
            None if is_zip(file) => sklearn::import(file, said),
            None if is_pickle(file) => {
                let problem = "it is a pickle, which runs what is in it when it is read, and is not read here";
                Err(Error::new(format!("{problem}; write the model by `skops.io.dump`, or as ONNX")))
            }
            None => Self::import_onnx(file, said),
        }
    }

    fn import_onnx(file: &[u8], said: &Import) -> Result<Self> {
        let foreign = Foreign::read(file)?;
        let features = features(&foreign, said)?;
        let output = foreign.output(said.output.as_deref())?;
        let label = label(&foreign, said)?;
        let gives = match (label.classes.is_empty(), said.scores) {
            (true, _) => OnnxGives::Number,
            (false, true) => OnnxGives::Scores,
            (false, false) => OnnxGives::Probabilities,
        };
        let input = |input: &crate::onnx::ForeignTensor| OnnxInput {
            name: input.name.clone(),
            element: input.element as i32,
            features: input.columns.unwrap_or(1) as u32,
            vector: input.is_vector,
        };
        let onnx = Onnx {
            inputs: foreign.inputs.iter().map(input).collect(),
            output: output.name.clone(),
            columns: output.columns.unwrap_or(label.classes.len().max(1)) as u32,
            gives,
        };
        let estimator = EstimatorSettings::new(onnx);
        let (weight, threshold, calibration, interval, missing) = (None, None, None, None, said.missing);
        let label = Some(label);
        let signature = Signature { estimator, features, label, weight, missing, threshold, calibration, interval };
        let signature = Signature::from_json(&signature.to_json())?;
        let mut tensors = Tensors::default();
        Self::new(signature.clone()).put_into(&mut tensors)?;
        tensors.put_u8("estimator.file", &foreign.bytes);
        Self::of(signature, &tensors)
    }
}

/// Whether these are the first bytes of a pickle of Python 3, as `pickle` and `joblib` write it.
fn is_pickle(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

/// The features, one for each column of the inputs.
fn features(foreign: &Foreign, said: &Import) -> Result<Vec<Feature>> {
    let columns = foreign.inputs.iter().flat_map(|input| {
        let columns = input.columns.unwrap_or(1);
        let name = move |at: usize| if columns == 1 { input.name.clone() } else { format!("{}_{at}", input.name) };
        (0..columns).map(move |at| (name(at), input.element))
    });
    let mut columns: Vec<_> = columns.collect();
    if let Some(names) = &said.features {
        if names.len() != columns.len() {
            let (named, count) = (names.len(), columns.len());
            return Err(Error::new(format!("{named} features are named, and its inputs have {count} columns")));
        }
        columns.iter_mut().zip(names).for_each(|((name, _), said)| name.clone_from(said));
    }
    let mut names = HashSet::new();
    if let Some((twice, _)) = columns.iter().find(|(name, _)| !names.insert(name.clone())) {
        return Err(Error::new(format!("there are two features `{twice}`; name all of them")));
    }
    if said.missing == Missing::Mean
        && let Some((name, _)) =
            columns.iter().find(|(_, element)| !matches!(element, ElementType::Float | ElementType::Double))
    {
        return Err(Error::new(format!("feature `{name}` is no float, so that it can't be NaN where it is missing")));
    }
    Ok(columns.into_iter().map(|(name, element)| feature(name, element)).collect())
}

fn feature(name: String, element: ElementType) -> Feature {
    let (type_name, encoder) = match element {
        // Texts go in as they are: one slot, which stands for nothing.
        ElementType::String => ("utf8", Encoder::Hash(1)),
        ElementType::Bool => ("boolean", Encoder::Raw),
        ElementType::Float => ("float32", Encoder::Raw),
        ElementType::Int8 => ("int8", Encoder::Raw),
        ElementType::Int16 => ("int16", Encoder::Raw),
        ElementType::Int32 => ("int32", Encoder::Raw),
        ElementType::Int64 => ("int64", Encoder::Raw),
        ElementType::Uint8 => ("uint8", Encoder::Raw),
        ElementType::Uint16 => ("uint16", Encoder::Raw),
        ElementType::Uint32 => ("uint32", Encoder::Raw),
        ElementType::Uint64 => ("uint64", Encoder::Raw),
        _ => ("float64", Encoder::Raw),
    };
    Feature::new(name, type_name, encoder)
}

/// What it predicts: what is said, or what the file says.
fn label(foreign: &Foreign, said: &Import) -> Result<Label> {
    if let Some(own) = &foreign.own_label
        && said.classes.is_none()
    {
        return Ok(Label { column: said.label.clone().unwrap_or_else(|| own.column.clone()), ..own.clone() });
    }
    let classes = match &said.classes {
        Some(classes) => of_texts(classes, foreign.label.as_ref().map(|(_, element)| *element))?,
        None if foreign.label.is_some() => foreign.classes.clone(),
        None => Vec::new(),
    };
    if let (true, Some((name, _))) = (classes.is_empty(), &foreign.label) {
        return Err(Error::new(format!(
            "it predicts classes, as `{name}`, and does not say which; say them, in the order of its numbers"
        )));
    }
    Ok(label_of(classes, said))
}

fn label_of(classes: Vec<Class>, said: &Import) -> Label {
    let type_name = match classes.first() {
        None => "float64",
        Some(Class::Boolean(_)) => "boolean",
        Some(Class::Integer(_)) => "int64",
        Some(Class::Text(_)) => "utf8",
    };
    let column = said.label.clone().unwrap_or_else(|| "label".to_owned());
    Label { column, type_name: type_name.to_owned(), classes, reward: None }
}

/// Classes that are said as texts, as those of a label of this type; where none is known, as whole numbers if all are such.
fn of_texts(texts: &[String], element: Option<ElementType>) -> Result<Vec<Class>> {
    let whole = || texts.iter().map(|text| text.parse().ok().map(Class::Integer)).collect::<Option<Vec<_>>>();
    let boolean = || texts.iter().map(|text| text.parse().ok().map(Class::Boolean)).collect::<Option<Vec<_>>>();
    let as_texts = || texts.iter().cloned().map(Class::Text).collect();
    match element {
        Some(ElementType::String) => Ok(as_texts()),
        Some(ElementType::Bool) => boolean().ok_or_else(|| {
            Error::new(format!("its classes are yes and no; {}", known_names("", ["false", "true"].into_iter())))
        }),
        Some(_) => whole().ok_or_else(|| Error::new("its classes are whole numbers")),
        None => Ok(boolean().or_else(whole).unwrap_or_else(as_texts)),
    }
}
