//! What every node has to keep to, whatever it does: suites over all types of nodes that are registered.

mod folder;
mod inputs;
mod outputs;
mod processors;
mod reading;
mod refused;
mod staging;
mod writing;

use std::panic::{AssertUnwindSafe, Location, catch_unwind};

use millstream_core::{NodeTypes, Role};

pub use inputs::{InputSamples, Source, check_inputs};
pub use outputs::{OutputSamples, Target, check_outputs};
pub use processors::{Given, Sample, check_processors};

/// Something that a type of node can't be tried with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// Inputs: rows with nulls.
    Nulls,
    /// Inputs: rows that can't be read.
    Refusals,
    /// Inputs: a second reading from where the first one was.
    Resuming,
    /// Inputs and outputs: settings that are wrong, beyond what the schema of its table says.
    Mistakes,
    /// Outputs: rows that can be looked at.
    Rows,
    /// Outputs: rows that are visible only when they are committed.
    Commits,
}

/// What a type of node can't be tried with, and the reason in words.
pub type Excuse = (Lacks, &'static str);

/// Checks that the example of each type of node is accepted, and that the type is documented.
pub fn check_examples(types: &NodeTypes) {
    for kind in types.kinds() {
        let table: serde_json::Value = toml::from_str(kind.example).unwrap();
        let parsed = kind.parse(table);
        assert!(parsed.is_ok(), "the example of the {} `{}`: {}", kind.role, kind.name, parsed.err().unwrap());
        assert!(!kind.docs().is_empty(), "the {} `{}` has no documentation", kind.role, kind.name);
    }
}

/// Says of each type of a role that has no samples what to write, and where.
fn require_samples(
    types: &NodeTypes,
    role: Role,
    samples: impl Iterator<Item = &'static str>,
    advice: &str,
    caller: &Location<'_>,
) {
    let samples: Vec<_> = samples.collect();
    for kind in types.kinds().iter().filter(|kind| kind.role == role) {
        let name = kind.name;
        assert!(samples.contains(&name), "the {role} `{name}` has no sample: in {}, add {advice}", caller.file());
    }
    for name in samples {
        assert!(types.find(role, name).is_some(), "there are samples of `{name}`, which is no {role}");
    }
}

/// Whether there is an excuse for it.
fn is_excused(excuses: &[Excuse], lacks: Lacks) -> bool {
    excuses.iter().any(|(excused, _)| *excused == lacks)
}

/// Says what samples of a type lack without an excuse, or what they are excused from without need.
fn require(name: &str, excuses: &[Excuse], lacks: Lacks, is_there: bool, advice: &str) {
    match (is_there, is_excused(excuses, lacks)) {
        (true, false) | (false, true) => {}
        (false, false) => {
            panic!("no sample of `{name}` {advice}; if none can, say why: `excuses: &[(Lacks::{lacks:?}, \"…\")]`")
        }
        (true, true) => panic!("a sample of `{name}` {advice}, though it is excused from it: {excuses:?}"),
    }
}

/// Checks all samples, so that all that fail are said at once. Returns what the checks return.
fn check_each<S, T>(samples: impl IntoIterator<Item = S>, check: impl Fn(S) -> T) -> Vec<T> {
    let (mut passed, mut failed) = (Vec::new(), 0);
    for sample in samples {
        match catch_unwind(AssertUnwindSafe(|| check(sample))) {
            Ok(result) => passed.push(result),
            Err(_) => failed += 1,
        }
    }
    assert_eq!(failed, 0, "{failed} samples fail; what is wrong with each stands above");
    passed
}
