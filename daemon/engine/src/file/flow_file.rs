//! A whole flow file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::{FilesRead, NodeTypes, Problem, Problems, Role, Step, parse_settings};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::connections::{CONNECTION, include, lend};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::Document;
use super::interpolate::{Environment, interpolate};
use super::lock::Lock;
use super::names::{NAME_HELP, check_flow_is_whole, check_names, is_name, nodes};
use super::node::{Node, build};
use super::parse::parse;
use super::reference::check_references;
use super::schema::file_schema;
use super::secrets::Secrets;
use super::set::set;
use super::settings::{CheckpointSettings, FlowSettings, LimitSettings};
use super::source::Source;
use super::tests_table::{FlowTest, TEST, check_tests, read};
use super::value::{Entry, Value};
use super::vault::Vault;
use super::walk::walk;

/// The version of the flow language that this program reads.
const LANGUAGE: u32 = 1;

/// A flow file, its settings checked and built. References to nodes are checked too, those to ports are not.
#[derive(Debug)]
pub struct FlowFile {
    /// The file as it was named.
    pub path: PathBuf,
    /// What `[flow]` says; the name is always set.
    pub flow: FlowSettings,
    /// What `[checkpoint]` says.
    pub checkpoint: CheckpointSettings,
    /// What `[limits]` says.
    pub limits: LimitSettings,
    /// The nodes, in file order.
    pub nodes: Vec<Node>,
    /// The names of nodes that are in the file but too wrong to be in `nodes`. Empty after [`FlowFile::load`].
    pub broken: Vec<String>,
    /// The tests that the file carries.
    pub tests: Vec<FlowTest>,
    /// What may not be meant, such as a password in the file itself.
    pub warnings: Vec<String>,
    /// What sources elsewhere have said of columns that settings leave out.
    pub lock: Lock,
    /// What was read besides the file itself; planning it adds what nodes read.
    pub files: FilesRead,
    document: Document,
}

/// What a flow file is read with, besides its text.
#[derive(Clone)]
pub struct LoadOptions<'a> {
    /// The types of nodes that there are.
    pub registry: &'a NodeTypes,
    /// `--set PATH=VALUE`s, without the `--set`.
    pub sets: &'a [String],
    /// The environment that `${NAME}` is looked up in.
    pub environment: Environment<'a>,
    /// Whether the lock file beside the flow is read. Whoever writes it anew does without.
    pub reads_lock: bool,
    /// Notes the files that are read besides the flow file, whatever comes of it.
    pub files: FilesRead,
    /// Is told what is not to be said, before anything is.
    pub keep: &'a dyn Fn(&Secrets),
}

impl<'a> LoadOptions<'a> {
    /// With the environment of this process, and no `--set`.
    pub fn new(registry: &'a NodeTypes) -> Self {
        Self {
            registry,
            sets: &[],
            environment: &|name| std::env::var(name).ok(),
            reads_lock: true,
            files: FilesRead::default(),
            keep: &|_| {},
        }
    }
}

impl FlowFile {
    /// Reads and checks a file. The error has everything that is wrong with it.
    pub fn load(path: &Path, options: LoadOptions<'_>) -> Result<Self, Diagnostics> {
        Self::read(path, &read_text(path)?, options)
    }

    /// Checks the text of a file. The error has everything that is wrong with it.
    pub fn read(path: &Path, text: &str, options: LoadOptions<'_>) -> Result<Self, Diagnostics> {
        match Self::check(path, text, options) {
            (Some(file), diagnostics) if diagnostics.is_empty() => Ok(file),
            (_, diagnostics) => Err(diagnostics),
        }
    }

