//! The command line: every subcommand and its arguments.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use millstream_core::Error;
use millstream_engine::file::Diagnostics;
use millstream_models::device::{self, DeviceSettings};

use crate::state::StateArguments;
use crate::terminal::say;
use crate::{check, checkpoints, flow_files, models, new, predict, reference, replay, run};

/// Streams of Arrow batches through flows that end in models that learn online.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
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
    Run(RunArguments),
    /// Check flows without running them: all that is wrong, each at its place. With `--state`, also whether they can be resumed
    /// from what is kept there.
    Check(CheckArguments),
    /// Run the tests that flows carry.
    Test(FlowsArguments),
    /// Write a flow to begin with: from a template, or from a look at a data file.
    New(new::NewArguments),
    /// Draw a flow.
    Graph(GraphArguments),
    /// Say what a flow promises: columns, order, deliveries, limits.
    Explain(FlowArguments),
    /// List the types of nodes, and the formats.
    List,
    /// Show the reference page of a type of node or a format, or of all.
    Docs(DocsArguments),
    /// List what is kept of the flows that were run with `--state`.
    Checkpoints(checkpoints::CheckpointsArguments),
    /// Train a version of a model again, from the same rows in the same order, and say whether it comes out as the same bits.
    Replay(replay::ReplayArguments),
    /// Show and name the versions of models.
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Predict the rows that come as JSON lines on standard input, with a model of the registry.
    Predict(predict::PredictArguments),
    /// Say what a network with `device = "…"` would compute on here: `cpu`, or a CUDA device that works.
    Device {
        /// `auto`, `cpu`, or `cuda:0` for the first CUDA device.
        #[arg(default_value_t)]
        device: DeviceSettings,
    },
    /// Print a script that completes this command in a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Flow files and changes to them.
#[derive(Clone, Debug, Args)]
pub struct FlowsArguments {
    /// Flow files, folders of them, or patterns such as `'flows/*.toml'`.
    #[arg(required = true, value_name = "FLOW")]
    pub flows: Vec<PathBuf>,
    /// Change a setting: `input.payments.path=other.csv`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
}

impl FlowsArguments {
    /// The flow files.
    pub fn files(&self) -> Result<Vec<PathBuf>, CommandError> {
        flow_files::find(&self.flows)
    }
}

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

/// A flow file and changes to it.
#[derive(Clone, Debug, Args)]
pub struct FlowArguments {
    /// The flow file.
    #[arg(value_name = "FLOW")]
    pub flow: PathBuf,
    /// Change a setting: `input.payments.path=other.csv`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
}

/// What `run` takes.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// The flows.
    #[command(flatten)]
    pub flows: FlowsArguments,
    /// What is kept of the flows.
    #[command(flatten)]
    pub state: StateArguments,
    /// How many threads the nodes share. Default: one a core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Print one line of JSON a flow instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Print the first rows that leave a node (`NODE` or `NODE.PORT`).
    #[arg(long, value_name = "NODE")]
    pub show: Vec<String>,
    /// How many rows `--show` prints of each node.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub show_rows: u64,
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

/// What `docs` takes.
#[derive(Clone, Debug, Args)]
pub struct DocsArguments {
    /// The type of node, such as `sql`, or the format, such as `csv`. Without it, one line each.
    pub node: Option<String>,
    /// Only nodes of this role.
    #[arg(long, value_enum)]
    pub role: Option<reference::RoleArgument>,
    /// Print the pages of all nodes, as Markdown.
    #[arg(long, conflicts_with = "node")]
    pub all: bool,
    /// Print the page of the tables `[flow]` and `[checkpoint]`, as Markdown.
    #[arg(long, conflicts_with_all = ["node", "all"])]
    pub flow: bool,
    /// Print the page of the formats, as Markdown.
    #[arg(long, conflicts_with_all = ["node", "all", "flow"])]
    pub formats: bool,
    /// Print the JSON schema of flow files, for editors.
    #[arg(long, conflicts_with_all = ["node", "all", "flow", "formats"])]
    pub schema: bool,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done,
    /// A flow or a test failed.
    Failed,
    /// Wrong usage, or a flow that does not check.
    Usage,
    /// A flow was stopped before its inputs had ended.
    Unfinished,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unfinished => 3,
        })
    }
}

/// Why a command could not do what it was told.
#[derive(Debug)]
pub enum CommandError {
    /// Something failed on the way.
    Failed(Error),
    /// Flows that don't check.
    Flow(Diagnostics),
    /// The command line is wrong.
    Usage(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "error: {error}"),
            Self::Flow(diagnostics) => f.write_str(diagnostics.to_string().trim_end()),
            Self::Usage(message) => write!(f, "error: {message}"),
        }
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Diagnostics> for CommandError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Flow(diagnostics)
    }
}

impl From<&CommandError> for Exit {
    fn from(error: &CommandError) -> Self {
        match error {
            CommandError::Failed(_) => Self::Failed,
            CommandError::Flow(_) | CommandError::Usage(_) => Self::Usage,
        }
    }
}

/// What a command ends with.
pub type Outcome = Result<Exit, CommandError>;

impl Command {
    /// Does it.
    pub fn execute(self) -> Outcome {
        match self {
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
            Self::Predict(arguments) => predict::predict(arguments),
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
        }
    }
}
