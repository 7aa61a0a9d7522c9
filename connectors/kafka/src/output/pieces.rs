//! The rows of a stage as messages, encoded while those before them are sent.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use millstream_core::{Error, Result};
use millstream_spool::{PartReader, Piece};

use super::Job;
use super::rows::{Encoded, Prefixes, RowEncoder, RowFormat};

/// How many pieces may wait to be sent.
pub const AHEAD: usize = 4;

/// Rows of a part, as messages.
pub struct EncodedPiece {
    pub messages: Encoded,
    /// How many rows of the stage lie before their end.
    pub until: u64,
    /// Whether the part ends with them.
    pub ends_part: bool,
    /// Whether the stage ends with them.
    pub is_last: bool,
}

/// Encodes what was staged.
pub struct PieceEncoder {
    job: Arc<Job>,
    format: RowFormat,
    encoder: Option<RowEncoder>,
}

impl PieceEncoder {
    pub fn new(job: Arc<Job>, format: RowFormat) -> Self {
        Self { job, format, encoder: None }
    }

    /// Encodes one piece after the other, until nobody takes them, or one is wrong.
    pub fn encode_all(
        &mut self,
        mut parts: PartReader<'_>,
        prefixes: &Prefixes,
        pieces: &SyncSender<Result<EncodedPiece>>,
    ) {
        while let Some(piece) = parts.next_piece().transpose() {
            let encoded = piece.and_then(|piece| self.encode(piece, prefixes));
            let is_wrong = encoded.is_err();
            if pieces.send(encoded).is_err() || is_wrong {
                return;
            }
        }
    }

    fn encode(&mut self, piece: Piece, prefixes: &Prefixes) -> Result<EncodedPiece> {
        let Piece { rows, until, ends_part, is_last } = piece;
        let encoder = self.encoder.take().filter(|encoder| encoder.is_for(&rows.schema(), prefixes));
        let encoder =
            encoder.map_or_else(|| RowEncoder::new(&self.job.layout, &self.format, rows.schema(), prefixes), Ok);
        let messages = self.encoder.insert(encoder?).encode(&rows)?;
        if let Some((_, why)) = messages.refused().next() {
            // It could when it was staged.
            return Err(Error::new(format!(
                "a row that was staged can't be written any more: {why}; is `descriptors` another file now?"
            )));
        }
        Ok(EncodedPiece { messages, until, ends_part, is_last })
    }
}