    /// Reads what can be read of a text, and says what is wrong with the rest. Nodes that are wrong are left out of
    /// `nodes` and named in `broken`, so that the others can still be planned and all problems be shown at once.
    /// `None` if the text is no TOML.
    pub fn check(path: &Path, text: &str, options: LoadOptions<'_>) -> (Option<Self>, Diagnostics) {
        let (source, mut root, mut diagnostics) = match open(path, text, &options) {
            Ok(opened) => opened,
            Err(diagnostics) => return (None, diagnostics),
        };
        let mut vault = Vault::new(options.environment, folder_of(path), &options.files);
        let mut problems = check_tree(&mut root, options.registry, &mut vault);
        let secrets = Arc::new(Secrets::of(&root));
        (options.keep)(&secrets);
        let document = Document { source, root, secrets };
        let flow = flow_settings(&document.root, path, &mut problems);
        let checkpoint: CheckpointSettings = table_settings(&document.root, CHECKPOINT, &mut problems);
        problems.extend(checkpoint.how_often().err().map(|problem| problem.under(CHECKPOINT)));
        let limits = table_settings(&document.root, LIMITS, &mut problems);
        let (nodes, broken) = build_nodes(&document.root, options.registry, &mut problems);
        let tests = read_tests(&document.root, &problems);
        let mut warnings: Vec<_> = vault.notes.iter().map(|note| document.note(note)).collect();
        warnings.sort();
        warnings.dedup();
        diagnostics.extend(problems.into_iter().map(|problem| document.diagnose(problem)));
        let lock = if options.reads_lock { Lock::read(path, &options.files) } else { Ok(Lock::beside(path)) };
        let lock = lock.unwrap_or_else(|wrong| {
            diagnostics.extend([*wrong]);
            Lock::beside(path)
        });
        let (path, files) = (path.to_owned(), options.files);
        let file = Self { path, flow, checkpoint, limits, nodes, broken, tests, warnings, lock, files, document };
        (Some(file), diagnostics)
    }

    /// The folder of the file, which paths of inputs are relative to.
    pub fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    /// The variables in the flow, whose values are not to be read anywhere.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.document.secrets
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Puts the problems of a node at their places in the file.
    pub fn diagnose(&self, node: &str, problems: Problems) -> Diagnostics {
        let has = |role: &Role| self.document.root.get(role.name()).is_some_and(|table| table.entry(node).is_some());
        let role = Role::ALL.into_iter().find(has);
        let place = |problem: Problem| match role {
            Some(role) => problem.under(node).under(role.name()),
            None => problem,
        };
        problems.into_iter().map(|problem| self.document.diagnose(place(problem))).collect()
    }

    /// Puts the problems of a test at their places in the file.
    pub fn diagnose_test(&self, test: &FlowTest, problems: Problems) -> Diagnostics {
        let place = |problem: Problem| problem.under(test.index).under(TEST);
        problems.into_iter().map(|problem| self.document.diagnose(place(problem))).collect()
    }

    /// Puts the problems of the flow as a whole at their places in `[flow]`.
    pub fn diagnose_flow(&self, problems: Problems) -> Diagnostics {
        problems.into_iter().map(|problem| self.document.diagnose(problem.under(FLOW))).collect()
    }
}

const FLOW: &str = "flow";
const CHECKPOINT: &str = "checkpoint";
const LIMITS: &str = "limits";

/// The text of a flow file.
pub(crate) fn read_text(path: &Path) -> Result<String, Diagnostics> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("the flow file can't be read: {error}");
        Diagnostic { path: path.display().to_string(), place: None, message, help: None, follows: false }.into()
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The tree as it is after `--set`, connections that are shared, and the environment, and what went wrong with these.
fn open(path: &Path, text: &str, options: &LoadOptions<'_>) -> Result<(Source, Value, Diagnostics), Diagnostics> {
    let mut source = Source::new(path.display().to_string(), text.to_owned());
    let mut root = parse(text).map_err(|errors| -> Diagnostics {
        let diagnostic = |error: super::parse::SyntaxError| source.diagnostic(&error.span, error.message, error.help);
        errors.into_iter().map(diagnostic).collect()
    })?;
    // Which file of connections it is may be changed, and then the connections in it.
    let is_of_connection = |set: &&String| set.trim_start().starts_with(CONNECTION);
    let (later, sooner): (Vec<_>, Vec<_>) = options.sets.iter().partition(is_of_connection);
    let mut diagnostics = Diagnostics::default();
    let set_all = |sets: Vec<&String>, root: &mut Value, source: &mut Source| -> Vec<Diagnostic> {
        sets.into_iter().filter_map(|one| set(root, one, source).err()).map(|wrong| *wrong).collect()
    };
    diagnostics.extend(set_all(sooner, &mut root, &mut source));
    diagnostics.extend(include(&mut root, &mut source, folder_of(path), options));
    diagnostics.extend(set_all(later, &mut root, &mut source));
    diagnostics.extend(interpolate(&mut root, options.environment, &source));
    Ok((source, root, diagnostics))
}

