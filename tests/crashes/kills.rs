//! Kills from outside, at any moment.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::Trial;
use super::graphs::ALL;

/// A small generator of numbers, so that the moments of a failed run can be had again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Kills runs after so many kills each, until there have been enough.
fn kill(times: usize, seed: u64) {
    let trials: Vec<_> = ALL.iter().map(|graph| Trial::new(graph)).collect();
    let mut numbers = Numbers(seed);
    let mut killed = 0;
    for (round, trial) in trials.iter().enumerate().cycle().take(10 * times) {
        if killed >= times {
            return;
        }
        trial.start_over();
        let whole = time_of(trial);
        trial.start_over();
        for _ in 0..1 + numbers.below(4) {
            let moment = Duration::from_micros(numbers.below(whole.as_micros() as u64));
            killed += usize::from(kill_after(trial, moment));
        }
        trial.finish(&format!("graph {}, after {killed} kills of seed {seed}", round % ALL.len()));
    }
    panic!("only {killed} of {times} runs were killed before their end");
}

fn time_of(trial: &Trial) -> Duration {
    let begin = Instant::now();
    assert!(trial.durable(&[]).output().unwrap().status.success());
    begin.elapsed()
}

/// Whether the run was killed before its end.
fn kill_after(trial: &Trial, moment: Duration) -> bool {
    let mut child = trial.durable(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The one place where a test waits for time to pass: the moment is what is tested.
    std::thread::sleep(moment);
    let has_ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    !has_ended
}

#[test]
fn thirty_kills() {
    kill(30, 1);
}

#[test]
#[ignore = "takes ten minutes; part of the nightly run"]
fn three_hundred_kills() {
    kill(300, 2);
}
