//! Light processors: Arrow's kernels and nothing heavier.
//!
//! [`register`] adds them to the list of nodes; each is one file of its name.

mod dedup;
mod distribute;
mod hash;
mod join;
mod keys;
mod limit;
mod lookup;
mod merge;
mod ordered;
mod rows;
mod sample;
mod sort;
mod split;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod state_tests;

use millstream_core::NodeTypes;

/// Adds the processors of this crate.
pub fn register(registry: &mut NodeTypes) {
    registry
        .processor::<split::SplitSettings>()
        .processor::<distribute::DistributeSettings>()
        .processor::<merge::MergeSettings>()
        .processor::<join::JoinSettings>()
        .processor::<sort::SortSettings>()
        .processor::<dedup::DedupSettings>()
        .processor::<sample::SampleSettings>()
        .processor::<limit::LimitSettings>();
}
