//! How large the transactions are in which an output writes what a checkpoint has decided: settings of such outputs.

use millstream_core::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::PartLimits;

/// How large transactions are.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub struct TransactionSettings {
    /// How many rows a transaction has at most.
    #[serde(default = "rows")]
    #[schemars(range(min = 1))]
    transaction_rows: u64,
    /// How many bytes of rows, as they are in memory, a transaction has at most.
    #[serde(default = "bytes")]
    #[schemars(extend("default" = "64MiB"))]
    transaction_bytes: ByteSize,
}

fn rows() -> u64 {
    PartLimits::default().rows
}

fn bytes() -> ByteSize {
    ByteSize(PartLimits::default().bytes as usize)
}

impl TransactionSettings {
    /// What a transaction has at most.
    pub fn limits(self) -> PartLimits {
        PartLimits { rows: self.transaction_rows, bytes: self.transaction_bytes.0 as u64 }
    }
}
