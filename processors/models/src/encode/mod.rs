//! Encoders: from the columns of a batch to what estimators compute with.
//!
//! A row is a dense block of numbers, and a short list of slots in which it has a one. Encoders learn online, and are
//! part of the model.

mod category;
mod dictionary;
mod preprocess;
mod rows;
mod settings;
mod statistics;
mod tile;

use arrow::datatypes::DataType;
use millstream_core::{ColumnType, Result};

pub(crate) use category::Category;
pub(crate) use preprocess::Preprocessing;
pub use rows::{LARGEST, column, is_usable};
pub(crate) use rows::{LARGEST_OF_32_BITS, Rows, read, why_refused};
pub use settings::{Encoder, Encoding, Feature, Missing, TargetEncoding, TextEncoding};
pub(crate) use statistics::Statistics;
pub(crate) use tile::{TILE_ROWS, Tile};

use crate::layers::Layer;
use crate::onnx::{ElementType, Encoded, Graph, Value};
use crate::tensors::Tensors;

/// The encoders of all features.
#[derive(Clone, Debug)]
pub(crate) struct Encoders {
    /// Of the numbers, in the order of the features.
    statistics: Statistics,
    /// Of the categories, in the order of the features.
    categories: Vec<Category>,
}

/// One row, encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    /// The numbers, padded with zeros.
    pub numbers: &'a [f64],
    /// Where the row has a one, of all slots of all categories.
    pub slots: &'a [u32],
}

/// Memory for the encoding of one row, used again for the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    pub numbers: Vec<f64>,
    pub slots: Vec<u32>,
}

impl Scratch {
    #[inline(always)]
    pub fn row(&self) -> Row<'_> {
        Row { numbers: &self.numbers, slots: &self.slots }
    }
}

impl Encoders {
    /// Encoders that have learned nothing.
    pub fn new(features: &[Feature], missing: Missing) -> Self {
        let raw = features.iter().filter(|feature| feature.encoder.is_number());
        let statistics = Statistics::new(raw.map(|feature| feature.encoder == Encoder::Raw), missing);
        let mut first_slot = 0;
        let mut categories = Vec::new();
        for feature in features {
            if let Some(category) = Category::new(feature, first_slot) {
                first_slot += category.slots();
                categories.push(category);
            }
        }
        Self { statistics, categories }
    }

    /// How many numbers a row has, with padding.
    pub fn width(&self) -> usize {
        self.statistics.width()
    }

    /// Those of the categories, in the order of the features.
    pub fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// Memory for the encoding of one row.
    pub fn scratch(&self) -> Scratch {
        Scratch { numbers: vec![0.0; self.width()], slots: Vec::with_capacity(self.categories.len()) }
    }

    /// Encodes row `row` of `rows`, whose numbers are `numbers`, by what was learned so far.
    #[inline(always)]
    pub fn encode(&self, rows: &Rows, row: usize, numbers: &[f64], into: &mut Scratch) {
        self.statistics.encode(numbers, &mut into.numbers);
        into.slots.clear();
        for (category, texts) in self.categories.iter().zip(rows.texts()) {
            into.slots.extend(category.slot(texts, row));
        }
    }

    /// Learns the row that was just encoded, and encodes it again by what is known now.
    ///
    /// Its slots stay: a new value is encoded by the slot that it gets when it is learned.
    #[inline(always)]
    pub fn learn(&mut self, rows: &Rows, row: usize, numbers: &[f64], into: &mut Scratch) {
        self.statistics.learn(numbers, &mut into.numbers);
        for (category, texts) in self.categories.iter_mut().zip(rows.texts()) {
            category.learn(texts, row);
        }
    }

    /// Adds the encoding of rows to a graph, by what was learned so far: of a column for each feature, what estimators compute with.
    ///
    /// # Errors
    /// If ONNX has no operator for an encoder.
    pub fn to_onnx(&self, features: &[Feature], columns: &[Value], graph: &mut Graph) -> Result<Encoded> {
        let mut numbers = Vec::new();
        let mut categories = Vec::with_capacity(self.categories.len());
        for (feature, column) in features.iter().zip(columns) {
            if feature.encoder.is_number() {
                numbers.push(graph.cast(column, ElementType::Double));
            } else {
                let element = element_type(feature);
                categories.push(self.categories[categories.len()].to_onnx(column, element, graph)?);
            }
        }
        let numbers: Vec<&Value> = numbers.iter().collect();
        let numbers = if numbers.is_empty() { None } else { Some(graph.side_by_side(&numbers)) };
        Ok(Encoded { numbers: numbers.map(|numbers| self.statistics.to_onnx(&numbers, graph)), categories })
    }

    /// What numbers go through before all else, as a layer; none if they are passed on as they are.
    pub fn layer(&self) -> Option<Layer> {
        self.statistics.layer()
    }

    /// Goes on from what such a layer knows.
    ///
    /// # Errors
    /// If that makes no sense.
    pub fn take_layer(&mut self, layer: &Layer) -> Result<()> {
        self.statistics.take_layer(layer)
    }

    /// Writes what was learned.
    pub fn save(&self, tensors: &mut Tensors) {
        self.statistics.save(tensors);
        self.categories.iter().for_each(|category| category.save(tensors));
    }

    /// Reads what was learned into new encoders.
    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.statistics.load(tensors)?;
        self.categories.iter_mut().try_for_each(|category| category.load(tensors))
    }
}

/// The type of the tensors that a feature comes in.
fn element_type(feature: &Feature) -> ElementType {
    match ColumnType::parse(&feature.type_name).map(|column| column.data_type) {
        Ok(DataType::Utf8) => ElementType::String,
        Ok(DataType::Boolean) => ElementType::Bool,
        Ok(DataType::Int8) => ElementType::Int8,
        Ok(DataType::Int16) => ElementType::Int16,
        Ok(DataType::Int32) => ElementType::Int32,
        Ok(DataType::Int64) => ElementType::Int64,
        Ok(DataType::UInt8) => ElementType::Uint8,
        Ok(DataType::UInt16) => ElementType::Uint16,
        Ok(DataType::UInt32) => ElementType::Uint32,
        Ok(DataType::UInt64) => ElementType::Uint64,
        Ok(DataType::Float32) => ElementType::Float,
        _ => ElementType::Double,
    }
}
