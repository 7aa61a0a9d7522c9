//! States that were damaged, for tests.

use millstream_core::{Collector, Epoch, Processor, Result, State};

/// Restores nodes from damaged states: without some part, with a part cut short, with one bit of a part changed. What
/// can't be noticed, such as another weight, must at least do no harm later.
///
/// `build` makes a new node, `use_it` does with it what may be done with one that could be restored. Returns how many
/// states were refused.
pub(super) fn try_all(
    state: &State,
    build: impl Fn() -> Box<dyn Processor>,
    use_it: impl Fn(&mut dyn Processor, &mut Collector) -> Result<()>,
) -> usize {
    let mut refused = 0;
    for state in damaged(state) {
        let mut node = build();
        match node.restore(&state) {
            Ok(()) => {
                let mut out = Collector::new(2);
                let _ = use_it(&mut *node, &mut out)
                    .and_then(|()| node.barrier(Epoch(9), &mut out))
                    .and_then(|()| all_pieces(&mut *node, &mut out))
                    .and_then(|()| node.snapshot()?.state.into_state().map(|_| ()))
                    .and_then(|()| node.finish(&mut out))
                    .and_then(|()| all_pieces(&mut *node, &mut out));
                node.report();
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    refused
}

fn all_pieces(node: &mut dyn Processor, out: &mut Collector) -> Result<()> {
    while node.more(out)? {}
    Ok(())
}

fn damaged(state: &State) -> impl Iterator<Item = State> {
    state.parts().flat_map(move |(name, bytes)| {
        let change = move |changed: Option<Vec<u8>>| {
            let others = state.parts().filter(move |(other, _)| *other != name);
            let others = others.map(|(name, bytes)| (name.to_owned(), bytes.to_owned()));
            State::new(others.chain(changed.map(|bytes| (name.to_owned(), bytes))))
        };
        let step = bytes.len().div_ceil(300).max(1);
        let cut = (0..bytes.len()).step_by(7 * step).map(move |length| Some(bytes[..length].to_vec()));
        let flipped = (0..bytes.len()).step_by(step).map(move |place| {
            let mut bytes = bytes.to_vec();
            bytes[place] ^= 1 << ((place * 5 + place / 8) % 8);
            Some(bytes)
        });
        [None].into_iter().chain(cut).chain(flipped).map(change)
    })
}
