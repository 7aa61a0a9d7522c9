//! Marks: what an output writes into its target, with the rows or behind them, to say how far it has come.
//!
//! A mark is what makes a commit safe to repeat. The reply to one may be lost, a process may be killed before it comes, or stopped and
//! thought dead: who comes to the rows next asks the mark.

use millstream_core::CommitContext;
use serde::{Deserialize, Serialize};

/// How far an output has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which state of the flow.
    pub incarnation: String,
    /// Which run of it has written the mark.
    pub generation: u64,
    /// The last checkpoint of which rows are in the target.
    pub checkpoint: u64,
    /// How many of its rows.
    pub rows: u64,
    /// Whether these are all.
    pub last: bool,
}

/// What a mark says about a stage.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// All rows are in the target.
    Done,
    /// So many are.
    Begun(u64),
    /// Another run goes on, and this one may not.
    TakenOver(String),
}

impl Mark {
    /// What the last mark says about a stage. `is_ours` says that marks of this state have been read or written by this process before.
    pub fn standing(mark: Option<&Self>, of: &CommitContext, is_ours: bool) -> Standing {
        let Some(mark) = mark else { return Standing::Begun(0) };
        if mark.incarnation != of.incarnation {
            // What another state has left is of no interest to one that begins, and means that it is over to one that has begun.
            return if is_ours {
                Standing::TakenOver("a run with another state".to_owned())
            } else {
                Standing::Begun(0)
            };
        }
        let rows = match mark.checkpoint.cmp(&of.checkpoint) {
            std::cmp::Ordering::Greater => return Standing::Done,
            std::cmp::Ordering::Equal if mark.last => return Standing::Done,
            std::cmp::Ordering::Equal => mark.rows,
            std::cmp::Ordering::Less => 0,
        };
        if mark.generation > of.generation {
            return Standing::TakenOver(format!("the run that began with checkpoint {}", mark.generation));
        }
        Standing::Begun(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(generation: u64, checkpoint: u64, rows: u64, last: bool) -> Mark {
        Mark { incarnation: "a".into(), generation, checkpoint, rows, last }
    }

    #[test]
    fn a_mark_says_what_is_still_to_be_sent() {
        let stage = |incarnation: &str, generation, checkpoint| CommitContext {
            incarnation: incarnation.into(),
            generation,
            checkpoint,
            ..CommitContext::default()
        };
        let standing = |mark: &Mark, stage: &CommitContext, is_ours| Mark::standing(Some(mark), stage, is_ours);
        let of = stage("a", 5, 7);
        assert_eq!(Mark::standing(None, &of, true), Standing::Begun(0));
        assert_eq!(standing(&mark(5, 6, 9, true), &of, true), Standing::Begun(0));
        assert_eq!(standing(&mark(5, 7, 9, false), &of, true), Standing::Begun(9));
        assert_eq!(standing(&mark(3, 7, 9, false), &of, false), Standing::Begun(9));
        assert_eq!(standing(&mark(5, 7, 9, true), &of, true), Standing::Done);
        assert_eq!(standing(&mark(9, 8, 1, false), &of, true), Standing::Done);
        assert!(matches!(standing(&mark(9, 7, 9, false), &of, true), Standing::TakenOver(_)));
        assert!(matches!(standing(&mark(9, 3, 9, true), &of, true), Standing::TakenOver(_)));
        let other = stage("b", 1, 1);
        assert_eq!(standing(&mark(9, 9, 9, true), &other, false), Standing::Begun(0));
        assert!(matches!(standing(&mark(9, 9, 9, true), &other, true), Standing::TakenOver(_)));
    }
}
