//! Networks: `MLPClassifier` and `MLPRegressor`.

use millstream_core::{Error, Result, ResultExt as _};
use serde_json::{Value as Json, json};

use super::npy::Array;
use super::skops::Object;
use super::{Learned, Read, Target, classes};
use crate::layers::Layer;

pub(super) fn read(object: &Object<'_>, features: usize) -> Result<Read> {
    let target = match object.class() {
        "MLPClassifier" => Target::Classes(classes(object)?),
        _ => Target::Number,
    };
    let (outputs, last) = match &target {
        Target::Classes(classes) if classes.len() > 2 => (classes.len(), "softmax"),
        Target::Classes(_) => (1, "logistic"),
        _ => (1, "identity"),
    };
    let found = object.setting("out_activation_");
    if found != last {
        let problem =
            format!("the output of the `{}` in it goes through {found}, and should go through {last}", object.class());
        return Err(Error::new(problem));
    }
    let (kernels, biases) = (object.arrays("coefs_")?, object.arrays("intercepts_")?);
    if kernels.len() != biases.len() {
        return Err(Error::new(format!(
            "it has {} matrices of weights and {} intercepts",
            kernels.len(),
            biases.len()
        )));
    }
    let mut inputs = features;
    let layers = kernels.into_iter().zip(biases).map(|(kernel, bias)| dense(&mut inputs, kernel, bias));
    let layers: Vec<Layer> = layers.collect::<Result<_>>()?;
    if inputs != outputs {
        return Err(Error::new(format!("its last layer has {inputs} numbers, and should have {outputs}")));
    }
    let activation = activation(object)?;
    let units = layers.iter().map(|layer| layer.weights[1].shape[0]).take(layers.len().saturating_sub(1));
    let hidden: Vec<Json> = units.map(|units| json!({ "dense": units, "activation": activation })).collect();
    Ok((
        json!({ "type": "network", "layers": hidden, "optimizer": optimizer(object) }),
        target,
        Learned::Layers(layers),
    ))
}

/// A layer, of as many inputs as there are, which its outputs are behind it.
fn dense(inputs: &mut usize, kernel: Array, bias: Array) -> Result<Layer> {
    let ([rows, columns], [units]) = (&kernel.shape[..], &bias.shape[..]) else {
        return Err(Error::new("its layers are no matrices and vectors"));
    };
    if rows != inputs || columns != units {
        let problem = format!("a layer of {inputs} numbers has weights of {rows} by {columns} and {units} intercepts");
        return Err(Error::new(problem));
    }
    let (from, to) = (*rows, *columns);
    *inputs = to;
    let doing = || "reading its layers";
    Ok(Layer::dense(from, to, kernel.numbers().doing(doing)?, bias.numbers().doing(doing)?))
}

/// What becomes of the sums of hidden layers, by our name.
fn activation(object: &Object<'_>) -> Result<&'static str> {
    let known = [("relu", "relu"), ("tanh", "tanh"), ("logistic", "sigmoid"), ("identity", "linear")];
    let found = object.setting("activation");
    let own = known.into_iter().find(|(name, _)| found == *name).map(|(_, own)| own);
    own.ok_or_else(|| Error::new(format!("its activation is {found}, and should be relu, tanh, logistic or identity")))
}

/// What goes on learning, if something does.
fn optimizer(object: &Object<'_>) -> Json {
    let rate = object.setting("learning_rate_init").as_f64().filter(|rate| *rate > 0.0).unwrap_or(0.001);
    let kind = if object.setting("solver") == "sgd" { "sgd" } else { "adam" };
    json!({ "type": kind, "learning_rate": rate })
}
