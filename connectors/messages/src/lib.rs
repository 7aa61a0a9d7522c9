//! What outputs have in common that send each row as a message to a broker.
//!
//! * [`Destination`], [`ValueSettings`]: settings, of where a row goes and what is in its message; [`Layout`] is what they come to.
//! * [`RowEncoder`]: rows become messages.
//! * [`MessageOutput`]: the output itself, over a [`Target`]: it refuses what the broker would refuse, and spools the rest until a checkpoint
//!   has decided that it counts, or sends it where no checkpoint does.

mod layout;
mod output;

pub use layout::{Destination, DestinationColumn, Layout, Messages, RowEncoder, ValueSettings, check_column};
pub use output::{MessageOutput, Sent, Stages, Target};
