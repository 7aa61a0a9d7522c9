//! Commands that look at flows without running them on their data: `check`, `test`, `graph`, `explain`.

use std::path::Path;

use clap::{Args, ValueEnum};
use millstream_core::{Error, ResultExt as _};
use millstream_engine::file::{Diagnostic, Diagnostics, FlowFile, LoadOptions, Lock, LockedSchema};
use millstream_engine::plan::{Probed, ask_sources, probe};
use millstream_engine::{explain as explanation, flow_test, graph as picture};
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

use crate::exit::{CommandError, Exit, Outcome};
use crate::flow_files::{FlowArguments, FlowsArguments};
use crate::state::StateArguments;
use crate::terminal::{note, print_json, say};
use crate::workplace::{Workplace, control_runtime, data_runtime};

/// What `check` takes.
#[derive(Clone, Debug, Args)]
pub struct CheckArguments {
    /// The flows.
    #[command(flatten)]
    pub flows: FlowsArguments,
    /// What is kept of the flows.
    #[command(flatten)]
    pub state: StateArguments,
    /// Connect to what the nodes will need, brokers and models for example, and look whether it is there. Nothing is changed.
    #[arg(long)]
    pub connect: bool,
    /// Ask tables and registries for the columns that nodes leave out, and write them into the file `FLOW.lock` beside the flow, which every
    /// other command reads.
    #[arg(long, requires = "connect")]
    pub lock: bool,
    /// Print a line of JSON for each flow, in place of lines for people.
    #[arg(long)]
    pub json: bool,
}

/// What `graph` takes.
#[derive(Clone, Debug, Args)]
pub struct GraphArguments {
    /// The flow.
    #[command(flatten)]
    pub flow: FlowArguments,
    /// The form.
    #[arg(long, value_enum, default_value_t = GraphFormat::Text)]
    pub format: GraphFormat,
}

/// How a flow is drawn.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GraphFormat {
    /// A line a node.
    Text,
    /// A Mermaid flow chart.
    Mermaid,
}

/// `millstream check`
pub fn check(arguments: CheckArguments) -> Outcome {
    let workplace = Workplace::here()?;
    let control = control_runtime()?;
    let (mut problems, mut refusals) = (0, 0);
    for flow in &arguments.flows.files()? {
        let mut checked = Checked::new(flow);
        if arguments.lock {
            checked.lock(&workplace, &arguments, &control)?;
        }
        // Without what it asks for, there is no plan.
        if checked.is_ok() {
            checked.check(&workplace, &arguments);
        }
        if arguments.connect && checked.is_ok() {
            checked.connect(&workplace, &arguments, &control)?;
        }
        if arguments.json {
            print_json(checked.json())
        } else {
            checked.say(arguments.connect)
        }
        problems += checked.problems();
        refusals += checked.refusals().count();
    }
    // What hangs beyond its time is not waited for.
    control.shutdown_background();
    match problems + refusals {
        0 => {}
        1 => note!("1 problem"),
        count => note!("{count} problems"),
    }
    Ok(exit(problems, refusals))
}

/// Writes a lock file.
fn write(lock: &Lock) -> Result<(), Error> {
    std::fs::write(&lock.path, lock.text()).doing(|| format!("writing `{}`", lock.path))
}

/// How it ends with so many things wrong with flows, and so many that are not there which they need.
fn exit(problems: usize, refusals: usize) -> Exit {
    match (problems, refusals) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::Failed,
        _ => Exit::Usage,
    }
}

/// What was found out about a flow.
struct Checked<'a> {
    flow: &'a Path,
    /// How many nodes it has.
    nodes: usize,
    /// What is wrong with its file.
    diagnostics: Diagnostics,
    /// What is wrong besides.
    others: Vec<String>,
    /// What may not be meant.
    warnings: Vec<String>,
    /// What its nodes have found.
    probed: Vec<Probed>,
}

impl<'a> Checked<'a> {
    fn new(flow: &'a Path) -> Self {
        Self {
            flow,
            nodes: 0,
            diagnostics: Diagnostics::default(),
            others: Vec::new(),
            warnings: Vec::new(),
            probed: Vec::new(),
        }
    }

    fn check(&mut self, workplace: &Workplace, arguments: &CheckArguments) {
        match self.plan(workplace, arguments) {
            Ok(()) => {}
            Err(CommandError::Flow(diagnostics)) => self.diagnostics = diagnostics,
            Err(other) => self.others.push(other.to_string()),
        }
    }

    fn plan(&mut self, workplace: &Workplace, arguments: &CheckArguments) -> Result<(), CommandError> {
        let CheckArguments { flows, state, .. } = arguments;
        let mut plan = workplace.plan_resumed(self.flow, &flows.sets, state)?;
        self.nodes = plan.nodes.iter().filter(|node| !node.hidden).count();
        self.others = state.problems(&mut plan)?;
        if self.others.is_empty() {
            self.warnings.extend(plan.warnings.clone());
            self.warnings.extend(state.unmet(&plan));
            self.warnings.extend(state.warning(&plan));
            self.warnings.extend(state.losses(&plan));
        }
        Ok(())
    }

