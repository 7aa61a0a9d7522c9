//! Metrics of models that are served.

use millstream_serve::{Repository, Served};

use super::Samples;
use super::table::{
    SERVED_BATCHES, SERVED_INPUT_DRIFT, SERVED_INPUT_MISSING, SERVED_INPUT_UNSEEN, SERVED_LOGGED_ROWS, SERVED_REQUESTS,
    SERVED_ROWS, SERVED_SECONDS, SERVED_SHADOW_ROWS, SERVED_VERSION,
};

pub(super) fn collect(repository: &Repository, samples: &mut Samples) {
    for model in repository.names() {
        // One that was unloaded meanwhile has none.
        let versions = repository.loaded(&model).unwrap_or_default();
        versions.iter().for_each(|served| of_version(served, samples));
    }
}

fn of_version(served: &Served, samples: &mut Samples) {
    let (figures, model, version) = (&served.figures, served.model.as_str(), served.version.to_string());
    samples.add(&SERVED_VERSION, [model, &version], 1.0);
    for (result, requests) in [("success", &figures.success), ("fail", &figures.fail)] {
        samples.add(&SERVED_REQUESTS, [model, &version, result], requests.count() as f64);
    }
    samples.add(&SERVED_ROWS, [model, &version], figures.rows() as f64);
    samples.add(&SERVED_BATCHES, [model, &version], figures.batches() as f64);
    for (result, rows) in ["same", "other", "fail"].into_iter().zip(figures.comparison()) {
        samples.add(&SERVED_SHADOW_ROWS, [model, &version, result], rows as f64);
    }
    for (result, rows) in ["predicted", "lost", "labelled"].into_iter().zip(figures.log()) {
        samples.add(&SERVED_LOGGED_ROWS, [model, &version, result], rows as f64);
    }
    for (stage, took) in [
        ("request", &figures.success),
        ("queue", &figures.queue),
        ("input", &figures.input),
        ("infer", &figures.infer),
        ("output", &figures.output),
    ] {
        samples.add(&SERVED_SECONDS, [model, &version, stage], took.nanos() as f64 / 1e9);
    }
    for input in served.inputs().iter().filter(|input| input.rows > 0) {
        let labels = [model, &version, &input.feature];
        samples.add(&SERVED_INPUT_MISSING, labels, input.missing);
        input.drift.iter().for_each(|drift| samples.add(&SERVED_INPUT_DRIFT, labels, *drift));
        input.unseen.iter().for_each(|unseen| samples.add(&SERVED_INPUT_UNSEEN, labels, *unseen));
    }
}
