//! Answers: the outputs that are asked for, each in JSON or in binary behind it.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::{Map, Value};

use super::request::{HEADER_LENGTH, OutputJson, RequestHead, flag};
use crate::datatype::Datatype;
use crate::exact::exact;
use crate::refusal::Refusal;
use crate::request_log::Ids;
use crate::rest::PREDICTION_PARAMETER;
use crate::served::Served;
use crate::tensor::Tensor;

/// The outputs that are asked for, in their order.
#[derive(Debug)]
pub struct Wanted(Vec<WantedOutput>);

/// An output that is asked for.
#[derive(Debug)]
struct WantedOutput {
    /// Which of the outputs of the model.
    at: usize,
    binary: bool,
    /// Of how many of the likeliest classes, if it is to be answered by them.
    classes: Option<usize>,
}

impl Wanted {
    /// What a request asks for.
    ///
    /// # Errors
    /// If there is no such output, or it can't be answered so.
    pub fn of(head: &RequestHead, served: &Served) -> Result<Self, Refusal> {
        if head.outputs.is_empty() {
            let all = (0..served.outputs.len()).map(|at| WantedOutput { at, binary: head.binary, classes: None });
            return Ok(Self(all.collect()));
        }
        let wanted =
            head.outputs.iter().enumerate().map(|(number, asked)| WantedOutput::of(number, asked, head.binary, served));
        wanted.collect::<Result<_, _>>().map(Self)
    }

    /// The answer.
    ///
    /// # Errors
    /// If a value has no binary form.
    pub fn write(
        &self,
        served: &Served,
        id: Option<&str>,
        ids: Option<Ids>,
        tensors: Vec<Tensor>,
    ) -> Result<Response, Refusal> {
        let mut described = Vec::with_capacity(self.0.len());
        let mut binary = Vec::new();
        for wanted in &self.0 {
            let tensor = wanted.tensor(served, &tensors)?;
            let mut parameters = Map::new();
            if wanted.binary {
                let bytes = tensor.to_bytes()?;
                parameters.insert("binary_data_size".to_owned(), bytes.len().into());
                binary.extend(bytes);
            }
            described.push(Described { tensor, parameters, in_json: !wanted.binary });
        }
        let model_version = served.version.to_string();
        let parameters = ids.map(|ids| Map::from_iter([(PREDICTION_PARAMETER.to_owned(), ids.first().into())]));
        let answer = Answer { model_name: &served.model, model_version, id, parameters, outputs: described };
        let json = serde_json::to_vec(&answer)
            .map_err(|error| Refusal::internal(&millstream_core::Error::new(error.to_string())))?;
        if !self.0.iter().any(|wanted| wanted.binary) {
            return Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response());
        }
        let length = HeaderValue::from(json.len());
        let mut body = json;
        body.append(&mut binary);
        let mut response = ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response();
        response.headers_mut().insert(HeaderName::from_static(HEADER_LENGTH), length);
        Ok(response)
    }
}

impl WantedOutput {
    fn of(number: usize, asked: &OutputJson, binary: bool, served: &Served) -> Result<Self, Refusal> {
        let name = &asked.name;
        let at = served.output(name, &format!("outputs[{number}]"))?;
        let labels = &served.outputs[at].labels;
        let place = format!("outputs[{number}].parameters");
        let own = flag(asked.parameters.as_ref(), "binary_data", &place)?;
        let classes = match asked.parameters.as_ref().and_then(|parameters| parameters.get("classification")) {
            None | Some(Value::Null | Value::Bool(false)) => None,
            Some(_) if labels.is_empty() => {
                return Err(Refusal::wrong(format!("`{place}.classification`: `{name}` has no values by class")));
            }
            Some(count) => {
                let count = count.as_u64().filter(|count| *count > 0);
                let wrong = || Refusal::wrong(format!("`{place}.classification` has to be a number of classes"));
                Some(count.ok_or_else(wrong)?.min(labels.len() as u64) as usize)
            }
        };
        Ok(Self { at, binary: own.unwrap_or(binary), classes })
    }

    fn tensor(&self, served: &Served, tensors: &[Tensor]) -> Result<Tensor, Refusal> {
        let missing = || Refusal::internal(&millstream_core::Error::new("the model has fewer outputs than it says"));
        let (tensor, output) = tensors.get(self.at).zip(served.outputs.get(self.at)).ok_or_else(missing)?;
        match self.classes {
            None => Ok(tensor.clone()),
            Some(classes) => Ok(likeliest(tensor, &output.labels, classes)),
        }
    }
}

/// The classes of each row with the largest values, as `VALUE:INDEX:LABEL`.
fn likeliest(tensor: &Tensor, labels: &[String], count: usize) -> Tensor {
    let values = tensor.values.as_primitive::<Float64Type>();
    let rows = tensor.rows();
    let mut texts = Vec::with_capacity(rows * count);
    for row in 0..rows {
        let of = |class: usize| values.value(row * labels.len() + class);
        let mut classes: Vec<usize> = (0..labels.len()).collect();
        classes.sort_by(|a, b| of(*b).total_cmp(&of(*a)));
        texts.extend(classes.iter().take(count).map(|class| format!("{}:{class}:{}", of(*class), labels[*class])));
    }
    let values: ArrayRef = Arc::new(StringArray::from(texts));
    Tensor { name: tensor.name.clone(), shape: vec![rows, count], datatype: Datatype::Bytes, values }
}

#[derive(serde::Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Map<String, Value>>,
    outputs: Vec<Described>,
}

/// A tensor of an answer.
struct Described {
    tensor: Tensor,
    parameters: Map<String, Value>,
    in_json: bool,
}

impl Serialize for Described {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.tensor.name)?;
        map.serialize_entry("shape", &self.tensor.shape)?;
        map.serialize_entry("datatype", self.tensor.datatype.name())?;
        if !self.parameters.is_empty() {
            map.serialize_entry("parameters", &self.parameters)?;
        }
        if self.in_json {
            map.serialize_entry("data", &Data(&self.tensor.values))?;
        }
        map.end()
    }
}

/// Values as a list. What is no number in JSON is null.
struct Data<'a>(&'a ArrayRef);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = self.0;
        match values.data_type() {
            DataType::Boolean => list(serializer, values.as_boolean().iter()),
            DataType::Utf8 => list(serializer, values.as_string::<i32>().iter()),
            DataType::Float64 => list(serializer, finite(values)),
            DataType::Int64 => list(serializer, values.as_primitive::<Int64Type>().iter()),
            DataType::UInt64 => list(serializer, values.as_primitive::<UInt64Type>().iter()),
            other => {
                let wide = if other.is_floating() { DataType::Float64 } else { DataType::Int64 };
                let wide = exact(values, &wide).map_err(serde::ser::Error::custom)?;
                Data(&wide).serialize(serializer)
            }
        }
    }
}

fn finite(values: &ArrayRef) -> impl Iterator<Item = Option<f64>> {
    values.as_primitive::<Float64Type>().iter().map(|value| value.filter(|value| value.is_finite()))
}

fn list<S: Serializer, T: Serialize>(serializer: S, values: impl Iterator<Item = T>) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(None)?;
    for value in values {
        list.serialize_element(&value)?;
    }
    list.end()
}
