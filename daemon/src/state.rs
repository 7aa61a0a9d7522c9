//! `--state`: what a run keeps of its flows, and from what it is resumed.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use millstream_core::{Error, Result};
use millstream_engine::checkpoint::{ANEW, FlowCheckpoints, ResumeOptions, kept_states};
use millstream_engine::file::{Diagnostic, Diagnostics};
use millstream_engine::plan::{KeptStates, NeedsState, Plan, PlannedNode};
use millstream_engine::quarantine::Quarantine;
use millstream_engine::run::{FlowError, PreparedFlow, RunMode};
use millstream_models::device::{self, DeviceSettings};
use millstream_store::local_folder;

/// How a run keeps its state.
#[derive(Clone, Debug, Args)]
pub struct StateArguments {
    /// Which of the texts of the flow it is, where a daemon counts them.
    #[arg(skip)]
    pub revision: Option<u64>,
    /// Keep the state of each flow in DIR/FLOW, and resume it from there: every row counts once, also through a crash. Instead
    /// of a folder, `s3://BUCKET/PREFIX`. `check` only looks whether a flow can be resumed.
    #[arg(long, value_name = "DIR", value_parser = location)]
    pub state: Option<String>,
    /// Let a node start from scratch, whose state does not fit any more: what it remembers is lost, and so are rows that an
    /// output has not published yet. What was published stays.
    #[arg(long, value_name = "NODE", requires = "state")]
    pub reset: Vec<String>,
    /// Let outputs remove what was published at their places, where `if_exists` says `replace`: those that are reset; without
    /// `--reset`, all that begin, also where a run with another state has published something and has not come to its end.
    #[arg(long)]
    pub remove_published: bool,
    /// Resume although the build or the kind of machine is another one, so that models may come out with other bits.
    #[arg(long, requires = "state")]
    pub allow_drift: bool,
    /// Keep state although an input can't be read again, so that a crash loses its rows since the last checkpoint; and let a
    /// node be reset although the last checkpoint has decided rows of it that are not visible yet, which are lost.
    #[arg(long, requires = "state")]
    pub allow_loss: bool,
}

impl StateArguments {
    /// State at a location, as it is where nobody has asked for anything special.
    pub fn at(location: String) -> Self {
        Self {
            revision: None,
            state: Some(location),
            reset: Vec::new(),
            remove_published: false,
            allow_drift: false,
            allow_loss: false,
        }
    }

    /// What the nodes of a flow have kept, as far as it is planned by.
    pub fn kept(&self, flow: &str) -> KeptStates {
        let location = self.state.as_deref();
        location.map(|location| kept_states(location, flow, &self.options())).unwrap_or_default()
    }

    /// What becomes of what a flow does, and what is to be said of that.
    pub fn effects(&self, plan: &Plan) -> Result<(RunMode, Vec<String>)> {
        self.effects_without(plan, &Quarantine::default())
    }

    /// The same, where nodes do without some rows.
    pub fn effects_without(&self, plan: &Plan, quarantine: &Quarantine) -> Result<(RunMode, Vec<String>)> {
        let Some(location) = &self.state else {
            return Ok((RunMode::Commit { remove_published: self.remove_published }, Vec::new()));
        };
        let losses = self.losses(plan);
        let options = ResumeOptions { quarantine: quarantine.clone(), ..self.options() };
        let checkpoints = FlowCheckpoints::open_at(plan, location, &options)?;
        // What can't be read of other flows is of no interest to this one.
        let warnings = losses.into_iter().chain(checkpoints.warning(plan).ok().flatten());
        let mut notes: Vec<String> = warnings.map(|warning| format!("warning: {warning}")).collect();
        let (flow, number) = (&plan.flow, checkpoints.number());
        if checkpoints.is_done() {
            notes.push(format!("flow `{flow}`: has come to its end before; {ANEW}"));
        } else if number > 1 {
            notes.push(format!("flow `{flow}`: resumes from checkpoint {}", number - 1));
        }
        Ok((RunMode::Keep(checkpoints), notes))
    }

