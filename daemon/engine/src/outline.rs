//! A plan as something to send, keep and compare: its nodes, their columns, and the edges between them.

use arrow::datatypes::Schema;
use millstream_core::type_name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::file::{OnError, Secrets};
use crate::graph::is_shown;
use crate::plan::{Plan, PlannedBody, PlannedEdge, PlannedNode};

/// What there is to see of a flow. No setting is in it, and so no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outline {
    /// The flow.
    pub flow: String,
    /// What it is for.
    pub description: Option<String>,
    /// Whether all its inputs end by themselves.
    pub finite: bool,
    /// Its nodes; each comes behind those that it reads from.
    pub nodes: Vec<OutlineNode>,
    /// Its edges.
    pub edges: Vec<OutlineEdge>,
    /// What may not be meant.
    pub warnings: Vec<String>,
}

/// A node of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutlineNode {
    /// Its name.
    pub name: String,
    /// `input`, `processor` or `output`.
    pub role: String,
    /// What `type` says.
    #[serde(rename = "type")]
    pub kind: String,
    /// The streams that arrive, by the setting that names them.
    pub inputs: Vec<OutlinePort>,
    /// The streams that leave.
    pub ports: Vec<OutlinePort>,
    /// Where rows that it has committed are, if it is an output with a place.
    pub place: Option<String>,
    /// The folder of the rows that it has refused, if they are kept.
    pub dead_letters: Option<String>,
}

/// A stream at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutlinePort {
    /// Its name.
    pub name: String,
    /// The columns, in their order.
    pub columns: Vec<OutlineColumn>,
}

/// A column of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutlineColumn {
    /// Its name.
    pub name: String,
    /// Its type, as settings name it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether values may be missing.
    pub nullable: bool,
}

/// An edge between two nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutlineEdge {
    /// What it is called by: `FROM.PORT>TO`. Several may lead from one port to one node; what waits on them is counted together.
    pub id: String,
    /// The node that it leads from.
    pub from: String,
    /// That node's port.
    pub port: String,
    /// The node that it leads to.
    pub to: String,
    /// That node's input.
    pub input: String,
}

impl Plan {
    /// What there is to see of the flow. Nodes that the engine has added are left out, and so are their edges.
    pub fn outline(&self) -> Outline {
        let nodes = self.nodes.iter().filter(|node| !node.hidden);
        Outline {
            flow: self.flow.clone(),
            description: self.description.clone(),
            finite: self.is_finite(),
            nodes: nodes.map(|node| outline_node(node, &self.secrets)).collect(),
            edges: self.edges.iter().filter(|edge| self.is_visible(edge)).map(|edge| self.outline_edge(edge)).collect(),
            warnings: self.warnings.clone(),
        }
    }

    fn is_visible(&self, edge: &PlannedEdge) -> bool {
        !self.nodes[edge.from.0].hidden && !self.nodes[edge.to.0].hidden
    }

    fn outline_edge(&self, edge: &PlannedEdge) -> OutlineEdge {
        let (from, to) = (&self.nodes[edge.from.0], &self.nodes[edge.to.0]);
        let (port, input) = (&from.ports[edge.from.1].name, &to.inputs[edge.to.1].name);
        OutlineEdge {
            id: format!("{}.{port}>{}", from.name, to.name),
            from: from.name.clone(),
            port: port.clone(),
            to: to.name.clone(),
            input: input.clone(),
        }
    }
}

impl Outline {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&OutlineNode> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

fn outline_node(node: &PlannedNode, secrets: &Secrets) -> OutlineNode {
    let arriving = node.inputs.iter().map(|port| outline_port(&port.name, &port.schema));
    let leaving = node.ports.iter().filter(|port| is_shown(port));
    let place = match &node.body {
        PlannedBody::Output { place, .. } => place.as_ref().map(|place| secrets.hide(place).into_owned()),
        PlannedBody::Input { .. } | PlannedBody::Processor { .. } => None,
    };
    OutlineNode {
        name: node.name.clone(),
        role: node.role().name().to_owned(),
        kind: node.kind.to_owned(),
        inputs: arriving.collect(),
        ports: leaving.map(|port| outline_port(&port.name, port.canonical.schema())).collect(),
        place,
        dead_letters: match &node.on_error {
            OnError::DeadLetter(folder) => Some(folder.clone()),
            OnError::Fail | OnError::Drop => None,
        },
    }
}

fn outline_port(name: &str, schema: &Schema) -> OutlinePort {
    let columns = schema.fields().iter().map(|field| OutlineColumn {
        name: field.name().clone(),
        kind: type_name(field.data_type()).into_owned(),
        nullable: field.is_nullable(),
    });
    OutlinePort { name: name.to_owned(), columns: columns.collect() }
}
