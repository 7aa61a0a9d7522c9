//! Light processors: Arrow's kernels, formats and nothing heavier.
//!
//! [`register`] adds them to the list of nodes; each is one file of its name.

mod buffer;
mod convert;
mod dedup;
mod distribute;
mod flatten;
mod hash;
mod join;
mod keys;
mod limit;
mod literal;
mod lookup;
mod mask;
mod merge;
mod ordered;
mod parse;
mod rate_limit;
mod refused;
mod rows;
mod sample;
mod schema;
mod sort;
mod split;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod state_tests;
mod validate;

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
        .processor::<limit::LimitSettings>()
        .processor::<parse::ParseSettings>()
        .processor::<flatten::FlattenSettings>()
        .processor::<schema::SchemaSettings>()
        .processor::<validate::ValidateSettings>()
        .processor::<mask::MaskSettings>()
        .processor::<rate_limit::RateLimitSettings>()
        .processor::<buffer::BufferSettings>();
}
