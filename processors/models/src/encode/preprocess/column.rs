//! Columns that become numbers before they are encoded.

use std::fmt::Debug;

use arrow::array::{Array, Float64Array, StringArray};
use millstream_core::Result;

use crate::encode::Feature;
use crate::onnx::{Graph, Value};
use crate::tensors::Tensors;

/// The values of a feature.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    Numbers(&'a Float64Array),
    Texts(&'a StringArray),
}

/// The value of a feature in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    /// NaN is missing.
    Number(f64),
    Text(Option<&'a str>),
}

impl<'a> Source<'a> {
    /// Whether the value of a row is missing.
    pub fn is_missing(self, row: usize) -> bool {
        match self.cell(row) {
            Cell::Number(number) => number.is_nan(),
            Cell::Text(text) => text.is_none(),
        }
    }

    #[inline(always)]
    fn cell(self, row: usize) -> Cell<'a> {
        match self {
            Source::Numbers(numbers) if numbers.is_null(row) => Cell::Number(f64::NAN),
            Source::Numbers(numbers) => Cell::Number(numbers.value(row)),
            Source::Texts(texts) => Cell::Text((!texts.is_null(row)).then(|| texts.value(row))),
        }
    }
}

/// What makes numbers of a value. The loop over the rows is compiled for each of them.
pub(super) trait Prepare: Clone + Debug + Send + Sync + 'static {
    /// How many numbers a value becomes.
    fn width(&self) -> usize;

    /// Writes what a value becomes, by what was learned so far.
    fn apply(&self, cell: Cell<'_>, into: &mut [f64]);

    /// Learns a value, and the target of its row.
    fn learn(&mut self, cell: Cell<'_>, target: f64);

    /// Writes what was learned about a feature.
    fn save(&self, feature: &str, tensors: &mut Tensors);

    /// Reads what was learned about a feature.
    fn load(&mut self, feature: &str, tensors: &Tensors) -> Result<()>;

    /// Adds to a graph what does the same: from the input of the feature, a column for each number.
    ///
    /// # Errors
    /// If ONNX has no operators for it.
    fn to_onnx(&self, feature: &Feature, input: &Value, graph: &mut Graph) -> Result<Vec<Value>>;
}

/// The same, whatever the values are.
pub(super) trait Column: Debug + Send + Sync {
    /// How many numbers a value becomes.
    fn width(&self) -> usize;

    /// Makes columns of the values. A row is made by what was known before it, and is then learned if it has a target.
    fn step(&mut self, source: Source<'_>, targets: &[Option<f64>]) -> Vec<Float64Array>;

    /// Makes columns of the values of so many rows.
    fn apply(&self, source: Source<'_>, rows: usize) -> Vec<Float64Array>;

    /// See [`Prepare::save`].
    fn save(&self, feature: &str, tensors: &mut Tensors);

    /// See [`Prepare::load`].
    fn load(&mut self, feature: &str, tensors: &Tensors) -> Result<()>;

    /// See [`Prepare::to_onnx`].
    fn to_onnx(&self, feature: &Feature, input: &Value, graph: &mut Graph) -> Result<Vec<Value>>;

    /// The same once more, which goes on for itself.
    fn another(&self) -> Box<dyn Column>;
}

impl Clone for Box<dyn Column> {
    fn clone(&self) -> Self {
        self.another()
    }
}

impl<P: Prepare> Column for P {
    fn width(&self) -> usize {
        Prepare::width(self)
    }

    fn step(&mut self, source: Source<'_>, targets: &[Option<f64>]) -> Vec<Float64Array> {
        let mut made = Made::new(Prepare::width(self), targets.len());
        for (row, target) in targets.iter().enumerate() {
            let cell = source.cell(row);
            Prepare::apply(self, cell, &mut made.row);
            made.keep();
            if let Some(target) = target {
                self.learn(cell, *target);
            }
        }
        made.into_columns()
    }

    fn apply(&self, source: Source<'_>, rows: usize) -> Vec<Float64Array> {
        let mut made = Made::new(Prepare::width(self), rows);
        for row in 0..rows {
            Prepare::apply(self, source.cell(row), &mut made.row);
            made.keep();
        }
        made.into_columns()
    }

    fn save(&self, feature: &str, tensors: &mut Tensors) {
        Prepare::save(self, feature, tensors);
    }

    fn load(&mut self, feature: &str, tensors: &Tensors) -> Result<()> {
        Prepare::load(self, feature, tensors)
    }

    fn to_onnx(&self, feature: &Feature, input: &Value, graph: &mut Graph) -> Result<Vec<Value>> {
        Prepare::to_onnx(self, feature, input, graph)
    }

    fn another(&self) -> Box<dyn Column> {
        Box::new(self.clone())
    }
}

/// Columns in the making, and the row that is next.
struct Made {
    row: Vec<f64>,
    columns: Vec<Vec<f64>>,
}

impl Made {
    fn new(width: usize, rows: usize) -> Self {
        Self { row: vec![0.0; width], columns: vec![Vec::with_capacity(rows); width] }
    }

    fn keep(&mut self) {
        self.columns.iter_mut().zip(&self.row).for_each(|(column, number)| column.push(*number));
    }

    fn into_columns(self) -> Vec<Float64Array> {
        self.columns.into_iter().map(Float64Array::from).collect()
    }
}
