//! The input and the output `file`.

mod claim;
mod find;
mod input;
mod output;
mod staging;
mod target;

pub use input::FileInput;
pub use output::FileOutput;
