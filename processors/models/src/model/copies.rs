//! Copies of a model in training, from which its file is made while it goes on.
//!
//! They are made in the same memory again and again. Fresh memory would take most of the time: the system hands it over
//! page by page, which is several times as slow as copying.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_core::{Parts, Result};

use super::Model;
use crate::tensors::Tensors;

/// The memory of copies: what the last one has left. Nothing while one is on its way.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies(Arc<Mutex<Tensors>>);

impl Copies {
    /// Makes memory ready, so that not even the first copy waits for it.
    pub fn prepare(&self, model: &Model) -> Result<()> {
        if !model.is_shared() {
            self.leave(model.tensors()?);
        }
        Ok(())
    }

    /// Adds the file of the model as it is now, which is made of a copy later.
    pub fn keep(&self, name: &str, model: &Model, parts: &mut Parts) -> Result<()> {
        if model.is_shared() {
            let model = model.clone();
            parts.put_bytes_later(name, move || model.save());
            return Ok(());
        }
        let mut copy = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        model.put_into(&mut copy)?;
        let (copies, about) = (self.clone(), model.signature.to_json());
        parts.put_bytes_later(name, move || {
            let bytes = copy.write(&about);
            copies.leave(copy);
            bytes
        });
        Ok(())
    }

    fn leave(&self, copy: Tensors) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = copy;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::table;

    use super::*;
    use crate::{Features, Missing, Signature};

    #[test]
    fn copies_on_their_way_stay_what_they_were() {
        let rows = table("a:float64 c y:boolean\n 1 u true\n 2 v false\n 3 größe true");
        let estimator = serde_json::from_str(r#"{ "type": "logistic_regression", "learning_rate": 0.1 }"#).unwrap();
        let features = Features::Listed(vec!["a".into(), "c".into()]);
        let signature = Signature::plan(&rows.schema(), &estimator, &features, "y", None, Missing::Fail).unwrap();
        let mut model = Model::new(signature);
        let copies = Copies::default();
        copies.prepare(&model).unwrap();
        // Two are on their way at once, and only the first has memory that was prepared.
        for _ in 0..2 {
            let (mut parts, mut files) = (Parts::default(), Vec::new());
            for (name, row) in [("first", 0), ("second", 1)] {
                model.step_batch(&rows.slice(row, 2)).unwrap();
                copies.keep(name, &model, &mut parts).unwrap();
                files.push(model.save().unwrap());
            }
            model.step_batch(&rows).unwrap();
            let state = parts.into_state().unwrap();
            let kept = ["first", "second"].map(|name| state.bytes(name).unwrap());
            assert!(kept[0] == files[0] && kept[1] == files[1]);
        }
    }
}
