//! Whole flows of small nodes through planner, tasks and edges.
#![allow(clippy::unwrap_used, missing_docs)]

mod crash;
mod editing;
mod kinds;
mod planning;
mod running;
mod sabotage;
mod simulation;
mod time_groups;
mod vault;
