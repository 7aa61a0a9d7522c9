//! The input and the output `file`.

mod claim;
mod find;
mod hashed;
mod input;
mod journal;
mod output;
mod publish;
mod staging;
mod target;

pub use input::FileInput;
pub use output::{FileOutput, KeptFiles};
