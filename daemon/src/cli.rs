//! The command line: every subcommand. Their arguments are where they are carried out.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};
use millstream_core::ResultExt as _;
use millstream_models::device::{self, DeviceSettings};

use crate::daemon::DaemonArguments;
use crate::exit::{Exit, Outcome};
use crate::flow_files::{FlowArguments, FlowsArguments};
use crate::logging::{Level, LogSettings};
use crate::terminal::say;
use crate::{
    audit, check, checkpoints, daemon, function, logging, lsp, models, new, predict, reference, remote, replay, run,
    serve, token,
};

/// Streams of Arrow batches through flows that end in models that learn online.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// The arguments of this process. Where they are wrong, it says so and ends.
    pub fn read() -> Self {
        Self::try_parse().unwrap_or_else(|error| blame_variables(error).exit())
    }
}

/// An error about the value of an environment variable names the variable, and not the option that it stands in for.
fn blame_variables(mut error: clap::Error) -> clap::Error {
    let mut variables = Vec::new();
    let mut command = Arguments::command();
    command.build();
    collect_variables(&command, &mut variables);
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        let Some(ContextValue::String(option)) = error.get(kind) else { continue };
        let is_it = |(known, long, _): &&(String, String, String)| known == option && !is_said(long);
        if let Some((_, _, variable)) = variables.iter().find(is_it) {
            error.insert(kind, ContextValue::String(format!("variable {variable}")));
        }
    }
    error
}

/// The options of all commands that variables stand in for which are set: as errors name them, as they begin, and the variable.
fn collect_variables(command: &clap::Command, found: &mut Vec<(String, String, String)>) {
    for argument in command.get_arguments() {
        let variable = argument.get_env().filter(|variable| std::env::var_os(variable).is_some());
        if let (Some(variable), Some(long)) = (variable, argument.get_long()) {
            found.push((argument.to_string(), format!("--{long}"), variable.to_string_lossy().into_owned()));
        }
    }
    command.get_subcommands().for_each(|command| collect_variables(command, found));
}

/// Whether an option is on the command line.
fn is_said(long: &str) -> bool {
    let is_it = |said: &str| said.strip_prefix(long).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    std::env::args_os().any(|said| is_it(&said.to_string_lossy()))
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run flows until their inputs end. Ctrl-C or SIGTERM stops them; a second one gives up.
    ///
    /// Live flows that are stopped process and commit what was read. A flow whose inputs would have ended by themselves is
    /// unfinished: with `--state`, the same command resumes it; without, nothing is committed, and what was there before stays.
    ///
    /// The exit status is 0 if all flows are done, or were live and are stopped; 1 if one failed; 2 if one does not check; 3 if
    /// one is unfinished.
    #[command(verbatim_doc_comment)]
    Run(run::RunArguments),
    /// Keep the flows of a folder running: those whose files appear, change and vanish while it runs, and those that fail. Their
    /// states are kept, so that every row counts once, whatever happens. Ctrl-C or SIGTERM stops them at a checkpoint; a second one
    /// gives up.
    ///
    /// The exit status is 0 if it was stopped; 1 if it could not begin; 2 if its settings are wrong. What becomes of flows is logged on
    /// standard error.
    #[command(verbatim_doc_comment)]
    Daemon(DaemonArguments),
    /// Make, list and revoke the tokens that let people and programs into the administration of a daemon. It need not run.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Look at the log of what was done to a daemon.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Check flows without running them: all that is wrong, each at its place. With `--state`, also whether they can be resumed
    /// from what is kept there; with `--connect`, whether what they need elsewhere is there.
    Check(check::CheckArguments),
    /// Run the tests that flows carry.
    Test(FlowsArguments),
    /// Write a flow to begin with: from a template, or from a look at a data file.
    New(new::NewArguments),
    /// Draw a flow.
    Graph(check::GraphArguments),
    /// Say what a flow promises: columns, order, deliveries, limits.
    Explain(FlowArguments),
    /// List the types of nodes, and the formats.
    List,
    /// Show the reference page of a type of node or a format, or of all.
    Docs(reference::DocsArguments),
    /// List what is kept of the flows that were run with `--state`.
    Checkpoints(checkpoints::CheckpointsArguments),
    /// Train a version of a model again, from the same rows in the same order, and say whether it comes out as the same bits.
    Replay(replay::ReplayArguments),
    /// Show and name the versions of models.
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// The flows of a daemon: list them, look at them, change, start and stop them.
    #[command(subcommand)]
    Flows(remote::FlowsCommand),
    /// Watch what the flows of a daemon do: rates, what is behind, which node holds others up. Keys sort, select, and show the nodes of a flow.
    Top(remote::TopArguments),
    /// Rows that nodes of a daemon's flows have refused.
    #[command(subcommand)]
    DeadLetters(remote::DeadLettersCommand),
    /// Put together what those need to know who help with a daemon: its settings, flows, operations, logs and figures, without secrets.
    Support(remote::SupportArguments),
    /// Have a daemon look again at the folder of flows, its certificate and its settings.
    ///
    /// The exit status is 1 if something of that is wrong; then everything goes on as it was.
    #[command(verbatim_doc_comment)]
    Reload(remote::ReloadArguments),
    /// What was asked of a daemon and takes a while.
    #[command(subcommand)]
    Operations(remote::OperationsCommand),
    /// Predict the rows that come as JSON lines on standard input, with a model of the registry.
    Predict(predict::PredictArguments),
    /// Serve models of a registry over HTTP until Ctrl-C or SIGTERM: the Open Inference Protocol, KServe's and MLflow's, and rows as JSON objects at
    /// `POST /api/v1/models/NAME/predict`. Aliases are followed: the champion answers from the moment on that there is another one.
    ///
    /// It listens to this machine only, and asks for a token of `millstream token create`, unless it is told otherwise.
    #[command(verbatim_doc_comment)]
    Serve(serve::ServeArguments),
    /// Answer requests by a model, or by a flow that takes rows by HTTP, as platforms for functions ask of one: OpenFaaS, Knative and their like.
    ///
    /// `POST /` has rows predicted; of a flow, each input with HTTP takes what comes at its path, or all of it if it is the only one. `GET /_/health` says
    /// whether the function is well, `GET /_/ready` whether it takes another request. At SIGTERM it says that it is about to end, answers what has been
    /// asked, and ends with status 0.
    ///
    /// It asks for no token and has no encryption: the platform in front of it does that.
    #[command(verbatim_doc_comment)]
    Function(function::FunctionArguments),
    /// Say what a network with `device = "…"` would compute on here: `cpu`, or a CUDA device that works.
    Device {
        /// `auto`, `cpu`, or `cuda:0` for the first CUDA device.
        #[arg(default_value_t)]
        device: DeviceSettings,
    },
    /// Tell an editor what is wrong with flows while they are written, what settings are for, and what could stand where: a language server over
    /// standard input and output. How editors are set up is in `conf/EDITORS.md`.
    Lsp,
    /// Print a script that completes this command in a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of all commands.
    Man {
        /// The folder for them. It is made if it is not there.
        folder: PathBuf,
    },
}

