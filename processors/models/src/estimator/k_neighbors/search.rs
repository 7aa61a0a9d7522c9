//! Finds the nearest rows of a window, exactly.

use super::super::columns::AT_ONCE;
use super::nearest::{Nearest, Neighbour};
use super::{Row, Window};

/// Compares with all rows of a window.
#[inline(always)]
pub(super) fn search(window: &Window, row: Row<'_>, nearest: &mut Nearest) {
    let mut start = 0;
    while start < window.len() {
        let squares = window.rows().squares(row, start);
        // Most rows are too far away, which is seen of several at once.
        for (part, squares) in squares.chunks_exact(8).enumerate() {
            let farthest = nearest.farthest();
            if !squares.iter().fold(false, |any, square| any | (*square <= farthest)) {
                continue;
            }
            for (offset, square) in squares.iter().enumerate() {
                let place = start + part * 8 + offset;
                if *square <= nearest.farthest() && place < window.len() {
                    nearest.offer(Neighbour { square: *square, older: window.older(place) });
                }
            }
        }
        start += AT_ONCE;
    }
}
