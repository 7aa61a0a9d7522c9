//! Columns through every node: forward from the inputs, then back to leave out what nobody uses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::{
    Canonical, FAILED, InputPlan, LeftOut, MAIN, OutputPlan, PlanContext, PortPlan, PortTime, Problem, Problems,
    ProcessorPlan, State, Stream, Uses, failed_schema, known_names, type_name,
};

use super::event_time::plan_time;
use super::wiring::{Wired, WiredPort, Wiring};
use super::{InputPort, NodeIndex, OutputPort, PlanOptions, PlannedTime};
use crate::file::{Body, Diagnostics, FlowFile, Node, Reference};

/// A node whose columns are known.
pub struct Draft {
    /// Its input ports.
    pub inputs: Vec<InputPort>,
    /// Its output ports; no edge has been laid yet.
    pub ports: Vec<OutputPort>,
    /// What is needed of each input port.
    pub uses: Vec<Uses>,
    /// The event time of an input.
    pub event_time: Option<PlannedTime>,
    /// Whether it, or an input behind it, does not end by itself.
    pub is_live: bool,
    /// The columns that it, or an input behind it, leaves out.
    pub left_out: Vec<LeftOut>,
    /// How to make it.
    pub plan: NodePlan,
}

/// What a node said when it was planned.
pub enum NodePlan {
    /// An input.
    Input(InputPlan),
    /// A processor.
    Processor(ProcessorPlan),
    /// An output.
    Output(OutputPlan),
}

/// How far the planning of a node has come.
enum Progress {
    Planned(Box<Draft>),
    Wrong,
    /// Something upstream is wrong, which has been said.
    Unchecked,
}

/// The columns that an input has to give; inputs that aren't named give all.
type Wanted = HashMap<String, BTreeSet<String>>;

/// Plans all nodes, in the order of the wiring.
pub fn plan_columns(
    file: &FlowFile,
    wiring: &Wiring<'_>,
    options: &PlanOptions<'_>,
) -> Result<Vec<Draft>, Diagnostics> {
    let drafts = forward(file, wiring, options, &Wanted::new())?;
    if !options.prune {
        return Ok(drafts);
    }
    let wanted = backward(wiring, &drafts);
    if wanted.is_empty() { Ok(drafts) } else { forward(file, wiring, options, &wanted) }
}

fn forward(
    file: &FlowFile,
    wiring: &Wiring<'_>,
    options: &PlanOptions<'_>,
    wanted: &Wanted,
) -> Result<Vec<Draft>, Diagnostics> {
    let mut diagnostics = Diagnostics::default();
    let mut states: BTreeMap<&str, Progress> = BTreeMap::new();
    for wired in &wiring.nodes {
        let name = wired.node.name.as_str();
        let state = match upstream_problem(wired, &states) {
            Some(upstream) => {
                diagnostics.extend(file.diagnose(name, own_problems(file, wired, options)));
                if let Upstream::Wrong(problem) = upstream {
                    diagnostics.extend(file.diagnose(name, problem.into()));
                }
                Progress::Unchecked
            }
            None => {
                let left_out = left_out(wired, &states);
                let planned = streams(wired, &states)
                    .and_then(|streams| plan_node(file, wired, streams, options, wanted.get(name)));
                match planned {
                    Ok(mut draft) => {
                        draft.left_out.extend(left_out);
                        Progress::Planned(Box::new(draft))
                    }
                    Err(problems) => {
                        let problems = problems.into_iter().map(|problem| problem.explained(&left_out)).collect();
                        diagnostics.extend(file.diagnose(name, problems));
                        Progress::Wrong
                    }
                }
            }
        };
        states.insert(name, state);
    }
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let take = |wired: &Wired<'_>| match states.remove(wired.node.name.as_str()) {
        Some(Progress::Planned(draft)) => Some(*draft),
        _ => None,
    };
    Ok(wiring.nodes.iter().filter_map(take).collect())
}

/// Why a node can't be checked.
enum Upstream {
    /// What it reads from is wrong itself.
    Wrong(Problem),
    /// What it reads from could not be checked.
    Unchecked,
}

/// What is wrong with a node whatever arrives at it.
fn own_problems(file: &FlowFile, wired: &Wired<'_>, options: &PlanOptions<'_>) -> Problems {
    match &wired.node.body {
        Body::Output { settings, .. } => {
            settings.check(&context(file, &wired.node.name, options)).err().unwrap_or_default()
        }
        Body::Input { .. } | Body::Processor { .. } => Problems::new(),
    }
}

