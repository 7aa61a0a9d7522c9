//! Settings that are wrong: the problem names its place.

use millstream_core::{NodeKind, Parsed, Problem, Problems, Step};

/// What the settings of a table are, or what is wrong with them.
pub(super) fn parse(kind: &NodeKind, settings: &str) -> Result<Parsed, Problem> {
    let table = toml::from_str(settings).unwrap_or_else(|error| panic!("{settings} is no TOML: {error}"));
    kind.parse(table)
}

/// Checks that settings are refused at their place: the keys on the way to it, with points between them.
pub(super) fn check_place(kind: &NodeKind, settings: &str, place: &str, plan: impl FnOnce(Parsed) -> Problems) {
    let problems = parse(kind, settings).map_or_else(Problems::from, plan);
    let what = format!("`{}` with {settings}", kind.name);
    assert!(!problems.is_empty(), "{what} is accepted, and is wrong at `{place}`");
    let places: Vec<_> = problems.iter().map(|problem| path(&problem.at)).collect();
    assert!(places.iter().any(|found| found == place), "{what} is wrong at `{place}`: {problems:?}");
    assert!(places.iter().all(|found| !found.is_empty()), "{what}: a problem without a place: {problems:?}");
}

fn path(steps: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Key(name) | Step::Name(name) => name.clone(),
        Step::Index(index) => index.to_string(),
    };
    steps.iter().map(step).collect::<Vec<_>>().join(".")
}
