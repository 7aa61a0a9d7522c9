//! Commands that look at flows without running them on their data: `check`, `test`, `graph`, `explain`.

use clap::{Args, ValueEnum};
use millstream_engine::{explain as explanation, flow_test, graph as picture};

use crate::exit::{CommandError, Exit, Outcome};
use crate::flow_files::{FlowArguments, FlowsArguments};
use crate::state::StateArguments;
use crate::terminal::{note, say};
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
    let CheckArguments { flows, state } = arguments;
    let mut problems = 0;
    for flow in &flows.files()? {
        let planned = workplace.plan_resumed(flow, &flows.sets, &state).map_err(CommandError::from);
        problems += match planned.and_then(|mut plan| Ok((state.problems(&mut plan)?, plan))) {
            Ok((found, plan)) if found.is_empty() => {
                let nodes = plan.nodes.iter().filter(|node| !node.hidden).count();
                say!("{}: ok, {nodes} nodes", flow.display());
                let unmet = state.unmet(&plan);
                let begins = state.warning(&plan);
                let losses = state.losses(&plan);
                let warnings = plan.warnings.iter().chain(&unmet).chain(&begins).chain(&losses);
                warnings.for_each(|warning| say!("{}: warning: {warning}", flow.display()));
                0
            }
            Ok((found, _)) => {
                found.iter().for_each(|problem| note!("{}: {problem}", flow.display()));
                found.len()
            }
            Err(CommandError::Flow(diagnostics)) => {
                note!("{diagnostics}");
                diagnostics.len()
            }
            Err(other) => {
                note!("{}: {other}", flow.display());
                1
            }
        };
    }
    match problems {
        0 => return Ok(Exit::Done),
        1 => note!("1 problem"),
        count => note!("{count} problems"),
    }
    Ok(Exit::Usage)
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
