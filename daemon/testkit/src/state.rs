//! Looks at what a processor keeps, and damages it.

use arrow::array::RecordBatch;
use millstream_core::{Processor, ProcessorSettings, State};

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
