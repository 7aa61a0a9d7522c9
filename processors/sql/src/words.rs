//! DataFusion's messages in plain words.

use datafusion_common::DataFusionError;

/// Arrow's names of types, and those of flow files. Longer names stand before those that they contain.
const TYPES: &[(&str, &str)] = &[
    ("Timestamp(µs, \"UTC\")", "timestamp"),
    ("Timestamp(µs)", "timestamp"),
    ("Timestamp(ns)", "timestamp"),
    ("Time64(µs)", "time"),
    ("Utf8View", "utf8"),
    ("LargeUtf8", "utf8"),
    ("Utf8", "utf8"),
    ("BinaryView", "binary"),
    ("Binary", "binary"),
    ("Boolean", "boolean"),
    ("Date32", "date"),
    ("Decimal128", "decimal"),
    ("UInt64", "uint64"),
    ("UInt32", "uint32"),
    ("UInt16", "uint16"),
    ("UInt8", "uint8"),
    ("Int64", "int64"),
    ("Int32", "int32"),
    ("Int16", "int16"),
    ("Int8", "int8"),
    ("Float64", "float64"),
    ("Float32", "float32"),
];

/// What DataFusion says in front of what is wrong.
const PREFIXES: &[&str] = &[
    "Arrow error: ",
    "Arithmetic overflow: ",
    "Cast error: ",
    "Compute error: ",
    "Error during planning: ",
    "Execution error: ",
    "External error: ",
    "Internal error: ",
    "Invalid argument error: ",
    "Parser error: ",
    "Schema error: ",
    "This feature is not implemented: ",
];

/// Why rows failed.
pub fn why(error: &DataFusionError) -> String {
    sentence(&root(error))
}

/// The message of what went wrong first, without the chain of what was being done.
pub fn root(error: &DataFusionError) -> String {
    let message = error.find_root().strip_backtrace();
    let mut message = message.rsplit("caused by\n").next().unwrap_or_default();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| message.strip_prefix(prefix)) {
        message = rest;
    }
    message.to_owned()
}

/// A message with a small first letter, no period, and types as in flow files.
pub fn sentence(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let message = flow_types(line.trim().trim_end_matches('.'));
    // Arrow names some decimal there, whatever the cast is to.
    let message = message.replace("to value of decimal(38, 10) type", "to a decimal");
    let message = message.replace("Divide by zero error", "division by zero").replace("Cannot", "can't");
    let mut letters = message.chars();
    match letters.next() {
        // Only a word: `SQL` stays as it is.
        Some(first) if letters.as_str().starts_with(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => message,
    }
}

/// Types as flow files call them.
pub fn flow_types(message: &str) -> String {
    let mut message = message.to_owned();
    for (arrow, flow) in TYPES {
        if message.contains(arrow) {
            message = message.replace(arrow, flow);
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use arrow::error::ArrowError;

    use super::*;

    #[test]
    fn messages_lose_their_jargon() {
        let cast = ArrowError::CastError("Cannot cast string 'abc' to value of Int32 type".to_owned());
        let error = DataFusionError::from(cast).context("Optimizer rule 'simplify_expressions' failed");
        assert_eq!(why(&error), "can't cast string 'abc' to value of int32 type");
        let cast = ArrowError::CastError("Cannot cast string 'abc' to value of Decimal128(38, 10) type".to_owned());
        assert_eq!(why(&DataFusionError::from(cast)), "can't cast string 'abc' to a decimal");
        assert_eq!(why(&ArrowError::DivideByZero.into()), "division by zero");
        assert_eq!(sentence("SQL type X."), "SQL type X");
    }
}
