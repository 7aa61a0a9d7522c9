//! Clusters: `KMeans` and `MiniBatchKMeans`.

use millstream_core::Result;
use serde_json::json;

use super::skops::Object;
use super::{Learned, Read, Target};
use crate::tensors::Tensors;

pub(super) fn read(object: &Object<'_>, features: usize) -> Result<Read> {
    let (count, centres) = object.matrix("cluster_centers_", features)?;
    // How many rows each has had, which says how far another one would move it.
    let mut rows = vec![0.0_f64; count];
    let labels = object.array("labels_").and_then(super::npy::Array::numbers).unwrap_or_default();
    for label in labels {
        if let Some(rows) = rows.get_mut(label as usize) {
            *rows += 1.0;
        }
    }
    let mut state = Tensors::default();
    state.put_f64("estimator.weights", &[count], &rows.iter().map(|rows| rows.max(1.0)).collect::<Vec<_>>());
    state.put_f64("estimator.numbers", &[count, features], &centres);
    state.put_f64("estimator.slots", &[count, 0], &[]);
    Ok((json!({ "type": "k_means", "clusters": count }), Target::Nothing, Learned::State(state)))
}
