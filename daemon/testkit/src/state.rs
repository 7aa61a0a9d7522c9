//! Looks at what a processor keeps, and damages it.

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use millstream_core::{Chunks, Parts, Processor, ProcessorSettings, State};

use crate::Timing;
use crate::drive::{Driver, Renewal, context, stream, stream_in_time};

/// What a processor keeps when all rows of its inputs have come, driven like by [`crate::drive`].
pub fn state_after(settings: &dyn ProcessorSettings, inputs: &[(&str, RecordBatch)], batch_rows: usize) -> State {
    let streams: Vec<_> = inputs.iter().map(|(port, rows)| stream(port, rows.schema())).collect();
    let mut driver = Driver::new(&context(), settings, &streams, Renewal::Never);
    driver.pass(inputs, batch_rows);
    driver.state()
}

/// What a processor keeps when all rows have come, driven like by [`crate::drive_in_time`].
pub fn state_in_time(settings: &dyn ProcessorSettings, rows: &RecordBatch, timing: Timing) -> State {
    let stream = stream_in_time(rows);
    let mut driver = Driver::new(&context(), settings, std::slice::from_ref(&stream), Renewal::Never);
    driver.pass_in_time(rows, timing);
    driver.state()
}

/// How many bytes stand before the rows of a piece.
const CHECKSUM_BYTES: usize = 8;

/// A state in which the rows `name`, which are in chunks, are in one piece, as in format 3: in the order of the first `order` of
/// their last `own` columns, and without these. Beside it, these columns.
pub fn in_one_piece(state: &State, name: &'static str, own: usize, order: usize) -> (State, Vec<RecordBatch>) {
    let chunk = |part: &str| part.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    let first = state.parts().find(|(part, _)| chunk(part) && !part.ends_with(".index"));
    let Some((_, bytes)) = first else { return (state.clone(), Vec::new()) };
    let schema = StreamReader::try_new(&bytes[CHECKSUM_BYTES..], None).unwrap().schema();
    let columns = schema.fields().len();
    let order: Vec<usize> = (columns - own..columns - own + order).collect();
    let mut rows = Vec::new();
    let give = |batch| {
        rows.push(batch);
        Ok(())
    };
    Chunks::new(name).load(state, &schema, None, &order, give).unwrap();
    let project = |range: std::ops::Range<usize>| {
        let columns: Vec<usize> = range.collect();
        rows.iter().map(|rows| rows.project(&columns).unwrap()).collect::<Vec<_>>()
    };
    let mut parts = Parts::default();
    let kept = project(0..columns - own);
    parts.put_rows(name, kept[0].schema(), kept);
    let piece = parts.into_state().unwrap();
    let others = state.parts().filter(|(part, _)| !chunk(part)).chain(piece.parts());
    (State::new(others.map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))), project(columns - own..columns))
}

/// How many places of a piece of state are damaged.
const PLACES: usize = 60;

/// Gives processors that `build` builds a state in which pieces are cut off, have wrong bits, or are missing. They may
/// refuse it or, where nothing shows, take it; what they must not do is panic. One that misses a piece is refused.
pub fn restore_damaged(state: &State, build: impl Fn() -> Box<dyn Processor>) {
    let parts: Vec<_> = state.parts().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
    assert!(!parts.is_empty(), "there is no state");
    build().restore(state).unwrap();
    for damaged in 0..parts.len() {
        let with = |bytes: Vec<u8>| {
            let mut parts = parts.clone();
            parts[damaged].1 = bytes;
            State::new(parts)
        };
        let (name, bytes) = &parts[damaged];
        let step = bytes.len().div_ceil(PLACES).max(1);
        for place in (0..bytes.len()).step_by(step) {
            let _ = build().restore(&with(bytes[..place].to_vec()));
            let mut wrong = bytes.clone();
            wrong[place] ^= 1 << (place / step % 8);
            let _ = build().restore(&with(wrong));
        }
        let others = parts.iter().filter(|(other, _)| other != name).cloned();
        let error = build().restore(&State::new(others)).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}` is missing")), "{error}");
    }
}
