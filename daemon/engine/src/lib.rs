//! Runs flows: reads their files, plans them, and moves batches through their nodes.
//!
//! The engine knows graphs, edges, order and epochs; it knows no concrete node. The way of a flow:
//!
//! 1. [`mod@file`]: a TOML file becomes a [`file::FlowFile`], its settings checked.
//! 2. [`plan`]: columns go through every node; the result is a [`plan::Plan`] of nodes, edges and stages.
//! 3. [`checkpoint`]: what is kept of a flow, and when what it did counts.
//! 4. [`run`]: every node becomes a task, every edge a bounded channel; a [`run::RunningFlow`] is watched and stopped.

pub mod align;
pub mod checkpoint;
pub mod edge;
pub mod explain;
pub mod file;
pub mod flow_test;
mod gate;
pub mod graph;
mod hold;
pub mod outline;
mod panic;
mod phase;
pub mod plan;
pub mod quarantine;
mod retry;
pub mod run;
pub mod stats;
mod task;
mod time_group;

#[cfg(test)]
mod tests;
