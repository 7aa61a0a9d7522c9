//! The input and the output `file`.

mod claim;
mod disk;
mod find;
mod hashed;
mod hidden;
mod input;
mod journal;
mod ledger;
mod local;
mod output;
mod publish;
mod reads;
mod staging;
mod target;

pub use hashed::Digest;
pub use hidden::owner;
pub use input::FileInput;
pub use output::{Begin, Beginning, FileOutput, Limits, OpenFiles, Partitioning, dead_letters, value_in_name};
pub use staging::{FinishedFile, Unfinished};
pub use target::Base;
