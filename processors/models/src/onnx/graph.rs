//! A graph of ONNX that is being put together.

use std::collections::HashSet;
use std::ops::Range;

use millstream_core::{Error, Result};
use prost::Message as _;

use super::proto::{
    AttributeProto, AttributeType, DimensionProto, ElementType, GraphProto, Length, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};

/// The versions of the operators, and that of the format which knows them: those of ONNX 1.12, which onnxruntime reads from 1.12 on.
const OPERATORS: i64 = 17;
const OPERATORS_OF_ML: i64 = 3;
const FORMAT: i64 = 8;

/// The domain of the operators of classical models.
const ML: &str = "ai.onnx.ml";

/// How many bytes of numbers a file may have: Protobuf ends at 2 GiB.
const MOST_BYTES: usize = 1 << 30;

/// A tensor in a graph, by its name.
#[derive(Clone, Debug)]
pub(crate) struct Value(String);

/// A graph, and the names that are taken in it.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    graph: GraphProto,
    taken: HashSet<String>,
    /// How many bytes its numbers have.
    bytes: usize,
}

/// An attribute of a node.
#[derive(Debug)]
pub(crate) enum Attribute {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Texts(Vec<String>),
    /// A vector.
    Doubles(Vec<f64>),
}

impl Graph {
    /// A graph whose inputs will have these names, which nothing else is called.
    pub fn new<'a>(inputs: impl IntoIterator<Item = &'a str>) -> Self {
        Self { taken: inputs.into_iter().map(str::to_owned).collect(), ..Self::default() }
    }

    /// An input of one column.
    pub fn input(&mut self, name: &str, element: ElementType) -> Value {
        self.graph.input.push(value_info(name, element, &[None, Some(1)]));
        Value(name.to_owned())
    }

    /// Makes a value an output of this name, or of one that is not taken. The length of a side that isn't said is that of the rows.
    pub fn output(&mut self, name: &str, value: &Value, element: ElementType, shape: &[Option<usize>]) {
        let name = self.free_name(name, "output_");
        self.node("Identity", "", &[value], name.clone(), []);
        self.graph.output.push(value_info(&name, element, shape));
    }

    /// A node of one value.
    pub fn add(&mut self, operator: &str, inputs: &[&Value]) -> Value {
        self.add_with(operator, inputs, [])
    }

    /// A node of one value, with attributes.
    pub fn add_with<const N: usize>(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: [(&str, Attribute); N],
    ) -> Value {
        self.add_of("", operator, inputs, attributes)
    }

    /// The same of the operators for classical models.
    pub fn add_ml<const N: usize>(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: [(&str, Attribute); N],
    ) -> Value {
        self.add_of(ML, operator, inputs, attributes)
    }

    fn add_of<const N: usize>(
        &mut self,
        domain: &str,
        operator: &str,
        inputs: &[&Value],
        attributes: [(&str, Attribute); N],
    ) -> Value {
        let name = self.own_name(operator);
        self.node(operator, domain, inputs, name.clone(), attributes);
        Value(name)
    }

    fn node<const N: usize>(
        &mut self,
        operator: &str,
        domain: &str,
        inputs: &[&Value],
        output: String,
        attributes: [(&str, Attribute); N],
    ) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|input| input.0.clone()).collect(),
            name: output.clone(),
            output: vec![output],
            op_type: operator.to_owned(),
            attribute: attributes.map(|(name, attribute)| attribute.named(name)).into(),
            domain: domain.to_owned(),
        });
    }

    /// A tensor of numbers that never change.
    pub fn doubles(&mut self, shape: &[usize], values: &[f64]) -> Value {
        self.bytes = self.bytes.saturating_add(size_of_val(values));
        // What becomes too large is refused at the end, and takes no more memory until then.
        let values = if self.bytes > MOST_BYTES { &[] } else { values };
        self.constant(tensor(ElementType::Double, shape, values.iter().flat_map(|value| value.to_le_bytes())))
    }

    /// The same in 32 bits.
    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> Value {
        self.bytes = self.bytes.saturating_add(size_of_val(values));
        let values = if self.bytes > MOST_BYTES { &[] } else { values };
        self.constant(tensor(ElementType::Float, shape, values.iter().flat_map(|value| value.to_le_bytes())))
    }

    /// A vector of whole numbers.
    pub fn ints(&mut self, values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.constant(tensor(ElementType::Int64, &[values.len()], bytes))
    }

    /// A column of yes and no.
    pub fn booleans(&mut self, values: impl ExactSizeIterator<Item = bool>) -> Value {
        let shape = [values.len(), 1];
        self.constant(tensor(ElementType::Bool, &shape, values.map(u8::from)))
    }

    /// A vector of texts.
    pub fn texts(&mut self, values: impl ExactSizeIterator<Item = String>) -> Value {
        let tensor = tensor(ElementType::String, &[values.len()], []);
        self.constant(TensorProto { string_data: values.map(String::into_bytes).collect(), ..tensor })
    }

    fn constant(&mut self, tensor: TensorProto) -> Value {
        let name = self.own_name("constant");
        self.graph.initializer.push(TensorProto { name: name.clone(), ..tensor });
        Value(name)
    }

    /// A value as one of another type.
    pub fn cast(&mut self, value: &Value, to: ElementType) -> Value {
        self.add_with("Cast", &[value], [("to", Attribute::Int(to as i64))])
    }

    /// Tensors side by side.
    pub fn side_by_side(&mut self, columns: &[&Value]) -> Value {
        match columns {
            [only] => (*only).clone(),
            several => self.add_with("Concat", several, [("axis", Attribute::Int(1))]),
        }
    }

    /// Without a side that has the length 1.
    pub fn squeeze(&mut self, value: &Value, axis: i64) -> Value {
        let axes = self.ints(&[axis]);
        self.add("Squeeze", &[value, &axes])
    }

    /// With one more side, of the length 1.
    pub fn unsqueeze(&mut self, value: &Value, axis: i64) -> Value {
        let axes = self.ints(&[axis]);
        self.add("Unsqueeze", &[value, &axes])
    }

    /// One column of a matrix, which is a matrix as well.
    pub fn column(&mut self, matrix: &Value, at: usize) -> Value {
        self.columns(matrix, at..at + 1)
    }

    /// Some columns of a matrix.
    pub fn columns(&mut self, matrix: &Value, range: Range<usize>) -> Value {
        let places = self.ints(&range.map(|at| at as i64).collect::<Vec<_>>());
        self.add_with("Gather", &[matrix, &places], [("axis", Attribute::Int(1))])
    }

    /// The columns of a matrix in the order of their values, row by row.
    pub fn sorted(&mut self, matrix: &Value, columns: usize) -> Value {
        let count = self.ints(&[columns as i64]);
        let [sorted, places] = ["sorted", "places"].map(|name| self.own_name(name));
        let attributes = [("axis", Attribute::Int(1)), ("largest", Attribute::Int(0)), ("sorted", Attribute::Int(1))];
        self.node("TopK", "", &[matrix, &count], sorted.clone(), attributes);
        // The operator gives the places of the values as well, which nobody needs.
        self.graph.node.iter_mut().last().into_iter().for_each(|node| node.output.push(places.clone()));
        Value(sorted)
    }

    /// The sums along a side, which stays there with the length 1, or goes.
    pub fn sum(&mut self, value: &Value, axis: i64, stays: bool) -> Value {
        let axes = self.ints(&[axis]);
        self.add_with("ReduceSum", &[value, &axes], [("keepdims", Attribute::Int(stays.into()))])
    }

    /// The file, with these properties.
    ///
    /// # Errors
    /// If there is more of it than a file may have.
    pub fn write(self, name: &str, properties: Vec<(String, String)>) -> Result<Vec<u8>> {
        if self.bytes > MOST_BYTES {
            let (bytes, most) = (self.bytes, MOST_BYTES >> 20);
            return Err(Error::new(format!(
                "the model has {bytes} bytes of numbers; ONNX files have {most} MiB at most"
            )));
        }
        let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
        let property = |(key, value)| StringStringEntryProto { key, value };
        let file = ModelProto {
            ir_version: FORMAT,
            producer_name: "millstream".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(GraphProto { name: name.to_owned(), ..self.graph }),
            opset_import: vec![opset("", OPERATORS), opset(ML, OPERATORS_OF_ML)],
            metadata_props: properties.into_iter().map(property).collect(),
        };
        Ok(file.encode_to_vec())
    }

    /// A name for something of the graph's own.
    fn own_name(&mut self, what: &str) -> String {
        let number = self.graph.node.len() + self.graph.initializer.len();
        self.free_name(&format!("{what}_{number}"), "_")
    }

    /// This name, or where it is taken, the same behind as many prefixes as it needs.
    fn free_name(&mut self, name: &str, prefix: &str) -> String {
        let mut name = name.to_owned();
        while !self.taken.insert(name.clone()) {
            name.insert_str(0, prefix);
        }
        name
    }
}

