//! Models of others: ONNX files, which onnxruntime computes. They are imported, and learn nothing.

use std::sync::Arc;

use arrow::array::{Array, Float64Array, StringArray};
use millstream_core::{Error, Problem, Result, ResultExt as _};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Estimator, Gives, Kind, Labels, Predict, Settings, Step, Takes};
use crate::encode::{Feature, Rows};
use crate::label::Class;
use crate::onnx::{ElementType, Sessions};
use crate::tensors::Tensors;

/// A model of others, which is an ONNX file. `millstream models import` brings it into the registry. It learns nothing.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Onnx {
    /// What goes in, for the features in their order.
    pub inputs: Vec<OnnxInput>,
    /// The name of the output that predicts.
    pub output: String,
    /// How many numbers it has for a row.
    pub columns: u32,
    /// What they are.
    pub gives: OnnxGives,
}

/// An input of an ONNX file: for one feature, or for several as a matrix.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnnxInput {
    /// Its name.
    pub name: String,
    /// The number of the type of its elements, as ONNX has it.
    pub element: i32,
    /// How many features are in it.
    pub features: u32,
    /// Whether it is a vector, and no matrix of one column.
    pub vector: bool,
}

/// What the numbers of a prediction are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnnxGives {
    /// The number that is predicted.
    Number,
    /// How probable each class is; of two classes perhaps only the second.
    Probabilities,
    /// How much speaks for each class; of two classes perhaps only for the second, if it is more than 0.
    Scores,
}

impl OnnxInput {
    fn element(&self) -> ElementType {
        ElementType::try_from(self.element).unwrap_or(ElementType::Undefined)
    }
}

impl Kind for Onnx {
    const NAME: &'static str = "onnx";
    const EXAMPLE: &'static str = "inputs = []\noutput = \"variable\"\ncolumns = 1\ngives = \"number\"";
}

impl Settings for Onnx {
    fn learns(&self) -> bool {
        false
    }

    fn takes(&self) -> Takes {
        Takes::Raw
    }

    fn labels(&self) -> Labels {
        Labels::Any
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        match self.gives {
            OnnxGives::Number => Gives::Number,
            OnnxGives::Probabilities => Gives::Probabilities,
            OnnxGives::Scores => Gives::Scores,
        }
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        let (columns, classes) = (self.columns as usize, classes.len());
        let fits = match (self.gives, classes) {
            (OnnxGives::Number, 0) => columns == 1,
            (OnnxGives::Number, _) | (_, 0) => false,
            (_, 2) => columns == 1 || columns == 2,
            _ => columns == classes,
        };
        let problem = || {
            let output = &self.output;
            Problem::new(format!(
                "the output `{output}` has {columns} numbers for a row, and there are {classes} classes"
            ))
        };
        if fits { Ok(()) } else { Err(problem()) }
    }

    fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        let taken = self.inputs.iter().flat_map(|input| (0..input.features).map(move |_| input.element()));
        let is_number = |element: ElementType| element != ElementType::String;
        let fits = taken.map(is_number).eq(features.iter().map(|feature| feature.encoder.is_number()));
        if fits { Ok(()) } else { Err(Problem::new("the features are others than those that the file takes")) }
    }

    fn largest(&self) -> f64 {
        f64::MAX
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        (features.len() + classes.len()) as u64
    }

    fn can_diverge(&self) -> bool {
        false
    }

    fn build(&self, features: &[Feature], _classes: &[Class]) -> Box<dyn Estimator> {
        let mut features = features.iter();
        let input = |input: &OnnxInput| Input {
            name: input.name.clone(),
            element: input.element(),
            features: features.by_ref().take(input.features as usize).count(),
            is_vector: input.vector,
        };
        let inputs = self.inputs.iter().map(input).collect();
        let (output, columns) = (self.output.clone(), self.columns as usize);
        Box::new(Foreign { inputs, output, columns, sessions: Arc::new(Sessions::new(Vec::new())) })
    }
}

/// A file that is run.
#[derive(Clone, Debug)]
struct Foreign {
    inputs: Vec<Input>,
    output: String,
    columns: usize,
    sessions: Arc<Sessions>,
}

#[derive(Clone, Debug)]
struct Input {
    name: String,
    element: ElementType,
    features: usize,
    is_vector: bool,
}

/// The name of the tensor with the file.
const FILE: &str = "estimator.file";

impl Foreign {
    fn run(&self, rows: &Rows, predictions: &mut [f64]) -> Result<()> {
        let inputs = self.tensors(rows)?;
        let mut session = self.sessions.take()?;
        let found = {
            let outputs = session.run(inputs).doing(|| "computing with onnxruntime")?;
            let output = outputs.get(&self.output);
            output.ok_or_else(|| Error::new(format!("there is no output `{}`", self.output))).and_then(numbers)
        };
        self.sessions.give_back(session);
        let found = found?;
        if found.len() != predictions.len() {
            let (output, count, columns) = (&self.output, rows.count(), self.columns);
            let found = found.len();
            return Err(Error::new(format!("the output `{output}` has {found} numbers for {count} rows of {columns}")));
        }
        predictions.copy_from_slice(&found);
        Ok(())
    }

