//! Layers with their weights, as other programs have them: Keras in HDF5 files, PyTorch in safetensors files.

mod read;
mod state_dict;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod write;

use std::collections::HashMap;

use millstream_core::{Error, Result};

pub(crate) use read::{KerasFile, is_hdf5};
pub(crate) use state_dict::StateDict;
pub use write::Layout;
pub(crate) use write::write;

/// A layer, and what it has learned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    pub kind: LayerKind,
    /// In the order of [`LayerKind::weights`].
    pub weights: Vec<Weights>,
}

/// What Keras calls a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LayerKind {
    /// `(x - mean) / deviation`, for what the numbers of each column were like.
    Normalization,
    /// A vector for each category.
    Embedding,
    /// `x * kernel + bias`.
    Dense,
    /// The same as the first for the numbers of each row, and then `x * gamma + beta`.
    LayerNormalization,
}

/// Some weights of a layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Weights {
    pub shape: Vec<usize>,
    pub values: Values,
}

/// Numbers, with the last side of the shape together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
}

impl LayerKind {
    /// What Keras calls the first one in a model.
    fn name(self) -> &'static str {
        match self {
            Self::Normalization => "normalization",
            Self::Embedding => "embedding",
            Self::Dense => "dense",
            Self::LayerNormalization => "layer_normalization",
        }
    }

    /// The names of its weights.
    fn weights(self) -> &'static [&'static str] {
        match self {
            Self::Normalization => &["mean", "variance", "count"],
            Self::Embedding => &["embeddings"],
            Self::Dense => &["kernel", "bias"],
            Self::LayerNormalization => &["gamma", "beta"],
        }
    }
}

impl Layer {
    pub fn new<const N: usize>(kind: LayerKind, weights: [Weights; N]) -> Self {
        Self { kind, weights: weights.into() }
    }

    /// A dense layer whose kernel has a row for each number that comes in.
    pub fn dense(inputs: usize, outputs: usize, kernel: impl Into<Values>, bias: impl Into<Values>) -> Self {
        Self::new(LayerKind::Dense, [Weights::new(&[inputs, outputs], kernel), Weights::new(&[outputs], bias)])
    }
}

impl Weights {
    pub fn new(shape: &[usize], values: impl Into<Values>) -> Self {
        Self { shape: shape.into(), values: values.into() }
    }

    /// In 32 bits.
    pub fn f32s(&self) -> Vec<f32> {
        match &self.values {
            Values::F32(values) => values.clone(),
            Values::F64(values) => values.iter().map(|value| *value as f32).collect(),
            Values::I32(values) => values.iter().map(|value| *value as f32).collect(),
        }
    }

    /// In 64 bits.
    pub fn f64s(&self) -> Vec<f64> {
        match &self.values {
            Values::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Values::F64(values) => values.clone(),
            Values::I32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        }
    }
}

impl Values {
    /// How many there are.
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::I32(values) => values.len(),
        }
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self::F32(values)
    }
}

impl From<Vec<f64>> for Values {
    fn from(values: Vec<f64>) -> Self {
        Self::F64(values)
    }
}

impl From<Vec<i32>> for Values {
    fn from(values: Vec<i32>) -> Self {
        Self::I32(values)
    }
}

/// The weights of a file of others.
pub(crate) trait WeightsFile {
    /// Whether its first layer standardises what comes in.
    fn normalises(&self) -> Result<bool>;

    /// Reads the weights of layers, which are as many and of the shapes that these have.
    ///
    /// # Errors
    /// If the file has others.
    fn fill(&self, layers: &mut [Layer]) -> Result<()>;
}

/// The names that Keras gives layers: `dense`, `dense_1`, `dense_2`.
fn names(layers: &[Layer]) -> Vec<String> {
    let mut counts = HashMap::new();
    let name = |layer: &Layer| {
        let count = counts.entry(layer.kind).and_modify(|count| *count += 1).or_insert(0);
        let name = layer.kind.name();
        if *count == 0 { name.to_owned() } else { format!("{name}_{count}") }
    };
    layers.iter().map(name).collect()
}

/// Refuses a file that has weights of another number of layers.
fn check_count(found: usize, layers: &[Layer]) -> Result<()> {
    if found == layers.len() {
        return Ok(());
    }
    let (count, names) = (layers.len(), names(layers).join(", "));
    Err(Error::new(format!("it has weights of {found} layers, and there should be {count}: {names}")))
}

/// Refuses weights of another shape.
fn check_shape(name: &str, found: &[usize], expected: &[usize]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::new(format!("`{name}` in it is of the shape {found:?}, and should be of {expected:?}")))
}
