//! JSON: documents to batches.
//!
//! [`scanner`] reads tokens, [`object`] knows which column a key is, and [`values`] takes what is read. A document that is refused
//! leaves nothing behind in them, and costs no other document anything.

mod buffers;
mod decoder;
mod documents;
mod lines;
mod nested;
mod object;
mod raw;
mod refusal;
mod scanner;
mod values;

pub use decoder::JsonDecoder;
pub(crate) use documents::{Documents, JsonReader};
pub(crate) use lines::NdjsonReader;
pub(crate) use refusal::{Read, Refusal};
pub(crate) use scanner::{Scalar, Scanner, is_json};
