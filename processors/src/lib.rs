//! Light processors: Arrow's kernels and nothing heavier.
//!
//! [`register`] adds them to the list of nodes; each is one file: `split`, `merge`, `join`.

mod hash;
mod join;
mod lookup;
mod merge;
mod split;

use millstream_core::Registry;

/// Adds the processors of this crate.
pub fn register(registry: &mut Registry) {
    registry.processor::<split::SplitSettings>().processor::<merge::MergeSettings>().processor::<join::JoinSettings>();
}
