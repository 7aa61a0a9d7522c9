//! A version of the registry that a flow predicts with, also after it was resumed.

use arrow::datatypes::Schema;
use millstream_core::{Error, Result, ResultExt};
use millstream_models::registry::{ModelReference, ModelRegistry};
use millstream_models::{Feature, Label, Model, Signature};

/// A version of the registry.
pub(super) struct Registered {
    registry: ModelRegistry,
    reference: ModelReference,
    /// What the reference stood for when the flow was first started.
    pub version: u64,
}

impl Registered {
    /// The version that was `kept`, or else what the reference stands for now, and the model of it.
    pub fn find(registry: ModelRegistry, reference: ModelReference, kept: Option<u64>) -> Result<(Self, Model)> {
        let version = kept.map_or_else(|| registry.find(&reference), Ok)?;
        let registered = Self { registry, reference, version };
        let model = match kept {
            Some(_) => registered.read().doing(|| registered.resuming())?,
            None => registered.read()?,
        };
        Ok((registered, model))
    }

    /// The version as flows write it: `fraud/3`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.reference.model, self.version)
    }

    fn read(&self) -> Result<Model> {
        Model::load(&self.registry.resolve(&self.name())?.bytes)
    }

    fn resuming(&self) -> String {
        format!("resuming with model `{}`, which `{}` was when the flow was started", self.name(), self.reference)
    }

    /// Goes back to another version, and returns the model of it; `None` if it is the same.
    ///
    /// It must give the columns that the flow was planned for, which are those of `planned`, from rows of these columns.
    pub fn go_on_with(&mut self, version: u64, planned: &Signature, input: &Schema) -> Result<Option<Model>> {
        if version == self.version {
            return Ok(None);
        }
        let planned_for = self.name();
        self.version = version;
        let model = self.read().doing(|| self.resuming())?;
        if fits(model.signature(), planned, input) {
            Ok(Some(model))
        } else {
            Err(Error::new(format!(
                "{}: the flow was planned for `{planned_for}` ({}) instead, and `{}` ({}) gives other columns, or needs \
                 others; run it again with its state, by which it is planned then, or let the node take `{planned_for}` \
                 with `--reset`, which loses no row, and gives the nodes behind it other columns",
                self.resuming(),
                what(planned),
                self.name(),
                what(model.signature())
            )))
        }
    }
}

/// What a model predicts, in words.
fn what(signature: &Signature) -> String {
    let Some(Label { column, type_name, classes, .. }) = &signature.label else {
        return format!("what `{}` finds", signature.estimator.name());
    };
    match classes.len() {
        0 => format!("a number, `{column}`"),
        count => format!("one of {count} classes, `{column}`, {type_name}"),
    }
}

fn fits(signature: &Signature, planned: &Signature, input: &Schema) -> bool {
    let accepted =
        |feature: &Feature| input.field_with_name(&feature.name).is_ok_and(|field| feature.accepts(field.data_type()));
    signature.label == planned.label && signature.gives() == planned.gives() && signature.features.iter().all(accepted)
}
