use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};

use super::*;

/// Entries as a node has them: a number in each slot, and an ever higher one beside it.
struct Node {
    chunks: Chunks,
    entries: Vec<Option<(i64, i64)>>,
    next: i64,
    /// How many bytes a row pretends to have.
    bytes: usize,
    state: State,
}

fn schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
}

impl Node {
    fn new(bytes: usize) -> Self {
        Self { chunks: Chunks::new("rows"), entries: Vec::new(), next: 0, bytes, state: State::default() }
    }

    fn set(&mut self, slot: usize, value: i64) {
        if slot >= self.entries.len() {
            self.entries.resize(slot + 1, None);
        }
        self.next += 1;
        self.entries[slot] = Some((self.next, value));
        self.chunks.changed(slot as u32);
    }

    fn remove(&mut self, slot: usize) {
        self.entries[slot] = None;
        self.chunks.gone(slot as u32);
    }

    fn parts(&mut self) -> Parts {
        let (entries, mut parts) = (&self.entries, Parts::default());
        let schema = schema(&["number", "value"]);
        let copy = |slots: &[u32]| {
            let rows: Vec<_> = slots.iter().map(|slot| entries[*slot as usize].unwrap()).collect();
            let schema = schema.clone();
            move || {
                let column = |of: fn(&(i64, i64)) -> i64| -> ArrayRef {
                    Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
                };
                Ok(RecordBatch::try_new(schema, vec![column(|row| row.0), column(|row| row.1)])?)
            }
        };
        self.chunks.put(&mut parts, &schema, |_| self.bytes, copy).unwrap();
        parts
    }

    /// A checkpoint: how many rows were written.
    fn checkpoint(&mut self) -> usize {
        let mut written = 0;
        let before = std::mem::take(&mut self.state);
        let write = |name: &str, bytes: Vec<u8>| {
            if !name.ends_with("index") {
                let state = State::new([(name.to_owned(), bytes.clone())]);
                written += state.rows(name, &schema(&["number", "value"])).unwrap()[0].num_rows();
            }
            Ok(bytes)
        };
        let pieces = self.parts().write(|name| before.bytes(name).ok().map(<[u8]>::to_vec), write);
        self.state = State::new(pieces.unwrap());
        written
    }

    /// The same node, restored.
    fn restored(&self) -> Self {
        let mut chunks = Chunks::new("rows");
        let batches = load(&mut chunks, &self.state, &schema(&["number", "value"]), None, &[0]);
        Self { chunks, entries: rows(&batches), state: self.state.clone(), ..*self }
    }

    /// The entries in the order of their numbers.
    fn ordered(&self) -> Vec<(i64, i64)> {
        let mut entries: Vec<_> = self.entries.iter().flatten().copied().collect();
        entries.sort_unstable();
        entries
    }

    fn dead(&self) -> usize {
        self.chunks.chunks.values().map(|chunk| chunk.slots.len() - chunk.live).sum()
    }
}

fn load(
    chunks: &mut Chunks,
    state: &State,
    schema: &SchemaRef,
    own: Option<usize>,
    order: &[usize],
) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    let give = |batch| {
        batches.push(batch);
        Ok(())
    };
    chunks.load(state, schema, own, order, give).unwrap();
    batches
}

fn rows(batches: &[RecordBatch]) -> Vec<Option<(i64, i64)>> {
    let rows = batches.iter().flat_map(|batch| {
        let [numbers, values] = [0, 1].map(|column| batch.column(column).as_primitive::<Int64Type>().values());
        numbers.iter().copied().zip(values.iter().copied())
    });
    rows.map(Some).collect()
}

/// Random numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn what_is_restored_is_what_was_there_whatever_changed_between_checkpoints() {
    for (case, bytes) in [1, 1 << 12, 1 << 16, 1 << 21].into_iter().cycle().take(40).enumerate() {
        let (mut dice, mut node) = (Dice(case as u64), Node::new(bytes));
        for _ in 0..30 {
            for _ in 0..dice.below(60) {
                let slot = dice.below(100);
                let is_there = node.entries.get(slot).is_some_and(Option::is_some);
                match dice.below(3) {
                    0 if is_there => node.remove(slot),
                    _ => node.set(slot, dice.below(1000) as i64),
                }
            }
            node.checkpoint();
            let restored = node.restored();
            assert_eq!(restored.entries, node.ordered().into_iter().map(Some).collect::<Vec<_>>());
            if dice.below(3) == 0 {
                node = restored;
            }
        }
    }
}

#[test]
fn a_checkpoint_writes_about_as_much_as_has_changed_and_what_is_dead_stays_less() {
    let (mut dice, mut node, all) = (Dice(1), Node::new(1 << 12), 50_000);
    (0..all).for_each(|slot| node.set(slot, 0));
    assert_eq!(node.checkpoint(), all);
    let (mut most, mut written) = (0, 0);
    for round in 0..300 {
        for _ in 0..all / 100 {
            node.set(dice.below(all), round);
        }
        let rows = node.checkpoint();
        (most, written) = (most.max(rows), written + rows);
        assert!(node.dead() <= all * 11 / 10, "{} rows are dead in round {round}", node.dead());
        if round % 50 == 0 {
            node = node.restored();
        }
    }
    assert!(most <= all * 2 / 100 + 512, "{most} rows at once");
    assert!(written <= all / 100 * 2 * 300, "{written} rows");
    assert_eq!(node.checkpoint(), 0, "nothing has changed");
}

#[test]
fn chunks_of_few_rows_are_put_together() {
    let mut node = Node::new(100);
    let mut written = 0;
    for number in 0..1000 {
        node.set(number, 0);
        written += node.checkpoint();
    }
    assert!(node.chunks.chunks.len() <= 10, "{} chunks", node.chunks.chunks.len());
    assert!(written <= 1000 * 10, "{written} rows");
    // Rows that go take their chunks along, and nothing is written for that.
    (0..1000).for_each(|slot| node.remove(slot));
    assert_eq!((node.checkpoint(), node.chunks.chunks.len()), (0, 0));
}

#[test]
fn what_was_never_written_is_not_taken_for_what_was() {
    let mut node = Node::new(1 << 20);
    node.set(0, 7);
    drop(node.parts());
    node.set(1, 8);
    let error = node.parts().into_state_after(&node.state).unwrap_err().to_string();
    assert_eq!(error, "`rows.0` of the state was handed over for a checkpoint that was not written");
}

#[test]
fn rows_of_other_columns_are_written_again() {
    let mut node = Node::new(1);
    node.set(0, 7);
    node.checkpoint();
    let mut chunks = Chunks::new("rows");
    let batches = load(&mut chunks, &node.state, &schema(&["new", "value"]), Some(1), &[1]);
    assert_eq!((batches[0].column(0).null_count(), chunks.changed.len(), chunks.chunks.len()), (1, 1, 0));
}

#[test]
fn slots_that_come_and_go_without_checkpoints_need_no_room() {
    let mut node = Node::new(1);
    for round in 0..1000 {
        node.set(round % 3, 1);
        node.remove(round % 3);
    }
    assert_eq!(node.chunks.changed.len(), 3);
    assert_eq!(node.checkpoint(), 0);
}
