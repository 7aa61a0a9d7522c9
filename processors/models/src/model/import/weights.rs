//! Weights of others become those of an estimator.

use millstream_core::{Error, Result};

use super::{Import, label_of, of_texts};
use crate::encode::{Encoder, Feature};
use crate::estimator::EstimatorSettings;
use crate::layers::{KerasFile, StateDict, WeightsFile, is_hdf5};
use crate::model::{Model, Signature};

/// The model with the weights of a file. It predicts as they do, and goes on learning if it is told to.
pub(super) fn import(file: &[u8], estimator: &EstimatorSettings, said: &Import) -> Result<Model> {
    if is_hdf5(file) {
        filled(&KerasFile::read(file)?, estimator, said)
    } else {
        filled(&StateDict::read(file)?, estimator, said)
    }
}

fn filled(file: &impl WeightsFile, estimator: &EstimatorSettings, said: &Import) -> Result<Model> {
    let names = said.features.as_deref().filter(|names| !names.is_empty());
    let names =
        names.ok_or_else(|| Error::new("weights don't say what they weigh; name the features, in their order"))?;
    let encoder = if file.normalises()? { Encoder::Standardise } else { Encoder::Raw };
    let feature = |name: &String| Feature::new(name, "float64", encoder);
    let classes = said.classes.as_ref().map(|classes| of_texts(classes, None)).transpose()?.unwrap_or_default();
    let signature = Signature {
        estimator: estimator.clone(),
        features: names.iter().map(feature).collect(),
        label: Some(label_of(classes, said)),
        weight: None,
        missing: said.missing,
        threshold: None,
        calibration: None,
        interval: None,
    };
    // With all that has to hold for a model to be built.
    let mut model = Model::new(Signature::from_json(&signature.to_json())?);
    let mut layers = model.layers()?;
    file.fill(&mut layers)?;
    model.take_layers(&layers)?;
    match model.tensors()?.not_finite() {
        Some(tensor) => Err(Error::new(format!("it has numbers that are not finite: those of `{tensor}`"))),
        None => Ok(model),
    }
}