    /// All that would keep a flow from being resumed from its state.
    pub fn problems(&self, plan: &mut Plan) -> Result<Vec<String>> {
        let Some(location) = &self.state else { return Ok(Vec::new()) };
        let mut problems = self.unmet(plan);
        if !problems.is_empty() {
            return Ok(problems);
        }
        problems.extend(FlowCheckpoints::check_at(plan, location, &self.options())?);
        if problems.is_empty() {
            let checkpoints = FlowCheckpoints::look_at(plan, location, &self.options())?;
            problems.extend(PreparedFlow::check(plan, &checkpoints)?.iter().map(FlowError::to_string));
        }
        Ok(problems)
    }

    /// What the resets that were asked for lose, or let count twice. What can't be read is said elsewhere.
    pub fn losses(&self, plan: &Plan) -> Vec<String> {
        let losses = |location: &String| FlowCheckpoints::losses_at(plan, location, &self.options()).ok();
        self.state.as_ref().and_then(losses).unwrap_or_default()
    }

    /// What may not be meant of a flow that would begin from scratch.
    pub fn warning(&self, plan: &Plan) -> Option<String> {
        FlowCheckpoints::warning_at(plan, self.state.as_ref()?).ok().flatten()
    }

    /// A plan whose nodes have the state that they need.
    pub fn met(&self, flow: &Path, plan: Plan) -> Result<Plan, Diagnostics> {
        let path = flow.display().to_string();
        let diagnostic = |message| Diagnostic { path: path.clone(), place: None, message, help: None, follows: false };
        let unmet: Diagnostics = self.unmet(&plan).into_iter().map(diagnostic).collect();
        if unmet.is_empty() { Ok(plan) } else { Err(unmet) }
    }

    /// The nodes that can't run with the state that is kept, or without one.
    pub fn unmet(&self, plan: &Plan) -> Vec<String> {
        let mut unmet = Vec::new();
        if self.state.as_deref().and_then(local_folder).is_none() {
            let problem = |node: &PlannedNode| {
                format!(
                    "{} `{}` acknowledges rows only when they are durable, and so needs a state on this machine: `--state DIR` \
                     with a folder, not a URL",
                    node.role(),
                    node.name
                )
            };
            unmet.extend(plan.needing_state(NeedsState::Here).map(problem));
        }
        if self.state.as_deref().is_some_and(|state| local_folder(state).is_none()) {
            let problem = |node: &PlannedNode| {
                format!(
                    "{} `{}` keeps what it has asked for in a log until a checkpoint covers it, and so needs a state on this machine: \
                     `--state DIR` with a folder, not a URL",
                    node.role(),
                    node.name
                )
            };
            unmet.extend(plan.keeping_logs().map(problem));
        }
        if self.state.is_none() {
            let problem = |node: &PlannedNode| {
                format!(
                    "{} `{}` reads what no run before has read, and so needs a state that says what that is: `--state DIR`",
                    node.role(),
                    node.name
                )
            };
            unmet.extend(plan.needing_state(NeedsState::Anywhere).map(problem));
        }
        unmet
    }

    /// What is wanted of the state.
    pub fn options(&self) -> ResumeOptions {
        ResumeOptions {
            fingerprint: fingerprint(),
            allow_drift: self.allow_drift,
            allow_loss: self.allow_loss,
            revision: self.revision,
            resets: self.reset.clone(),
            remove_published: self.remove_published,
            quarantine: Quarantine::default(),
        }
    }
}

/// A place for states, which is never empty: that would be the current folder.
fn location(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("it is empty; it should be a folder such as `state`, or `s3://BUCKET/PREFIX`".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// What the bits of models depend on. The kind of processor is not among it: what is computed on one does not depend on what
/// it can do, which tests of the estimators show.
fn fingerprint() -> BTreeMap<String, String> {
    let device =
        device::find(DeviceSettings::Auto).map_or_else(|error: Error| error.to_string(), |found| found.to_string());
    let architecture = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    [("build", env!("CARGO_PKG_VERSION").to_owned()), ("architecture", architecture), ("device", device)]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}