/// Brings settings and secrets to where they are used, and says what is wrong with the tree.
fn check_tree(root: &mut Value, registry: &NodeTypes, vault: &mut Vault<'_>) -> Problems {
    let schema = file_schema(root, registry);
    let mut problems = lend(root, registry, &schema, vault);
    let walked = walk(root, &schema);
    let missing = vault.fill(root, &walked);
    problems.extend(walked.problems.into_iter().chain(missing));
    let nodes = nodes(root);
    // Where a table is misspelt, its nodes are not missing as well.
    if problems.iter().all(|problem| problem.at.len() > 1) {
        problems.extend(check_flow_is_whole(&nodes));
    }
    problems.extend(check_names(&nodes));
    problems.extend(check_references(&nodes, registry));
    problems.extend(check_tests(root, &nodes));
    problems
}

/// What `[flow]` says; the defaults where it is wrong.
fn flow_settings(root: &Value, path: &Path, problems: &mut Problems) -> FlowSettings {
    let mut flow: FlowSettings = table_settings(root, FLOW, problems);
    flow.name = flow_name(root, path, problems);
    if flow.language != LANGUAGE {
        let problem = Problem::new(format!("there is no version {} of the flow language", flow.language));
        problems.push(problem.help(format!("this program reads version {LANGUAGE}")).at([FLOW, "language"]));
    }
    flow
}

/// What a table at the top says; the defaults where it is wrong.
fn table_settings<T: DeserializeOwned + Default>(root: &Value, name: &str, problems: &mut Problems) -> T {
    let table = root.get(name).filter(|table| table.is_known() && !has_problem(problems, &[name]));
    let Some(table) = table else { return T::default() };
    parse_settings(Json::Object(table.to_json_table())).unwrap_or_else(|problem: Problem| {
        problems.push(problem.under(name));
        T::default()
    })
}

/// The name in `[flow]`, or the file's.
fn flow_name(root: &Value, path: &Path, problems: &mut Problems) -> String {
    let written = root.get(FLOW).and_then(|table| table.get("name"));
    if let Some(name) = written.and_then(Value::as_str) {
        if !is_name(name) {
            problems
                .push(Problem::new(format!("`{name}` is not a name for a flow")).help(NAME_HELP).at([FLOW, "name"]));
        }
        return name.to_owned();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if written.is_none() && !is_name(&stem) {
        let problem = Problem::new(format!("the file's name `{stem}` is not a name for a flow"));
        problems.push(problem.help("set `name` in `[flow]`"));
    }
    stem.into_owned()
}

/// The nodes that nothing is wrong with, and the names of the others.
fn build_nodes(root: &Value, registry: &NodeTypes, problems: &mut Problems) -> (Vec<Node>, Vec<String>) {
    let (mut built, mut broken) = (Vec::new(), Vec::new());
    for (role, entry) in nodes(root) {
        match build_node(role, entry, registry, problems) {
            Some(node) => built.push(node),
            None => broken.push(entry.key.clone()),
        }
    }
    (built, broken)
}

fn build_node(role: Role, entry: &Entry, registry: &NodeTypes, problems: &mut Problems) -> Option<Node> {
    if has_problem(problems, &[role.name(), &entry.key]) || !entry.value.is_known() {
        return None;
    }
    let kind = registry.find(role, entry.value.get("type")?.as_str()?)?;
    let placed = |problem: Problem| problems.push(problem.under(entry.key.as_str()).under(role.name()));
    build(kind, entry).map_err(placed).ok()
}

fn read_tests(root: &Value, problems: &Problems) -> Vec<FlowTest> {
    let wrong = |index: usize| {
        let place = [Step::from(TEST), Step::from(index)];
        problems.iter().any(|problem| problem.at.starts_with(&place))
    };
    let tests = root.get(TEST).map_or(&[][..], Value::items).iter().enumerate();
    tests.filter(|(index, table)| table.is_known() && !wrong(*index)).map(|(index, table)| read(index, table)).collect()
}

/// Whether something is wrong at a place or below it.
pub fn has_problem(problems: &Problems, place: &[&str]) -> bool {
    let same = |(step, key): (&Step, &&str)| matches!(step, Step::Key(name) | Step::Name(name) if name == key);
    problems.iter().any(|problem| problem.at.len() >= place.len() && problem.at.iter().zip(place).all(same))
}
