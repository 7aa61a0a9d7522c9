//! A version of the registry that a flow predicts with, also after it was resumed.

use arrow::datatypes::Schema;
use millstream_core::{Error, Result, ResultExt};

use crate::model::{Model, Signature};
use crate::registry::{ModelReference, Registry};

/// A version of the registry.
pub(super) struct Registered {
    registry: Registry,
    reference: ModelReference,
    /// What the reference stood for when the flow was first started.
    pub version: u64,
}

impl Registered {
    /// What the reference stands for now, and the model of it.
    pub fn find(registry: Registry, reference: ModelReference) -> Result<(Self, Model)> {
        let resolved = registry.resolve(&reference.to_string())?;
        let model = Model::load(&resolved.bytes)?;
        Ok((Self { registry, reference, version: resolved.version }, model))
    }

    /// Goes back to another version, and returns the model of it; `None` if it is the same.
    ///
    /// It must give the columns that the flow was planned for, which are those of `planned`, from rows of these columns.
    pub fn go_on_with(&mut self, version: u64, planned: &Signature, input: &Schema) -> Result<Option<Model>> {
        if version == self.version {
            return Ok(None);
        }
        let reference = format!("{}/{version}", self.reference.model);
        let doing = || format!("going on with model `{reference}`, which `{}` was", self.reference);
        let resolved = self.registry.resolve(&reference).doing(doing)?;
        let model = Model::load(&resolved.bytes).doing(doing)?;
        if !fits(model.signature(), planned, input) {
            let Self { reference: now, version: number, .. } = self;
            return Err(Error::new(format!(
                "the flow was stopped when `{now}` was version {version}, and can't go on with it: version {number}, \
                 which it is now, has another label, or version {version} learned from columns that these rows don't \
                 have; write `{reference}`, or let this node forget its version with `--reset`, which loses no row"
            )));
        }
        self.version = version;
        Ok(Some(model))
    }
}

fn fits(signature: &Signature, planned: &Signature, input: &Schema) -> bool {
    let accepted = |feature: &crate::Feature| {
        input.field_with_name(&feature.name).is_ok_and(|field| feature.accepts(field.data_type()))
    };
    signature.label == planned.label
        && signature.estimator.certainty() == planned.estimator.certainty()
        && signature.features.iter().all(accepted)
}
