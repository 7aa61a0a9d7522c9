//! What scikit-learn has fitted becomes a model of ours that predicts the same.

use millstream_core::{Error, Result};

use super::{Import, label_of, of_texts};
use crate::encode::{Encoder, Feature};
use crate::label::{Class, Label};
use crate::model::{Model, Signature};
use crate::sklearn::{self, Fitted, Learned, Target};

/// The model of a file of skops.
pub(super) fn import(file: &[u8], said: &Import) -> Result<Model> {
    let fitted = sklearn::read(file)?;
    let encoder = if fitted.scaling.is_some() { Encoder::Standardise } else { Encoder::Raw };
    let feature = |name| Feature::new(name, "float64", encoder);
    let signature = Signature {
        estimator: fitted.estimator.clone(),
        features: names(&fitted, said)?.into_iter().map(feature).collect(),
        label: label(&fitted.target, said)?,
        weight: None,
        missing: said.missing,
        threshold: None,
        calibration: None,
        interval: None,
    };
    // With all that has to hold for a model to be built.
    let mut model = Model::new(Signature::from_json(&signature.to_json())?);
    model.take_fitted(&fitted)?;
    match model.tensors()?.not_finite() {
        Some(tensor) => Err(Error::new(format!("it has numbers that are not finite: those of `{tensor}`"))),
        None => Ok(model),
    }
}

impl Model {
    fn take_fitted(&mut self, fitted: &Fitted) -> Result<()> {
        if let Some(scaling) = &fitted.scaling {
            self.encoders.take_layer(&scaling.layer())?;
        }
        match &fitted.learned {
            Learned::Layers(layers) => self.estimator.take_layers(layers),
            Learned::State(state) => self.estimator.load(state),
        }
    }
}

/// The names of the features: those that are said, those that it was fitted to, or the ones that scikit-learn gives to columns without names.
fn names(fitted: &Fitted, said: &Import) -> Result<Vec<String>> {
    let count = fitted.features;
    let names = said.features.as_ref().or(fitted.names.as_ref());
    match names {
        Some(names) if names.len() != count => {
            Err(Error::new(format!("{} features are named, and it was fitted to {count}", names.len())))
        }
        Some(names) => Ok(names.clone()),
        None => Ok((0..count).map(|number| format!("x{number}")).collect()),
    }
}

fn label(target: &Target, said: &Import) -> Result<Option<Label>> {
    match target {
        Target::Nothing if said.label.is_some() || said.classes.is_some() => {
            Err(Error::new("it finds clusters, which needs no label; leave label and classes out"))
        }
        Target::Nothing => Ok(None),
        Target::Number if said.classes.is_some() => Err(Error::new("it predicts a number; leave the classes out")),
        Target::Number => Ok(Some(label_of(Vec::new(), said))),
        Target::Classes(own) => Ok(Some(label_of(classes(own, said)?, said))),
    }
}

/// The classes that are said for those of the file, or its own.
fn classes(own: &[Class], said: &Import) -> Result<Vec<Class>> {
    match &said.classes {
        None => Ok(own.to_vec()),
        Some(said) if said.len() == own.len() => of_texts(said, None),
        Some(said) => Err(Error::new(format!("{} classes are said, and it has {}", said.len(), own.len()))),
    }
}
