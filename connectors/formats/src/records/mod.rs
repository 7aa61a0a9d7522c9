//! Records in binary encodings become rows: what Avro and Protobuf have in common.
//!
//! [`Cursor`] reads numbers and stretches of bytes, [`Record`] is the columns that take the values, and [`Records`] reads messages
//! with what knows the encoding, a [`ReadRecord`]. A message that is refused leaves nothing behind, and costs no other anything. What a
//! message may become in memory is bounded by a [`Budget`], since few bytes can stand for many values.

mod column;
mod cursor;
mod json;
mod leaf;
mod put;
mod reader;
mod scalar;

pub(crate) use column::{Column, Record};
pub(crate) use cursor::{Cursor, unzigzag};
pub(crate) use json::{JsonText, uuid_text};
pub(crate) use put::{put_varint, put_zigzag};
pub(crate) use reader::{Batches, Budget, ReadRecord, Records};
pub(crate) use scalar::{Scalar, ScalarKind, micros};

/// How deep values may lie in each other where a type may contain itself.
pub(crate) const MAX_DEPTH: usize = 100;
