//! The rows of one key in blocks, so that a row for which thousands count goes through a few blocks instead.
//!
//! The rows of a key are numbered as they came. As many as [`BLOCK_ROWS`], from a multiple of that on, are a block of the lowest
//! level; two of these, the first with an even number, are one of the next level, and so on. A block holds what its rows come to
//! in their order. Which blocks count as a whole follows from numbers and times alone, and from no batch.

use std::collections::BTreeMap;

/// How many rows a block of the lowest level has.
pub const BLOCK_ROWS: usize = 32;

/// The blocks of one key.
#[derive(Default)]
pub struct Blocks {
    /// By their numbers. There are none where a row has been forgotten, or where rows would never count together.
    levels: Vec<BTreeMap<u64, Block>>,
}

/// A block: where its sums are, and the times of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub slot: u32,
    pub earliest: i64,
    pub latest: i64,
}

/// How much of a block counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    Whole,
    Part,
    None,
}

/// Two blocks, and the one that is made of them.
pub type Merge = [u32; 3];

/// The slots of blocks.
#[derive(Default)]
pub struct Slots {
    free: Vec<u32>,
    end: u32,
    /// Those that are no longer needed, but may be looked at once more, and are to be emptied then.
    pub released: Vec<u32>,
}

impl Slots {
    /// One that is empty.
    pub fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        })
    }

    /// How many there have to be.
    pub fn count(&self) -> usize {
        self.end as usize
    }

    /// Takes back slots that were emptied.
    pub fn give_back(&mut self, slots: Vec<u32>) {
        self.free.extend(slots);
    }
}

impl Blocks {
    /// Adds a block of the lowest level, behind those that there are, and those of the next levels that it completes, if all
    /// their rows can count together: if they lie within `span`.
    pub fn add(&mut self, mut number: u64, mut block: Block, span: i64, slots: &mut Slots, merges: &mut Vec<Merge>) {
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(BTreeMap::new());
            }
            self.levels[level].insert(number, block);
            let before = number.checked_sub(1).filter(|before| before % 2 == 0);
            let Some(before) = before.and_then(|before| self.levels[level].get(&before).copied()) else { return };
            let (earliest, latest) = (before.earliest.min(block.earliest), before.latest.max(block.latest));
            if latest.saturating_sub(earliest) >= span {
                return;
            }
            let above = Block { slot: slots.take(), earliest, latest };
            merges.push([before.slot, block.slot, above.slot]);
            (number, block) = (number / 2, above);
        }
    }

    /// Forgets the blocks that a row is in.
    pub fn forget(&mut self, row: u64, slots: &mut Slots) {
        let mut number = row / BLOCK_ROWS as u64;
        for level in &mut self.levels {
            let Some(block) = level.remove(&number) else { return };
            slots.released.push(block.slot);
            number /= 2;
        }
    }

    /// The largest block that begins with a row, has at most `most` rows, and counts as a whole or not at all: how many rows it
    /// has, and whether it counts.
    pub fn largest(&self, row: u64, most: usize, share: impl Fn(Block) -> Share) -> Option<(usize, Option<Block>)> {
        if !row.is_multiple_of(BLOCK_ROWS as u64) {
            return None;
        }
        self.levels.iter().enumerate().rev().find_map(|(level, blocks)| {
            let rows = BLOCK_ROWS << level;
            if !row.is_multiple_of(rows as u64) || rows > most {
                return None;
            }
            let block = blocks.get(&(row / rows as u64))?;
            match share(*block) {
                Share::Whole => Some((rows, Some(*block))),
                Share::None => Some((rows, None)),
                Share::Part => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: u64 = BLOCK_ROWS as u64;

    #[test]
    fn blocks_are_put_together_in_pairs_and_forgotten_with_their_rows() {
        let (mut blocks, mut slots, mut merges) = (Blocks::default(), Slots::default(), Vec::new());
        for number in 3..8 {
            let (slot, time) = (slots.take(), number as i64);
            blocks.add(number, Block { slot, earliest: time, latest: time }, 3, &mut slots, &mut merges);
        }
        // 4 and 5, 6 and 7; all four lie too far from each other to count together.
        assert_eq!(merges, [[1, 2, 3], [4, 5, 6]]);
        let largest = |blocks: &Blocks, number: u64, most: usize| {
            blocks
                .largest(number * ROWS, most, |_| Share::Whole)
                .map(|(rows, block)| (rows, block.map(|block| block.slot)))
        };
        assert_eq!(largest(&blocks, 4, 1000), Some((64, Some(3))));
        assert_eq!(largest(&blocks, 4, 63), Some((32, Some(1))));
        assert_eq!(largest(&blocks, 5, 1000), Some((32, Some(2))));
        assert_eq!(largest(&blocks, 5, 31), None);
        assert_eq!(largest(&blocks, 2, 1000), None);
        blocks.forget(4 * ROWS + 7, &mut slots);
        assert_eq!((largest(&blocks, 4, 1000), largest(&blocks, 5, 1000)), (None, Some((32, Some(2)))));
        assert_eq!(slots.released, [1, 3]);
        let none = blocks.largest(6 * ROWS, 1000, |block| if block.latest > 6 { Share::None } else { Share::Part });
        assert_eq!(none, Some((64, None)));
    }
}