impl Attribute {
    fn named(self, name: &str) -> AttributeProto {
        let of = |kind: AttributeType| AttributeProto {
            name: name.to_owned(),
            r#type: kind as i32,
            ..AttributeProto::default()
        };
        match self {
            Self::Int(value) => AttributeProto { i: Some(value), ..of(AttributeType::Int) },
            Self::Float(value) => AttributeProto { f: Some(value), ..of(AttributeType::Float) },
            Self::Ints(values) => AttributeProto { ints: values, ..of(AttributeType::Ints) },
            Self::Texts(values) => AttributeProto {
                strings: values.into_iter().map(String::into_bytes).collect(),
                ..of(AttributeType::Strings)
            },
            Self::Doubles(values) => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                let tensor = tensor(ElementType::Double, &[values.len()], bytes);
                AttributeProto { t: Some(TensorProto { name: name.to_owned(), ..tensor }), ..of(AttributeType::Tensor) }
            }
        }
    }
}

fn tensor(element: ElementType, shape: &[usize], bytes: impl IntoIterator<Item = u8>) -> TensorProto {
    TensorProto {
        dims: shape.iter().map(|length| *length as i64).collect(),
        data_type: element as i32,
        raw_data: bytes.into_iter().collect(),
        ..TensorProto::default()
    }
}

/// An input or output. The first side is as long as there are rows, if nothing is said; another one may then have any length.
pub(super) fn value_info(name: &str, element: ElementType, shape: &[Option<usize>]) -> ValueInfoProto {
    let length = |(at, length): (usize, &Option<usize>)| match length {
        Some(length) => Some(Length::Value(*length as i64)),
        None => (at == 0).then(|| Length::Name("rows".to_owned())),
    };
    let dim = shape.iter().enumerate().map(|side| DimensionProto { length: length(side) }).collect();
    let tensor_type = TensorTypeProto { elem_type: element as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
