//! The weights of safetensors files that PyTorch has written: the `state_dict` of an `nn.Sequential`, or of modules whose names sort like their order.

use std::collections::BTreeSet;

use millstream_core::{Error, Result, ResultExt as _};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{Layer, LayerKind, Values, Weights, WeightsFile, check_count, check_shape};

/// A file with weights.
pub(crate) struct StateDict<'a> {
    file: SafeTensors<'a>,
    /// The names of the modules, in their order.
    modules: Vec<String>,
}

/// The names of the weights of a module.
const NAMES: [&str; 2] = ["weight", "bias"];

impl<'a> StateDict<'a> {
    /// Reads a file. What is in it stays where it is.
    ///
    /// # Errors
    /// If it is no safetensors file, or has other tensors than weights and biases.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).doing(|| "reading it as a safetensors file")?;
        let module = |name: &str| match name.rsplit_once('.') {
            Some((module, weights)) if NAMES.contains(&weights) => Ok((in_parts(module), module.to_owned())),
            _ => Err(Error::new(format!("its tensor `{name}` is neither the `weight` nor the `bias` of a layer"))),
        };
        let modules = file.names().into_iter().map(module).collect::<Result<BTreeSet<_>>>()?;
        Ok(Self { file, modules: modules.into_iter().map(|(_, module)| module).collect() })
    }

    fn fill_one(&self, name: &str, kind: LayerKind, weights: &mut Weights) -> Result<()> {
        let tensor = self.file.tensor(name).map_err(|_| Error::new(format!("it has no tensor `{name}`")))?;
        let is_kernel = kind == LayerKind::Dense && weights.shape.len() == 2;
        let expected: Vec<usize> =
            if is_kernel { weights.shape.iter().rev().copied().collect() } else { weights.shape.clone() };
        check_shape(name, tensor.shape(), &expected)?;
        let values = values(name, &tensor)?;
        let values = if is_kernel { transposed(&values, expected[1]) } else { values };
        weights.values = match &weights.values {
            Values::F32(_) => Values::F32(values.into_iter().map(|value| value as f32).collect()),
            _ => Values::F64(values),
        };
        Ok(())
    }
}

impl WeightsFile for StateDict<'_> {
    fn normalises(&self) -> Result<bool> {
        Ok(false)
    }

    fn fill(&self, layers: &mut [Layer]) -> Result<()> {
        check_count(self.modules.len(), layers)?;
        for (module, layer) in self.modules.iter().zip(layers) {
            for (name, weights) in NAMES.iter().zip(&mut layer.weights) {
                self.fill_one(&format!("{module}.{name}"), layer.kind, weights)?;
            }
        }
        Ok(())
    }
}

/// A name in parts, such that the tenth comes behind the second.
fn in_parts(name: &str) -> Vec<(String, u64)> {
    let part = |part: &str| {
        let text = part.trim_end_matches(|c: char| c.is_ascii_digit());
        (text.to_owned(), part[text.len()..].parse().unwrap_or(0))
    };
    name.split('.').map(part).collect()
}

fn values(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f64>> {
    let bytes = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => Ok(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value).into()).collect()),
        Dtype::F64 => Ok(bytes.as_chunks().0.iter().map(|value| f64::from_le_bytes(*value)).collect()),
        other => Err(Error::new(format!("`{name}` in it is of {other:?}, and should be of F32 or F64"))),
    }
}

/// A matrix of rows of this length, column by column.
fn transposed(values: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}
