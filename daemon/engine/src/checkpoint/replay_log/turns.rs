//! Partitions whose rows come by turns: where each turn is like the one before, they are told together, so that the replay log
//! grows by what time has decided, and not whenever the next partition has its turn.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::InputEvent;

/// Turns in which each of some partitions came on by as much as in the turn before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// How many.
    count: u64,
    partitions: Vec<OfTurn>,
}

/// What one partition sends in each turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OfTurn {
    partition: String,
    /// By how much its position grows.
    by: u64,
    /// Its position behind the last turn.
    to: u64,
}

/// How many partitions may take turns, so that looking for the turn before costs next to nothing.
const MOST_PARTITIONS: usize = 256;

impl Turns {
    /// Turn by turn, and within each in their order: the partitions, and the positions up to which they send rows.
    pub fn rows(&self) -> impl Iterator<Item = (&str, u64)> {
        let of_turn = |left: u64| {
            let before = move |of_turn: &OfTurn| of_turn.to.saturating_sub(of_turn.by.saturating_mul(left));
            self.partitions.iter().map(move |of_turn| (of_turn.partition.as_str(), before(of_turn)))
        };
        (0..self.count).rev().flat_map(of_turn)
    }

    /// Whether one of them is this partition.
    pub fn has(&self, partition: &str) -> bool {
        self.partitions.iter().any(|of_turn| of_turn.partition == partition)
    }
}

/// Tells the last rows together with those of the turns before, if they complete a turn like these.
pub fn fold(steps: &mut VecDeque<InputEvent>) {
    let Some(InputEvent::Rows(last, _)) = steps.back() else { return };
    let before = steps.iter().rev().enumerate().skip(1).take(MOST_PARTITIONS);
    let mut ends = before.filter_map(|(back, step)| match step {
        InputEvent::Rows(partition, _) => (partition == last).then_some((back, false)),
        InputEvent::Turns(_) => Some((back, true)),
        InputEvent::Barrier | InputEvent::Idle(_) | InputEvent::Added(..) | InputEvent::Gone(_) => Some((0, false)),
    });
    match ends.next() {
        Some((length, true)) => go_on(steps, length),
        Some((length @ 2.., false)) => begin(steps, length),
        Some(_) | None => {}
    }
}

/// Adds a turn of the last steps to the turns before them.
fn go_on(steps: &mut VecDeque<InputEvent>, length: usize) {
    let behind = steps.len() - length;
    let turn: Option<Vec<_>> = steps.range(behind..).map(rows).collect();
    let turn: Vec<(String, u64)> =
        turn.into_iter().flatten().map(|(partition, to)| (partition.to_owned(), to)).collect();
    let Some(InputEvent::Turns(turns)) = steps.get_mut(behind - 1) else { return };
    let is_next = |(of_turn, (partition, to)): (&OfTurn, &(String, u64))| {
        of_turn.partition == *partition && of_turn.to.checked_add(of_turn.by) == Some(*to)
    };
    if turns.partitions.len() == turn.len() && turns.partitions.iter().zip(&turn).all(is_next) {
        turns.count += 1;
        turns.partitions.iter_mut().zip(turn).for_each(|(of_turn, (_, to))| of_turn.to = to);
        steps.truncate(behind);
    }
}

/// Begins with the last two turns, if they are alike. By how much the first of them came on says the one before it.
fn begin(steps: &mut VecDeque<InputEvent>, length: usize) {
    let Some(start) = steps.len().checked_sub(3 * length) else { return };
    let of_turn = |place: usize| {
        let [before, one, other] = [0, 1, 2].map(|turn| rows(&steps[start + turn * length + place]));
        let ((partition, before), (second, one), (third, to)) = (before?, one?, other?);
        let by = to.checked_sub(one).filter(|by| one.checked_sub(before) == Some(*by))?;
        ([second, third] == [partition; 2]).then(|| OfTurn { partition: partition.to_owned(), by, to })
    };
    let partitions: Option<Vec<OfTurn>> = (0..length).map(of_turn).collect();
    if let Some(partitions) = partitions {
        steps.truncate(start + length);
        steps.push_back(InputEvent::Turns(Turns { count: 2, partitions }));
    }
}

/// The partition of rows, and up to which position they were sent.
fn rows(step: &InputEvent) -> Option<(&str, u64)> {
    if let InputEvent::Rows(partition, to) = step { Some((partition, *to)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::Recorder;
    use super::*;

    /// The steps of partitions that come on by so much, one after the other.
    fn recorded(moves: &[(&str, u64)]) -> (VecDeque<InputEvent>, Vec<(String, u64)>) {
        let (mut recorder, mut positions) = (Recorder::<InputEvent>::taken(), std::collections::BTreeMap::new());
        let mut sent = Vec::new();
        for (partition, by) in moves {
            let position: &mut u64 = positions.entry(*partition).or_default();
            *position += by;
            recorder.rows(partition, *position);
            sent.push(((*partition).to_owned(), *position));
        }
        (recorder.take(), sent)
    }

    fn told(steps: &VecDeque<InputEvent>) -> Vec<(String, u64)> {
        let each = steps.iter().flat_map(|step| match step {
            InputEvent::Rows(partition, to) => vec![(partition.as_str(), *to)],
            InputEvent::Turns(turns) => turns.rows().collect(),
            _ => vec![],
        });
        each.map(|(partition, to)| (partition.to_owned(), to)).collect()
    }

    #[test]
    fn turns_that_are_alike_are_told_together() {
        for partitions in [&[("a", 8), ("b", 8)][..], &[("a", 3), ("b", 9), ("c", 1), ("d", 2)]] {
            let (steps, sent) = recorded(&partitions.repeat(1000));
            assert_eq!(told(&steps), sent);
            assert!(steps.len() <= 3 * partitions.len(), "{} steps", steps.len());
        }
    }

    #[test]
    fn what_time_has_decided_is_told_in_between() {
        let mut moves = [("a", 8), ("b", 8)].repeat(100);
        moves.extend([("a", 5), ("c", 2), ("b", 8)]);
        moves.extend([("a", 8), ("b", 8), ("c", 8)].repeat(100));
        moves.extend([("b", 8), ("a", 8)].repeat(100));
        let (steps, sent) = recorded(&moves);
        assert_eq!(told(&steps), sent);
        assert!(steps.len() < 40, "{} steps", steps.len());
    }

    #[test]
    fn rows_of_no_order_are_told_one_by_one() {
        let moves: Vec<(&str, u64)> =
            (0..500_u64).map(|step| (["a", "b", "c"][(step * step % 7 % 3) as usize], step % 5 + 1)).collect();
        let (steps, _) = recorded(&moves);
        let mut positions = std::collections::BTreeMap::new();
        for (partition, to) in told(&steps) {
            let known = positions.insert(partition, to);
            assert!(known.is_none_or(|known| known < to));
        }
    }
}