fn upstream_problem(wired: &Wired<'_>, states: &BTreeMap<&str, Progress>) -> Option<Upstream> {
    let mut reads = wired.inputs.iter().flat_map(|port| &port.reads);
    reads.find_map(|reference| match states.get(reference.node.as_str()) {
        Some(Progress::Planned(_)) => None,
        Some(Progress::Unchecked) => Some(Upstream::Unchecked),
        // Nodes whose settings are wrong don't get here at all.
        Some(Progress::Wrong) | None => {
            Some(Upstream::Wrong(Problem::unchecked(&reference.node).at(reference.at.clone())))
        }
    })
}

/// The columns that the inputs behind a node leave out.
fn left_out(wired: &Wired<'_>, states: &BTreeMap<&str, Progress>) -> Vec<LeftOut> {
    let upstream = wired.inputs.iter().flat_map(|port| &port.reads).map(|read| states.get(read.node.as_str()));
    let of = |state: Option<&Progress>| match state {
        Some(Progress::Planned(draft)) => draft.left_out.clone(),
        _ => Vec::new(),
    };
    upstream.flat_map(of).collect()
}

/// What arrives at the ports of a node, all of whose upstream nodes have been planned.
fn streams(wired: &Wired<'_>, states: &BTreeMap<&str, Progress>) -> Result<Vec<Stream>, Problems> {
    let mut streams = Vec::with_capacity(wired.inputs.len());
    for port in &wired.inputs {
        let mut schemas = Vec::with_capacity(port.reads.len());
        let mut times = Vec::with_capacity(port.reads.len());
        let mut is_live = false;
        for reference in &port.reads {
            if let Some(Progress::Planned(draft)) = states.get(reference.node.as_str()) {
                let read = find_port(draft, reference)?;
                schemas.push(read.canonical.schema().clone());
                times.push(read.event_time.clone());
                is_live |= draft.is_live;
            }
        }
        let schema = union(port, &schemas)?;
        let event_time = times.iter().all(|time| *time == times[0]).then(|| times[0].clone()).flatten();
        let (port, node) = (port.name.clone(), port.reads[0].node.clone());
        streams.push(Stream { port, node, schema, event_time, is_live });
    }
    Ok(streams)
}

/// The output port that a reference means.
pub fn find_port<'d>(draft: &'d Draft, reference: &Reference) -> Result<&'d OutputPort, Problem> {
    let name = reference.port.as_deref().unwrap_or(MAIN);
    if let Some(port) = draft.ports.iter().find(|port| port.name == name) {
        return Ok(port);
    }
    let names = draft.ports.iter().map(|port| port.name.as_str());
    let at = reference.at.clone();
    Err(match &reference.port {
        Some(port) => Problem::new(format!("`{}` has no port `{port}`", reference.node)).help(known_names(port, names)),
        None => {
            let ports: Vec<_> = names.map(|name| format!("`{}.{name}`", reference.node)).collect();
            Problem::new(format!("`{}` has several ports and no main one", reference.node))
                .help(format!("choose one of {}", ports.join(", ")))
        }
    }
    .at(at))
}

/// The columns of several streams together: same names and types in order; nullable if it is in any, also within lists and
/// structs. Edges bring what they carry to these columns, so that the nodes behind see only them.
fn union(port: &WiredPort, schemas: &[SchemaRef]) -> Result<SchemaRef, Problem> {
    let first = &schemas[0];
    let mut fields: Vec<Field> = first.fields().iter().map(|field| field.as_ref().clone()).collect();
    for (schema, reference) in schemas.iter().zip(&port.reads).skip(1) {
        if let Some(difference) = difference(first, schema) {
            return Err(Problem::new(format!("`{reference}` can't be united with `{}`: {difference}", port.reads[0]))
                .help("streams in one `from` need the same columns and types in the same order; an `sql` node can bring them there")
                .at(reference.at.clone()));
        }
        for (field, other) in fields.iter_mut().zip(schema.fields()) {
            *field = united(field, other).unwrap_or_else(|| field.clone());
        }
    }
    match schemas.len() {
        1 => Ok(first.clone()),
        _ => Ok(Arc::new(Schema::new_with_metadata(fields, first.metadata().clone()))),
    }
}

