//! How large the transactions are in which an output writes what a checkpoint has decided: settings of such outputs.

use millstream_core::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::PartLimits;

/// How large transactions are. Where nothing is said, they have `ROWS` rows at most.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub struct TransactionSettings<const ROWS: u64 = 250_000> {
    /// How many rows a transaction has at most.
    #[serde(default = "rows::<ROWS>")]
    #[schemars(range(min = 1))]
    transaction_rows: u64,
    /// How many bytes of rows, as they are in memory, a transaction has at most.
    #[serde(default = "bytes")]
    #[schemars(extend("default" = "64MiB"))]
    transaction_bytes: ByteSize,
}

fn rows<const ROWS: u64>() -> u64 {
    ROWS
}

fn bytes() -> ByteSize {
    ByteSize(PartLimits::default().bytes as usize)
}

impl<const ROWS: u64> TransactionSettings<ROWS> {
    /// What a transaction has at most.
    pub fn limits(self) -> PartLimits {
        PartLimits { rows: self.transaction_rows, bytes: self.transaction_bytes.0 as u64 }
    }
}