impl Command {
    /// Carries the command out.
    pub fn execute(self) -> Outcome {
        if !matches!(self, Self::Daemon(_) | Self::Serve(_) | Self::Function(_)) {
            // What the engine and nodes say beside their results, such as that they wait for somebody.
            logging::start(&LogSettings { level: Level::Warn, ..LogSettings::default() }, false);
        }
        match self {
            Self::Daemon(arguments) => daemon::daemon(&arguments),
            Self::Token(command) => token::token(command),
            Self::Audit(command) => audit::audit(command),
            Self::Run(arguments) => run::run(arguments),
            Self::Check(arguments) => check::check(arguments),
            Self::Test(arguments) => check::test(arguments),
            Self::New(arguments) => new::new(&arguments),
            Self::Graph(arguments) => check::graph(arguments),
            Self::Explain(arguments) => check::explain(arguments),
            Self::List => reference::list(),
            Self::Docs(arguments) => reference::docs(arguments),
            Self::Checkpoints(arguments) => checkpoints::checkpoints(arguments),
            Self::Replay(arguments) => replay::replay(&arguments),
            Self::Models(command) => models::models(command),
            Self::Flows(command) => remote::flows(command),
            Self::Top(arguments) => remote::top(&arguments),
            Self::DeadLetters(command) => remote::dead_letters(command),
            Self::Support(arguments) => remote::support(arguments),
            Self::Reload(arguments) => remote::reload(&arguments),
            Self::Operations(command) => remote::operations(command),
            Self::Predict(arguments) => predict::predict(arguments),
            Self::Serve(arguments) => serve::serve(&arguments),
            Self::Function(arguments) => function::function(&arguments),
            Self::Lsp => lsp::lsp(),
            Self::Device { device } => {
                say!("{}", device::find(device)?);
                Ok(Exit::Done)
            }
            Self::Completion { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Arguments::command(), "millstream", &mut script);
                say!("{}", String::from_utf8_lossy(&script).trim_end());
                Ok(Exit::Done)
            }
            Self::Man { folder } => {
                let written = std::fs::create_dir_all(&folder)
                    .and_then(|()| clap_mangen::generate_to(Arguments::command(), &folder));
                written.doing(|| format!("writing manual pages into `{}`", folder.display()))?;
                Ok(Exit::Done)
            }
        }
    }
}