/// A column that takes the values of both, if they are of one type.
fn united(one: &Field, other: &Field) -> Option<Field> {
    let data_type = match (one.data_type(), other.data_type()) {
        (DataType::List(one), DataType::List(other)) => DataType::List(Arc::new(united(one, other)?)),
        (DataType::Struct(one), DataType::Struct(other)) if one.len() == other.len() => {
            let fields = one.iter().zip(other).map(|(one, other)| united(one, other).map(Arc::new));
            DataType::Struct(fields.collect::<Option<_>>()?)
        }
        (one, other) => (one == other).then(|| one.clone())?,
    };
    let is_nullable = one.is_nullable() || other.is_nullable();
    (one.name() == other.name()).then(|| one.clone().with_data_type(data_type).with_nullable(is_nullable))
}

fn difference(first: &Schema, second: &Schema) -> Option<String> {
    for (a, b) in first.fields().iter().zip(second.fields()) {
        if a.name() != b.name() {
            return Some(format!("it has `{}` where the other has `{}`", b.name(), a.name()));
        }
        if united(a, b).is_none() {
            return Some(format!(
                "column `{}` is {} there and {} here",
                a.name(),
                type_name(a.data_type()),
                type_name(b.data_type())
            ));
        }
    }
    let (here, there) = (second.fields().len(), first.fields().len());
    (here != there).then(|| format!("it has {here} columns and the other {there}"))
}

fn plan_node(
    file: &FlowFile,
    wired: &Wired<'_>,
    streams: Vec<Stream>,
    options: &PlanOptions<'_>,
    wanted: Option<&BTreeSet<String>>,
) -> Result<Draft, Problems> {
    let mut context = context(file, &wired.node.name, options);
    let kind = options.registry.find(wired.node.role(), wired.node.kind);
    context.kept = kind.map(|kind| options.kept.of(wired.node, kind)).unwrap_or_default();
    let mut event_time = None;
    let (plan, ports, uses, fails) = match &wired.node.body {
        Body::Input { common, settings } => {
            context.batch_rows = common.batch_rows;
            context.columns = wanted.cloned();
            let plan = settings.plan(&context)?;
            let mut ports = plan.ports.clone();
            if let Some(settings) = &common.event_time {
                let explained = |problem: Problem| problem.explained(&plan.left_out);
                let time = plan_time(settings, &plan, options.registry)
                    .map_err(|problems| problems.into_iter().map(explained).collect::<Problems>())?;
                for (port, column) in ports.iter_mut().zip(&time.columns) {
                    port.schema = column.schema(&port.schema);
                    port.event_time = PortTime::Column(port.schema.field(column.index).name().clone());
                }
                event_time = Some(time);
            }
            (NodePlan::Input(plan), ports, Vec::new(), true)
        }
        Body::Processor { settings, .. } => {
            let plan = settings.plan(&context, &streams)?;
            let (ports, uses, fails) = (plan.ports.clone(), plan.uses.clone(), plan.fails);
            (NodePlan::Processor(plan), ports, uses, fails)
        }
        Body::Output { settings, .. } => {
            let plan = settings.plan(&context, &streams[0])?;
            let (uses, fails) = (vec![plan.uses.clone()], plan.fails);
            (NodePlan::Output(plan), Vec::new(), uses, fails)
        }
    };
    let ports = output_ports(ports, fails, streams.first().and_then(|stream| stream.event_time.as_deref()))?;
    let is_live = match &plan {
        NodePlan::Input(plan) => !plan.finite,
        NodePlan::Processor(_) | NodePlan::Output(_) => streams.iter().any(|stream| stream.is_live),
    };
    let left_out = match &plan {
        NodePlan::Input(plan) => plan.left_out.clone(),
        NodePlan::Processor(_) | NodePlan::Output(_) => Vec::new(),
    };
    let roles = wired.inputs.iter().map(|port| port.role);
    let inputs = streams.into_iter().zip(roles);
    let inputs = inputs.map(|(stream, role)| InputPort { name: stream.port, role, schema: stream.schema });
    Ok(Draft { inputs: inputs.collect(), ports, uses, event_time, is_live, left_out, plan })
}

