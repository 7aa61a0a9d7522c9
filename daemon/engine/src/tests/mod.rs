//! Whole flows of small nodes through planner, tasks and edges.
#![allow(clippy::unwrap_used, missing_docs)]

mod asking;
mod barriers;
mod buffering;
mod checkpoint_store;
mod commits;
mod counting;
mod crash;
mod editing;
mod handing_over;
mod kinds;
mod lanes;
mod owners;
mod pausing;
mod planning;
mod poisoned;
mod renamed;
mod replaying;
pub mod running;
mod sabotage;
mod simulation;
mod stopping;
mod time_groups;
