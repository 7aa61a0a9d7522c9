//! Stops a flow with state when its inputs have nothing more for this run, and some may have more for a later one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;

use super::Phase;

/// Counts the inputs that may still have something.
#[derive(Debug)]
pub struct CaughtUp {
    left: AtomicUsize,
    /// Whether one of the others may have more for a later run.
    will_resume: AtomicBool,
    phase: watch::Sender<Phase>,
}

impl CaughtUp {
    /// Of a flow with so many inputs.
    pub fn new(inputs: usize, phase: watch::Sender<Phase>) -> Self {
        Self { left: AtomicUsize::new(inputs), will_resume: AtomicBool::new(false), phase }
    }

    /// An input has nothing more: at all, or for this run. Called once for each.
    pub fn note(&self, is_for_this_run: bool) {
        self.will_resume.fetch_or(is_for_this_run, Ordering::AcqRel);
        self.left.fetch_sub(1, Ordering::AcqRel);
        if self.is_all() {
            self.phase.send_if_modified(|phase| {
                let is_running = *phase == Phase::Running;
                *phase = (*phase).max(Phase::Draining);
                is_running
            });
        }
    }

    /// Whether the flow has done all that there was for this run.
    pub fn is_all(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0 && self.will_resume.load(Ordering::Acquire)
    }
}