/// Where a node stands.
pub fn context(file: &FlowFile, node: &str, options: &PlanOptions<'_>) -> PlanContext {
    let written = file.node(node);
    let role = written.map(Node::role);
    PlanContext {
        flow: file.flow.name.clone(),
        node: node.to_owned(),
        renamed_from: written.and_then(Node::renamed_from).map(str::to_owned),
        flow_folder: file.folder().to_owned(),
        work_folder: options.work_folder.clone(),
        registry: file.flow.registry.clone(),
        batch_rows: 8192,
        columns: None,
        scripted: options.scripted,
        kept: State::default(),
        locked: role.map(|role| file.lock.of(role, node)).unwrap_or_default(),
        files: file.files.clone(),
        expressions: options.registry.planner(),
    }
}

fn output_ports(ports: Vec<PortPlan>, fails: bool, inherited: Option<&str>) -> Result<Vec<OutputPort>, Problem> {
    let failed = fails.then(|| PortPlan::new(FAILED, failed_schema()).with_event_time(PortTime::None));
    let port = |port: PortPlan| {
        let canonical = Canonical::new(&port.schema)
            .map_err(|message| Problem::new(message).help("an `sql` node can cast it, or leave it out"))?;
        let is_recomputed = port.event_time == PortTime::Recomputed;
        let event_time = match port.event_time {
            PortTime::Column(name) => Some(name),
            PortTime::Inherited | PortTime::Recomputed => inherited.map(str::to_owned),
            PortTime::None => None,
        };
        let is_time = |name: &String| {
            canonical
                .schema()
                .field_with_name(name)
                .is_ok_and(|field| matches!(field.data_type(), DataType::Timestamp(_, _)))
        };
        let event_time = event_time.filter(is_time);
        let PortPlan { name, role, only_at_the_end, .. } = port;
        let has_other_time = is_recomputed && event_time.is_some();
        Ok(OutputPort { name, canonical, event_time, has_other_time, role, only_at_the_end, edges: Vec::new() })
    };
    ports.into_iter().chain(failed).map(port).collect()
}

/// The columns that each input has to give, where the flow doesn't use all.
fn backward(wiring: &Wiring<'_>, drafts: &[Draft]) -> Wanted {
    let indices: HashMap<&str, NodeIndex> =
        wiring.nodes.iter().enumerate().map(|(index, wired)| (wired.node.name.as_str(), index)).collect();
    let mut needed: Vec<BTreeSet<String>> = vec![BTreeSet::new(); drafts.len()];
    let mut wanted = Wanted::new();
    for (index, wired) in wiring.nodes.iter().enumerate().rev() {
        if let NodePlan::Input(plan) = &drafts[index].plan {
            if plan.ports.len() > 1 {
                continue;
            }
            let mut used = std::mem::take(&mut needed[index]);
            used.extend(drafts[index].ports[0].event_time.clone());
            let mut all = drafts[index].ports[0].canonical.schema();
            let time = drafts[index].event_time.as_ref();
            if let Some(derived) = time.and_then(|time| time.columns[0].derived.as_ref()) {
                used.remove(derived.name());
                used.extend(derived.expression.columns().iter().cloned());
                all = derived.input.schema();
            }
            // Rows without any column would lose their number in some formats: one column always stays.
            if used.len() < all.fields().len() {
                let first = all.fields().iter().take(usize::from(used.is_empty())).map(|field| field.name().clone());
                wanted.insert(wired.node.name.clone(), used.iter().cloned().chain(first).collect());
            }
            continue;
        }
        for (port, uses) in wired.inputs.iter().zip(&drafts[index].uses) {
            // United streams must stay equal, whatever else reads each of them.
            let all = Uses::all();
            let uses = if port.reads.len() > 1 { &all } else { uses };
            for reference in &port.reads {
                let Some(&upstream) = indices.get(reference.node.as_str()) else { continue };
                let Ok(read) = find_port(&drafts[upstream], reference) else { continue };
                let columns = used_columns(uses, &needed[index], read.canonical.schema());
                needed[upstream].extend(columns);
            }
        }
    }
    wanted
}

/// The columns of `schema` that a node uses, or that it passes on to those who need them.
fn used_columns(uses: &Uses, needed_behind: &BTreeSet<String>, schema: &Schema) -> Vec<String> {
    let is_used = |name: &String| match &uses.columns {
        None => true,
        Some(columns) => columns.contains(name) || (uses.passes_on && needed_behind.contains(name)),
    };
    schema.fields().iter().map(|field| field.name()).filter(|name| is_used(name)).cloned().collect()
}
