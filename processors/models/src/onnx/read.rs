//! ONNX files of others: what goes in, and what comes out.

use millstream_core::{Error, Result, ResultExt as _, known_names};
use prost::Message as _;

use super::proto::{ElementType, GraphProto, Length, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use super::wire;
use crate::label::{Class, Label};

/// The numbers of fields: the graph of a model, and nodes and outputs of a graph.
const GRAPH: u64 = 7;
const NODES: u64 = 1;
const OUTPUTS: u64 = 12;

/// The property that says the label of a model of ours.
const LABEL: &str = "millstream.label";

/// The most columns that all inputs may have together.
const MOST_COLUMNS: usize = 1 << 16;

/// A file, as it is run.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// The file, whose outputs are all tensors.
    pub bytes: Vec<u8>,
    pub inputs: Vec<Tensor>,
    /// The tensors of numbers that come out: of predictions, probabilities or scores.
    pub outputs: Vec<Tensor>,
    /// The name of the output with the classes that are predicted, if there is one, and what its elements are.
    pub label: Option<(String, ElementType)>,
    /// The classes, as far as the file says them.
    pub classes: Vec<Class>,
    /// The label of a model of ours.
    pub own_label: Option<Label>,
}

/// An input or output: a number, or a row of them, for each row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub name: String,
    pub element: ElementType,
    /// Whether it is a vector, and no matrix.
    pub is_vector: bool,
    /// How many columns it has, as far as that is known.
    pub columns: Option<usize>,
}

impl Foreign {
    /// Reads a file. Nothing in it makes this panic, or take more memory than a few times the file.
    ///
    /// # Errors
    /// If it is no ONNX file, or one whose inputs aren't one row each.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let file = ModelProto::decode(bytes).doing(|| "reading it as an ONNX file")?;
        let graph = file.graph.as_ref().ok_or_else(|| Error::new("it is no ONNX file: it has no graph"))?;
        let maps: Vec<&NodeProto> = graph.node.iter().filter(|node| is_map(node, graph)).collect();
        let is_constant = |input: &&ValueInfoProto| graph.initializer.iter().any(|tensor| tensor.name == input.name);
        let inputs = graph.input.iter().filter(|input| !is_constant(input)).map(input).collect::<Result<Vec<_>>>()?;
        if inputs.iter().map(|input| input.columns.unwrap_or(1)).fold(0, usize::saturating_add) > MOST_COLUMNS {
            return Err(Error::new(format!("its inputs have more than {MOST_COLUMNS} columns")));
        }
        let own_label = file.metadata_props.iter().find(|property| property.key == LABEL);
        let mut foreign = Self {
            bytes: without_maps(bytes, &maps)?,
            inputs,
            outputs: Vec::new(),
            label: None,
            classes: classes(graph),
            own_label: own_label.and_then(|property| serde_json::from_str(&property.value).ok()),
        };
        for output in &graph.output {
            foreign.add_output(output, &maps);
        }
        Ok(foreign)
    }

    fn add_output(&mut self, output: &ValueInfoProto, maps: &[&NodeProto]) {
        if let Some(map) = maps.iter().find(|map| map.output.contains(&output.name)) {
            let name = map.input[0].clone();
            self.outputs.push(Tensor { name, element: ElementType::Float, is_vector: false, columns: None });
            return;
        }
        let Some(tensor) = tensor(output) else { return };
        match tensor.element {
            ElementType::Float | ElementType::Double => self.outputs.push(tensor),
            ElementType::Int64 | ElementType::Int32 | ElementType::String | ElementType::Bool
                if self.label.is_none() =>
            {
                self.label = Some((tensor.name, tensor.element));
            }
            _ => {}
        }
    }

    /// The output of that name, or the only one.
    ///
    /// # Errors
    /// If there is no such output, or no name is given and there are several.
    pub fn output(&self, name: Option<&str>) -> Result<&Tensor> {
        let names = || self.outputs.iter().map(|output| output.name.as_str());
        if let Some(name) = name {
            let found = self.outputs.iter().find(|output| output.name == name);
            return found.ok_or_else(|| {
                Error::new(format!("it has no output of numbers `{name}`; {}", known_names(name, names())))
            });
        }
        match &self.outputs[..] {
            [only] => Ok(only),
            [] => Err(Error::new("none of its outputs are numbers: predictions, or what speaks for each class")),
            _ => {
                let names = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                Err(Error::new(format!("it has several outputs of numbers; say which one is the prediction: {names}")))
            }
        }
    }
}

/// Whether a node makes maps of probabilities, which are an output.
fn is_map(node: &NodeProto, graph: &GraphProto) -> bool {
    let is_output = |name: &String| graph.output.iter().any(|output| output.name == *name);
    node.op_type == "ZipMap" && node.input.len() == 1 && node.output.len() == 1 && node.output.iter().all(is_output)
}