    /// The tensors that go in, by their names.
    fn tensors(&self, rows: &Rows) -> Result<Vec<(&str, SessionInputValue<'static>)>> {
        let (mut numbers, mut texts) = (rows.numbers().iter(), rows.texts().iter());
        let mut tensors = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let value = if input.element == ElementType::String {
                let columns: Vec<_> = texts.by_ref().take(input.features).collect();
                input.of_texts(rows.count(), &columns)
            } else {
                let columns: Vec<_> = numbers.by_ref().take(input.features).collect();
                input.of_numbers(rows.count(), &columns)
            };
            let value = value.doing(|| format!("making the input `{}` for onnxruntime", input.name))?;
            tensors.push((input.name.as_str(), SessionInputValue::from(value)));
        }
        Ok(tensors)
    }
}

impl Input {
    fn of_numbers(&self, rows: usize, columns: &[&Float64Array]) -> ort::Result<DynValue> {
        match self.element {
            ElementType::Float => self.of(rows, columns, |number| number as f32),
            ElementType::Int8 => self.of(rows, columns, |number| number as i8),
            ElementType::Int16 => self.of(rows, columns, |number| number as i16),
            ElementType::Int32 => self.of(rows, columns, |number| number as i32),
            ElementType::Int64 => self.of(rows, columns, |number| number as i64),
            ElementType::Uint8 => self.of(rows, columns, |number| number as u8),
            ElementType::Uint16 => self.of(rows, columns, |number| number as u16),
            ElementType::Uint32 => self.of(rows, columns, |number| number as u32),
            ElementType::Uint64 => self.of(rows, columns, |number| number as u64),
            ElementType::Bool => self.of(rows, columns, |number| number != 0.0),
            _ => self.of(rows, columns, |number| number),
        }
    }

    /// Row by row. What is missing is NaN.
    fn of<T>(&self, rows: usize, columns: &[&Float64Array], convert: impl Fn(f64) -> T) -> ort::Result<DynValue>
    where
        T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
    {
        let mut values = vec![convert(f64::NAN); rows * columns.len()];
        for (at, column) in columns.iter().enumerate() {
            let places = values[at..].iter_mut().step_by(columns.len());
            let each = places.zip(column.values());
            match column.nulls() {
                None => each.for_each(|(place, number)| *place = convert(*number)),
                Some(nulls) => each.zip(nulls).for_each(|((place, number), is_there)| {
                    if is_there {
                        *place = convert(*number);
                    }
                }),
            }
        }
        Ok(Tensor::from_array((self.shape(rows), values))?.into_dyn())
    }

    fn of_texts(&self, rows: usize, columns: &[&StringArray]) -> ort::Result<DynValue> {
        let texts = (0..rows).flat_map(|row| columns.iter().map(move |column| column.value(row).to_owned()));
        let texts: Vec<String> = texts.collect();
        Ok(Tensor::from_string_array((self.shape(rows), &texts[..]))?.into_dyn())
    }

    fn shape(&self, rows: usize) -> Vec<i64> {
        let columns = (!self.is_vector).then_some(self.features as i64);
        [rows as i64].into_iter().chain(columns).collect()
    }
}

/// The numbers of a tensor.
fn numbers(output: &DynValue) -> Result<Vec<f64>> {
    if let Ok((_, values)) = output.try_extract_tensor::<f32>() {
        return Ok(values.iter().copied().map(f64::from).collect());
    }
    let (_, values) = output.try_extract_tensor::<f64>().doing(|| "reading what onnxruntime has computed")?;
    Ok(values.to_vec())
}

impl Estimator for Foreign {
    fn outputs(&self) -> usize {
        self.columns
    }

    fn step(&mut self, _step: Step<'_>) -> Result<u64> {
        Err(Error::new("a model of others learns nothing"))
    }

    fn predict(&self, predict: Predict<'_>) -> Result<()> {
        if predict.rows.count() == 0 { Ok(()) } else { self.run(predict.rows, predict.predictions) }
    }

    fn save(&self, tensors: &mut Tensors) -> Result<()> {
        tensors.put_u8(FILE, self.sessions.bytes());
        Ok(())
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.sessions = Arc::new(Sessions::new(tensors.u8s(FILE)?.to_vec()));
        Ok(())
    }

    fn another(&self) -> Box<dyn Estimator> {
        Box::new(self.clone())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn prepare(&self) -> Result<()> {
        self.sessions.open()
    }
}
