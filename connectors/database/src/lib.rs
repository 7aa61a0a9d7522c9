//! What inputs, outputs and look-ups of databases share.
//!
//! * `cells`: what a database sends becomes columns.
//! * `changes`: inputs that read the changes of tables from a server's log.
//! * `journal`: rows that were asked for pass through a log, so that a crash finds the same ones again.
//! * `lookup`: processors that look rows up in a table.
//! * `output`: outputs that write to a table, each row once.
//! * `query`: inputs that read a table, or what a query gives, page by page.

mod cells;
mod changes;
mod journal;
mod lookup;
mod output;
mod query;

use arrow::datatypes::Field;
use millstream_core::Problem;

pub use cells::{Cell, RowBuilder, key_of, limits, parse_decimal};
pub use changes::{
    At, ChangedRow, ChangesSettings, ChunkRows, Gathered, Metadata, Op, PortColumns, TableJob, Watch, can_be_key,
};
pub use journal::{Covers, Journal, JournalOptions, Page, Pages, PortRows, Refused, Source, Status};
pub use lookup::{Answer, LookupSettings, LookupTable};
pub use output::{Mark, OutputJob, OutputTable, PartRows, Refusal, Session, TableSettings};
pub use query::{PageWriter, QueryJob, QuerySettings, QueryTable, Relation};

/// Refuses a column of a type that a server does not have.
pub type CheckType = fn(&Field) -> Result<(), Problem>;
