//! Layers as HDF5 files, which h5py and Keras open.
//!
//! Keras 3.15 chooses between two layouts by the name of the file (`saving_api.load_weights`): files that end in `.weights.h5` have the weights of a
//! layer by number, below the names of classes (`saving_lib`); others have them by name, in the order of an attribute (`legacy_h5_format`).

use hdf5_pure::{AttrValue, FileBuilder, FinishedGroup, GroupBuilder};
use millstream_core::{Result, ResultExt as _};

use super::{Layer, Values, Weights, names};

/// How the weights lie in an HDF5 file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `dense/kernel` and `dense/bias`, in the order of the attribute `layer_names`: of files `.h5`, by any version of Keras.
    Named,
    /// `layers/dense/vars/0` and so on: of files `.weights.h5`, by Keras 3.
    Numbered,
}

impl Layout {
    /// The one that Keras expects in a file of this name.
    pub fn of_file(name: &str) -> Self {
        if name.ends_with(".weights.h5") { Self::Numbered } else { Self::Named }
    }
}

/// Writes layers. `properties` are texts by name, which say what they are of.
///
/// # Errors
/// If there are too many layers for an attribute of HDF5.
pub(crate) fn write(layers: &[Layer], layout: Layout, properties: &[(String, String)]) -> Result<Vec<u8>> {
    let mut file = FileBuilder::new();
    let groups: Vec<_> = names(layers).into_iter().zip(layers).collect();
    match layout {
        Layout::Named => {
            let names = groups.iter().map(|(name, _)| name.clone()).collect();
            file.set_attr("layer_names", AttrValue::StringArray(names));
            // Files without it are read as those of Keras 1.
            file.set_attr("keras_version", AttrValue::String("3.0.0".to_owned()));
            for (name, layer) in groups {
                let group = file.create_group(&name);
                file.add_group(named(group, layer));
            }
        }
        Layout::Numbered => {
            let mut group = file.create_group("layers");
            for (name, layer) in groups {
                let inner = group.create_group(&name);
                group.add_group(numbered(inner, layer));
            }
            file.add_group(group.finish());
        }
    }
    let mut about = file.create_group("millstream");
    for (name, text) in properties {
        let name = name.strip_prefix("millstream.").unwrap_or(name);
        about.create_dataset(name).with_vlen_strings(&[text]).with_shape(&[]);
    }
    file.add_group(about.finish());
    file.finish().doing(|| "writing an HDF5 file")
}

fn named(mut group: GroupBuilder, layer: &Layer) -> FinishedGroup {
    let names = layer.kind.weights();
    group.set_attr("weight_names", AttrValue::StringArray(names.iter().map(|name| (*name).to_owned()).collect()));
    names.iter().zip(&layer.weights).for_each(|(name, weights)| put(&mut group, name, weights));
    group.finish()
}

fn numbered(mut group: GroupBuilder, layer: &Layer) -> FinishedGroup {
    let mut vars = group.create_group("vars");
    layer.weights.iter().enumerate().for_each(|(at, weights)| put(&mut vars, &at.to_string(), weights));
    group.add_group(vars.finish());
    group.finish()
}

fn put(group: &mut GroupBuilder, name: &str, weights: &Weights) {
    let dataset = group.create_dataset(name);
    let dataset = match &weights.values {
        Values::F32(values) => dataset.with_f32_data(values),
        Values::F64(values) => dataset.with_f64_data(values),
        Values::I32(values) => dataset.with_i32_data(values),
    };
    dataset.with_shape(&weights.shape.iter().map(|side| *side as u64).collect::<Vec<_>>());
}
