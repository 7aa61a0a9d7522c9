//! In which order the messages of several partitions are read that end: a block of each in turn.
//!
//! Whose turn it is follows from the positions alone, so that a flow that is resumed anywhere goes on in the same order.

use super::partition::Assigned;

/// How many positions of a partition are a block.
const BLOCK: u64 = 4096;

/// Whose turn it is.
pub struct Turns {
    partitions: Vec<Turn>,
}

struct Turn {
    start: u64,
    position: u64,
    end: u64,
}

impl Turn {
    fn round(&self) -> u64 {
        (self.position - self.start) / BLOCK
    }
}

impl Turns {
    /// Of partitions that have ends, in the order of their turns.
    pub fn new(partitions: &[Assigned]) -> Self {
        let turn = |partition: &Assigned| {
            let Assigned { start, next, .. } = *partition;
            Turn { start, position: next.max(start), end: partition.end.unwrap_or(next) }
        };
        Self { partitions: partitions.iter().map(turn).collect() }
    }

    /// The partition that is next, and up to where. None if all have ended.
    pub fn next(&self) -> Option<(usize, u64)> {
        let left = self.partitions.iter().enumerate().filter(|(_, turn)| turn.position < turn.end);
        let (index, turn) = left.min_by_key(|(index, turn)| (turn.round(), *index))?;
        Some((index, turn.end.min(turn.start + (turn.round() + 1) * BLOCK)))
    }

    /// How far a partition has come.
    pub fn position(&self, index: usize) -> u64 {
        self.partitions[index].position
    }

    /// A partition has no message before a position that was not read.
    pub fn come_to(&mut self, index: usize, position: u64) {
        let turn = &mut self.partitions[index];
        turn.position = turn.position.max(position);
    }

    /// Whether there is no more of a partition.
    pub fn has_ended(&self, index: usize) -> bool {
        self.partitions[index].position >= self.partitions[index].end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::TopicPartition;

    fn partition(number: i32, start: u64, next: u64, end: u64) -> Assigned {
        let of = TopicPartition { topic: "t".to_owned(), number };
        Assigned { next, ..Assigned::new(of, start, Some(end)) }
    }

    #[test]
    fn every_partition_has_its_turn() {
        let mut turns = Turns::new(&[partition(0, 10, 10, 10_000), partition(1, 0, 0, 5000), partition(2, 3, 3, 3)]);
        let mut order = Vec::new();
        while let Some((index, limit)) = turns.next() {
            order.push((index, limit));
            turns.come_to(index, limit);
        }
        assert_eq!(order, [(0, 4106), (1, 4096), (0, 8202), (1, 5000), (0, 10_000)]);
    }

    #[test]
    fn positions_alone_say_whose_turn_it_is() {
        let turns = Turns::new(&[partition(0, 10, 4106, 10_000), partition(1, 0, 100, 5000)]);
        assert_eq!(turns.next(), Some((1, 4096)));
        let turns = Turns::new(&[partition(0, 10, 5000, 10_000), partition(1, 0, 4096, 5000)]);
        assert_eq!(turns.next(), Some((0, 8202)));
    }
}
