//! Metrics of a function, by the names of OpenFaaS' of-watchdog.

use super::Samples;
use super::table::{FUNCTION_IN_FLIGHT, FUNCTION_REQUESTS, FUNCTION_SECONDS};
use crate::function::Function;

pub(super) fn collect(function: &Function, samples: &mut Samples) {
    samples.add(&FUNCTION_IN_FLIGHT, [], function.in_flight() as f64);
    let answered = function.answered();
    for ((method, code), requests) in answered.requests {
        samples.add(&FUNCTION_REQUESTS, [method, &code.to_string()], requests as f64);
    }
    samples.add(&FUNCTION_SECONDS, [], answered.took.as_secs_f64());
}