    /// Asks for the columns that nodes leave out, and writes them beside the flow if all of them are known.
    fn lock(&mut self, workplace: &Workplace, arguments: &CheckArguments, runtime: &Runtime) -> Result<(), Error> {
        let load = LoadOptions { reads_lock: false, ..workplace.load_options(&arguments.flows.sets) };
        let file = match FlowFile::load(self.flow, load) {
            Ok(file) => file,
            Err(diagnostics) => {
                self.diagnostics = diagnostics;
                return Ok(());
            }
        };
        let asked = runtime.block_on(ask_sources(&file, &workplace.plan_options()));
        // One that can't be read is written anew.
        let before = Lock::read(self.flow, &file.files).unwrap_or_else(|_| file.lock.clone());
        let found: Result<Vec<LockedSchema>, _> = asked.iter().map(|asked| asked.found.clone()).collect();
        match found {
            Ok(found) if found.is_empty() => self.warnings.push("there is nothing to lock".to_owned()),
            Ok(found) => write(&file.lock.with(found))?,
            Err(_) => self.warnings.push(format!("`{}` stays as it was", before.path)),
        }
        self.probed.extend(asked.into_iter().map(|asked| asked.written(&before)));
        Ok(())
    }

    /// Lets the nodes look whether what they need is there, and whether columns are still those of the lock file.
    fn connect(
        &mut self,
        workplace: &Workplace,
        arguments: &CheckArguments,
        runtime: &Runtime,
    ) -> Result<(), CommandError> {
        let file = workplace.load(self.flow, &arguments.flows.sets)?;
        if !arguments.lock {
            let asked = runtime.block_on(ask_sources(&file, &workplace.plan_options()));
            self.probed.extend(asked.into_iter().map(|asked| asked.compared(&file)));
        }
        self.probed.extend(runtime.block_on(probe(&file, &workplace.plan_options())));
        Ok(())
    }

    /// How many things are wrong with the flow itself.
    fn problems(&self) -> usize {
        self.diagnostics.len() + self.others.len()
    }

    /// What the nodes say that have not found what they need.
    fn refusals(&self) -> impl Iterator<Item = &Diagnostics> {
        self.probed.iter().filter_map(|probed| probed.found.as_ref().err())
    }

    fn is_ok(&self) -> bool {
        exit(self.problems(), self.refusals().count()) == Exit::Done
    }

    fn say(&self, is_connected: bool) {
        let flow = self.flow.display();
        if self.is_ok() {
            say!("{flow}: ok, {} nodes", self.nodes);
        }
        self.warnings.iter().for_each(|warning| say!("{flow}: warning: {warning}"));
        for Probed { role, node, found } in &self.probed {
            match found {
                Ok(found) => say!("{flow}: {role} `{node}`: {found}"),
                Err(diagnostics) => note!("{diagnostics}"),
            }
        }
        if is_connected && self.probed.is_empty() && self.problems() == 0 {
            say!("{flow}: nothing to connect to");
        }
        if !self.diagnostics.is_empty() {
            note!("{}", self.diagnostics);
        }
        self.others.iter().for_each(|problem| note!("{flow}: {problem}"));
    }

    fn json(&self) -> Json {
        let problem = |diagnostic: &Diagnostic| {
            let Diagnostic { path, place, message, help, .. } = diagnostic;
            let (line, column) = place.as_ref().map(|place| (place.line, place.column)).unzip();
            json!({ "file": path, "line": line, "column": column, "message": message, "help": help })
        };
        let others =
            self.others.iter().map(|message| json!({ "file": self.flow.display().to_string(), "message": message }));
        let connections = self.probed.iter().map(|Probed { role, node, found }| match found {
            Ok(found) => json!({ "role": role, "node": node, "found": found }),
            Err(wrong) => {
                json!({ "role": role, "node": node, "problems": wrong.iter().map(problem).collect::<Vec<_>>() })
            }
        });
        json!({
            "flow": self.flow.display().to_string(),
            "ok": self.is_ok(),
            "problems": self.diagnostics.iter().map(problem).chain(others).collect::<Vec<_>>(),
            "warnings": self.warnings,
            "connections": connections.collect::<Vec<_>>(),
        })
    }
}

/// `millstream test`
pub fn test(arguments: FlowsArguments) -> Outcome {
    let workplace = Workplace::here()?;
    let (control, data) = (control_runtime()?, data_runtime(None)?);
    let (mut passed, mut failed) = (0, 0);
    for flow in &arguments.files()? {
        let file = workplace.load(flow, &arguments.sets)?;
        let options = workplace.plan_options();
        let outcomes = control.block_on(flow_test::run_tests(&file, &options, data.handle()))?;
        for outcome in outcomes {
            let name = format!("{}: {}", flow.display(), outcome.name);
            if outcome.failures.is_empty() {
                passed += 1;
                say!("ok      {name}");
                continue;
            }
            failed += 1;
            say!("FAILED  {name}");
            outcome.failures.iter().for_each(|failure| say!("    {failure}"));
        }
    }
    say!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}

/// `millstream graph`
pub fn graph(arguments: GraphArguments) -> Outcome {
    let plan = Workplace::here()?.plan(&arguments.flow.flow, &arguments.flow.sets)?;
    let text = match arguments.format {
        GraphFormat::Text => picture::text(&plan),
        GraphFormat::Mermaid => picture::mermaid(&plan),
    };
    say!("{}", text.trim_end());
    Ok(Exit::Done)
}

/// `millstream explain`
pub fn explain(arguments: FlowArguments) -> Outcome {
    let plan = Workplace::here()?.plan(&arguments.flow, &arguments.sets)?;
    say!("{}", explanation::explain(&plan).trim_end());
    Ok(Exit::Done)
}
