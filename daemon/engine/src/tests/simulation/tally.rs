//! How often simulations were disturbed, and in which way.

use std::collections::BTreeMap;

/// Counts by what has happened.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<&'static str, usize>);

/// What has to happen now and then, or else the simulations would show nothing.
const EXPECTED: &[&str] = &[
    "came through undisturbed at once",
    "crashed",
    "crashed again at once",
    "crashed in recovery",
    "crashed with a manifest whose effects are not visible",
    "crashed while it was to stop",
    "stopped",
    "gave up",
    "taken over",
    "taken over near its end",
    "handed over",
    "an input waited when it was disturbed",
    "had a blob",
];

impl Tally {
    /// Counts something that has happened.
    pub fn add(&mut self, what: &'static str) {
        debug_assert!(EXPECTED.contains(&what), "`{what}` is missing in the list");
        *self.0.entry(what).or_default() += 1;
    }

    /// Counts what has happened elsewhere.
    pub fn add_all(&mut self, other: Self) {
        other.0.into_iter().for_each(|(what, times)| *self.0.entry(what).or_default() += times);
    }

    /// The expected events that have not happened so often yet.
    pub fn lacks(&self, times: usize) -> Vec<&'static str> {
        let is_rare = |what: &&str| self.0.get(what).copied().unwrap_or_default() < times;
        EXPECTED.iter().copied().filter(is_rare).collect()
    }

    /// That each of them has happened so often.
    pub fn check(&self, times: usize) {
        let lacking = self.lacks(times);
        assert!(lacking.is_empty(), "{lacking:?} have not happened {times} times: {self:?}");
    }
}