/// The file with the tensors that maps are made of as outputs, in the place of the maps: they would be made for each row, only to be
/// taken apart again. All else stays as it is, also what isn't known here.
fn without_maps(bytes: &[u8], maps: &[&NodeProto]) -> Result<Vec<u8>> {
    if maps.is_empty() {
        return Ok(bytes.to_vec());
    }
    let mut changed = Vec::with_capacity(bytes.len());
    for field in wire::fields(bytes)? {
        match field.content {
            Some(graph) if field.number == GRAPH => wire::put(GRAPH, &graph_without(graph, maps)?, &mut changed),
            _ => changed.extend_from_slice(field.whole),
        }
    }
    Ok(changed)
}

fn graph_without(graph: &[u8], maps: &[&NodeProto]) -> Result<Vec<u8>> {
    let mut changed = Vec::with_capacity(graph.len());
    let reading = || "reading it as an ONNX file";
    for field in wire::fields(graph)? {
        let content = field.content.unwrap_or_default();
        if field.number == NODES && maps.contains(&&NodeProto::decode(content).doing(reading)?) {
            continue;
        }
        if field.number == OUTPUTS {
            let output = ValueInfoProto::decode(content).doing(reading)?;
            if let Some(map) = maps.iter().find(|map| map.output.contains(&output.name)) {
                let matrix = super::graph::value_info(&map.input[0], ElementType::Float, &[None, None]);
                wire::put(OUTPUTS, &matrix.encode_to_vec(), &mut changed);
                continue;
            }
        }
        changed.extend_from_slice(field.whole);
    }
    Ok(changed)
}

/// An input: of any number of rows, each of one value, or of so many.
fn input(info: &ValueInfoProto) -> Result<Tensor> {
    let name = &info.name;
    let found = tensor(info).ok_or_else(|| {
        Error::new(format!(
            "its input `{name}` is neither a vector nor a matrix with a row for each row, however many there are"
        ))
    })?;
    if matches!(found.element, ElementType::Undefined | ElementType::Float16) {
        return Err(Error::new(format!("its input `{name}` is of a type that is not known here")));
    }
    match (found.columns, found.is_vector) {
        (None, false) => Err(Error::new(format!("it is not said how many columns its input `{name}` has"))),
        _ => Ok(found),
    }
}

/// What is known of a tensor whose first side is as long as there are rows; none if it is something else.
fn tensor(info: &ValueInfoProto) -> Option<Tensor> {
    let tensor = info.r#type.as_ref()?.tensor_type.as_ref()?;
    let element = ElementType::try_from(tensor.elem_type).unwrap_or(ElementType::Undefined);
    let Some(shape) = &tensor.shape else {
        return Some(Tensor { name: info.name.clone(), element, is_vector: false, columns: None });
    };
    let is_known = |length: &Length| matches!(length, Length::Value(1..));
    let length = |at: usize| shape.dim.get(at).and_then(|dim| dim.length.as_ref()).filter(|length| is_known(length));
    if shape.dim.is_empty() || shape.dim.len() > 2 || length(0).is_some() {
        return None;
    }
    let columns = match length(1) {
        Some(Length::Value(columns)) => usize::try_from(*columns).ok(),
        _ => None,
    };
    let is_vector = shape.dim.len() == 1;
    Some(Tensor { name: info.name.clone(), element, is_vector, columns: if is_vector { Some(1) } else { columns } })
}

/// The classes that an operator of a graph says, or a constant of that name, as skl2onnx writes them.
fn classes(graph: &GraphProto) -> Vec<Class> {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let said = attributes.filter(|attribute| attribute.name.starts_with("classlabels_")).find_map(|attribute| {
        let ints = attribute.ints.iter().map(|value| Class::Integer(*value));
        let texts = attribute.strings.iter().map(|text| Class::Text(String::from_utf8_lossy(text).into_owned()));
        Some(ints.chain(texts).collect::<Vec<_>>()).filter(|classes| !classes.is_empty())
    });
    let constant = || graph.initializer.iter().find(|tensor| tensor.name.starts_with("classes")).map(classes_of);
    said.or_else(constant).unwrap_or_default()
}

fn classes_of(tensor: &TensorProto) -> Vec<Class> {
    let whole = |bytes: &[u8; 8]| Class::Integer(i64::from_le_bytes(*bytes));
    match ElementType::try_from(tensor.data_type) {
        Ok(ElementType::String) => {
            let text = |text: &Vec<u8>| Class::Text(String::from_utf8_lossy(text).into_owned());
            tensor.string_data.iter().map(text).collect()
        }
        Ok(ElementType::Int64) => {
            let raw = tensor.raw_data.as_chunks::<8>().0.iter().map(whole);
            tensor.int64_data.iter().map(|value| Class::Integer(*value)).chain(raw).collect()
        }
        Ok(ElementType::Int32) => tensor.int32_data.iter().map(|value| Class::Integer((*value).into())).collect(),
        _ => Vec::new(),
    }
}
