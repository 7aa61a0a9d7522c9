//! Requests for predictions: JSON, and behind it the tensors that come in binary.

use axum::http::HeaderValue;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cells::Cells;
use crate::datatype::Datatype;
use crate::refusal::Refusal;
use crate::rest::body;
use crate::served::Served;
use crate::tensor::{Head, Tensor};

/// The header that says how many bytes of the body are JSON.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// The parameter of a tensor that says how many bytes of it are behind the JSON.
const BINARY_SIZE: &str = "binary_data_size";

/// A request that was read.
#[derive(Debug)]
pub struct Request {
    /// What its JSON says besides tensors.
    pub head: RequestHead,
    /// Its tensors.
    pub tensors: Vec<Tensor>,
}

/// What the JSON of a request says besides tensors.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// By which the client knows it.
    pub id: Option<String>,
    /// Whether tensors are answered in binary that say nothing else.
    pub binary: bool,
    /// The outputs that are asked for; all if there are none.
    pub outputs: Vec<OutputJson>,
}

/// The JSON of a request.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct RequestJson {
    id: Option<String>,
    parameters: Option<Map<String, Value>>,
    inputs: Vec<InputJson>,
    outputs: Option<Vec<OutputJson>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct InputJson {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    parameters: Option<Map<String, Value>>,
    #[schemars(with = "Option<Vec<Value>>")]
    data: Option<Cells>,
}

/// An output that is asked for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct OutputJson {
    /// Its name.
    pub name: String,
    /// How it is to be answered.
    pub parameters: Option<Map<String, Value>>,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// If it is wrong: which part, and why.
    pub fn read(header_length: Option<&HeaderValue>, body: Bytes, served: &Served) -> Result<Self, Refusal> {
        let (json, mut binary) = match header_length {
            None => (body, Bytes::new()),
            Some(length) => {
                let length = header_size(length, body.len())?;
                if length == 0 {
                    return raw(body, served);
                }
                let mut json = body;
                let binary = json.split_off(length);
                (json, binary)
            }
        };
        let request: RequestJson = body::json(&json)?;
        let tensors = request.inputs.into_iter().enumerate();
        let tensors = tensors.map(|(at, input)| input.read(at, &mut binary)).collect::<Result<_, _>>()?;
        if !binary.is_empty() {
            let message = format!("{} bytes are left behind the tensors: check each `{BINARY_SIZE}`", binary.len());
            return Err(Refusal::wrong(message));
        }
        let binary = flag(request.parameters.as_ref(), "binary_data_output", "parameters")?.unwrap_or(false);
        let head = RequestHead { id: request.id, binary, outputs: request.outputs.unwrap_or_default() };
        Ok(Self { head, tensors })
    }
}

fn header_size(length: &HeaderValue, body: usize) -> Result<usize, Refusal> {
    let said = length.to_str().ok().and_then(|length| length.trim().parse::<usize>().ok());
    said.filter(|said| *said <= body).ok_or_else(|| {
        let said = length.to_str().unwrap_or_default();
        Refusal::wrong(format!("`Inference-Header-Content-Length` is `{said}`, and the body has {body} bytes"))
    })
}

/// A body that is one tensor and nothing else: that of the only feature.
fn raw(body: Bytes, served: &Served) -> Result<Request, Refusal> {
    let [feature] = served.features() else {
        let message = format!("a body without JSON is for models of one feature, and `{}` has more", served.model);
        return Err(Refusal::wrong(message));
    };
    let datatype = served.datatype(feature);
    let rows = match datatype.width() {
        Some(width) => body.len() / width,
        None => 1,
    };
    // A text is the body as it is.
    let body = match datatype {
        Datatype::Bytes => [&(body.len() as u32).to_le_bytes()[..], &body].concat().into(),
        _ => body,
    };
    let head = Head::new("body".to_owned(), feature.name.clone(), &[rows as i64], datatype.name())?;
    let tensors = vec![Tensor::of_bytes(head, &body)?];
    Ok(Request { head: RequestHead { binary: true, ..RequestHead::default() }, tensors })
}

impl InputJson {
    fn read(self, at: usize, binary: &mut Bytes) -> Result<Tensor, Refusal> {
        let place = format!("inputs[{at}]");
        let size = match self.parameters.as_ref().and_then(|parameters| parameters.get(BINARY_SIZE)) {
            None | Some(Value::Null) => None,
            Some(size) => Some(size.as_u64().and_then(|size| usize::try_from(size).ok()).ok_or_else(|| {
                Refusal::wrong(format!("`{place}.parameters.{BINARY_SIZE}` is {size}, which is no number of bytes"))
            })?),
        };
        let head = Head::new(place, self.name, &self.shape, &self.datatype)?;
        let place = &head.place;
        match (self.data, size) {
            (Some(data), None) => Tensor::of_cells(head, data),
            (None, Some(size)) => {
                if size > binary.len() {
                    let left = binary.len();
                    let message =
                        format!("`{place}.parameters.{BINARY_SIZE}` is {size}, and {left} bytes are left of the body");
                    return Err(Refusal::wrong(message));
                }
                Tensor::of_bytes(head, &binary.split_to(size))
            }
            (Some(_), Some(_)) => Err(Refusal::wrong(format!("`{place}` has both `data` and `{BINARY_SIZE}`"))),
            (None, None) => Err(Refusal::wrong(format!("`{place}` has neither `data` nor `parameters.{BINARY_SIZE}`"))),
        }
    }
}

/// A parameter that is true or false.
pub fn flag(parameters: Option<&Map<String, Value>>, name: &str, place: &str) -> Result<Option<bool>, Refusal> {
    match parameters.and_then(|parameters| parameters.get(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(Refusal::wrong(format!("`{place}.{name}` is {other}, and should be true or false"))),
    }
}
