//! The Open Inference Protocol over gRPC, as Triton's and KServe's clients speak it, and gRPC's own health service. Each method is a line of the
//! table of routes, since gRPC is `POST` over HTTP/2.

pub mod messages;
mod stream;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, StringArray, UInt32Array, UInt64Array,
};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::Full;
use prost::Message;
use tonic::server::Grpc;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use self::messages::*;
use crate::datatype::Datatype;
use crate::refusal::{Reason, Refusal};
use crate::request_log::Ids;
use crate::rest::body::receive;
use crate::rest::{Access, EXTENSIONS, PREDICTION_PARAMETER, Route, Serving};
use crate::served::Served;
use crate::statistics::Duration;
use crate::tensor::{Head, Tensor};

/// What gRPC's health service says of a server that answers, and of one that does not yet.
const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

pub fn routes() -> Vec<Route> {
    use Access::{Look, Manage, Open, Predict};
    vec![
        rpc("/grpc.health.v1.Health/Check", Open, "Whether the models are served.", health),
        rpc("/inference.GRPCInferenceService/ServerLive", Open, "Whether the server answers.", live),
        rpc("/inference.GRPCInferenceService/ServerReady", Open, "Whether the models are served.", ready),
        rpc("/inference.GRPCInferenceService/ServerMetadata", Open, "The server, and what it can.", server),
        rpc("/inference.GRPCInferenceService/ModelReady", Predict, "Whether a model is served.", model_ready),
        rpc("/inference.GRPCInferenceService/ModelMetadata", Predict, "The columns of a model.", model),
        rpc("/inference.GRPCInferenceService/ModelInfer", Predict, "Predicts rows.", infer),
        stream::route(),
        rpc("/inference.GRPCInferenceService/ModelStatistics", Predict, "What versions have done.", statistics),
        rpc("/inference.GRPCInferenceService/RepositoryIndex", Look, "The models of the registry.", index),
        rpc("/inference.GRPCInferenceService/RepositoryModelLoad", Manage, "Serves a model from now on.", load),
        rpc("/inference.GRPCInferenceService/RepositoryModelUnload", Manage, "Serves a model no more.", unload),
    ]
}

/// What is asked with, besides the message.
#[derive(Clone)]
struct Call {
    serving: Arc<Serving>,
    headers: HeaderMap,
}

impl Deref for Call {
    type Target = Serving;

    fn deref(&self) -> &Serving {
        &self.serving
    }
}

/// How many bytes stand before a message.
const PREFIX: usize = 5;

/// A method: a request, an answer.
fn rpc<Q, A, F, R>(path: &'static str, access: Access, summary: &'static str, method: F) -> Route
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    F: Fn(Call, Q) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<A, Refusal>> + Send + 'static,
{
    Route::post(path, access, summary, move |State(serving): State<Arc<Serving>>, request: Request| {
        let method = method.clone();
        async move {
            let most = serving.max_body;
            let (parts, body) = request.into_parts();
            let mut share = serving.room.share();
            let bytes = match receive(&parts.headers, body, most.saturating_add(PREFIX), &mut share).await {
                Ok(bytes) => bytes,
                Err(refusal) => return Status::from(refusal).into_http(),
            };
            let call = Call { serving, headers: parts.headers.clone() };
            let answer = service_fn(move |request: tonic::Request<Q>| {
                let answered = method(call.clone(), request.into_inner());
                async move { answered.await.map(tonic::Response::new).map_err(Status::from) }
            });
            let mut grpc = Grpc::new(ProstCodec::<A, Q>::default()).max_decoding_message_size(most);
            let response: Response =
                grpc.unary(answer, Request::from_parts(parts, Full::new(bytes))).await.map(Body::new);
            response
        }
    })
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.reason {
            Reason::Wrong | Reason::Unsupported => Code::InvalidArgument,
            Reason::NotFound => Code::NotFound,
            Reason::Conflict | Reason::Exists => Code::AlreadyExists,
            Reason::TooLarge => Code::ResourceExhausted,
            Reason::Slow => Code::DeadlineExceeded,
            Reason::Overloaded | Reason::Unavailable => Code::Unavailable,
            Reason::Internal => Code::Internal,
        };
        Self::new(code, refusal.message)
    }
}

async fn health(serving: Call, asked: HealthCheckRequest) -> Result<HealthCheckResponse, Refusal> {
    if !matches!(asked.service.as_str(), "" | "inference.GRPCInferenceService") {
        return Err(Refusal::not_found(format!("there is no service `{}`", asked.service)));
    }
    Ok(HealthCheckResponse { status: if serving.repository.is_ready() { SERVING } else { NOT_SERVING } })
}

async fn live(_: Call, _: Empty) -> Result<ServerLiveResponse, Refusal> {
    Ok(ServerLiveResponse { live: true })
}

async fn ready(serving: Call, _: Empty) -> Result<ServerReadyResponse, Refusal> {
    Ok(ServerReadyResponse { ready: serving.repository.is_ready() })
}

async fn server(_: Call, _: Empty) -> Result<ServerMetadataResponse, Refusal> {
    let extensions = EXTENSIONS.map(str::to_owned).to_vec();
    Ok(ServerMetadataResponse {
        name: "millstream".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions,
    })
}

async fn model_ready(serving: Call, asked: ModelRequest) -> Result<ModelReadyResponse, Refusal> {
    match serving.repository.resolve(&asked.name, Some(&asked.version)).await {
        Ok(_) => Ok(ModelReadyResponse { ready: true }),
        // Clients ask for a word, and take a status for a failure.
        Err(Refusal { reason: Reason::NotFound, .. }) => Ok(ModelReadyResponse { ready: false }),
        Err(refusal) => Err(refusal),
    }
}

async fn model(serving: Call, asked: ModelRequest) -> Result<ModelMetadataResponse, Refusal> {
    let served = serving.repository.resolve(&asked.name, Some(&asked.version)).await?;
    let versions = match asked.version.as_str() {
        "" => serving.repository.loaded(&asked.name)?.iter().map(|served| served.version.to_string()).collect(),
        _ => vec![served.version.to_string()],
    };
    let tensor = |name: &str, datatype: Datatype, shape| TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.to_string(),
        shape,
    };
    let inputs = served.features().iter().map(|feature| tensor(&feature.name, served.datatype(feature), vec![-1]));
    let outputs = served.outputs.iter().map(|output| tensor(&output.name, output.datatype, output.shape()));
    Ok(ModelMetadataResponse {
        name: asked.name,
        versions,
        platform: "millstream".to_owned(),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        properties: served.properties(),
    })
}

async fn infer(serving: Call, asked: ModelInferRequest) -> Result<ModelInferResponse, Refusal> {
    let served = serving.choose(&asked.model_name, Some(&asked.model_version), &serving.headers).await?;
    let wanted = asked.outputs.iter().enumerate();
    let wanted: Vec<usize> =
        wanted.map(|(at, output)| served.output(&output.name, &format!("outputs[{at}]"))).collect::<Result<_, _>>()?;
    let ModelInferRequest { id, inputs, raw_input_contents, .. } = asked;
    let tensors = tensors(inputs, &raw_input_contents)?;
    let answered = served.answer(
        |served| served.rows_of_tensors(tensors),
        |served, tensors, ids| {
            let all = 0..tensors.len();
            let wanted = if wanted.is_empty() { all.collect() } else { wanted };
            answer(served, id, ids, wanted.into_iter().filter_map(|at| tensors.get(at)))
        },
    );
    answered.await
}

/// What is predicted, always raw: Triton's client reads nothing else.
fn answer<'a>(
    served: &Served,
    id: String,
    ids: Option<Ids>,
    tensors: impl Iterator<Item = &'a Tensor>,
) -> Result<ModelInferResponse, Refusal> {
    let mut answer = ModelInferResponse {
        model_name: served.model.clone(),
        model_version: served.version.to_string(),
        id,
        ..ModelInferResponse::default()
    };
    if let Some(ids) = ids {
        answer.parameters.insert(PREDICTION_PARAMETER.to_owned(), InferParameter::text(ids.first()));
    }
    for tensor in tensors {
        answer.raw_output_contents.push(tensor.to_bytes()?.into());
        let shape = tensor.shape.iter().map(|size| *size as i64).collect();
        answer.outputs.push(InferOutputTensor {
            name: tensor.name.clone(),
            datatype: tensor.datatype.to_string(),
            shape,
        });
    }
    Ok(answer)
}

/// The tensors of a request, all raw or none.
fn tensors(inputs: Vec<InferInputTensor>, raw: &[Bytes]) -> Result<Vec<Tensor>, Refusal> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        let (raw, inputs) = (raw.len(), inputs.len());
        return Err(Refusal::wrong(format!("`raw_input_contents` has {raw} tensors, and `inputs` has {inputs}")));
    }
    let tensor = |(at, input): (usize, InferInputTensor)| {
        let place = format!("inputs[{at}]");
        let head = Head::new(place.clone(), input.name, &input.shape, &input.datatype)?;
        match (raw.get(at), input.contents) {
            (Some(_), Some(contents)) if contents != InferTensorContents::default() => {
                Err(Refusal::wrong(format!("`{place}` has both `contents` and `raw_input_contents`")))
            }
            (Some(raw), _) => Tensor::of_bytes(head, raw),
            (None, contents) => {
                let column = column(head.datatype, contents.unwrap_or_default(), &place)?;
                Tensor::of_column(head, &column)
            }
        }
    };
    inputs.into_iter().enumerate().map(tensor).collect()
}

/// The values in the list that is for a type.
fn column(datatype: Datatype, contents: InferTensorContents, place: &str) -> Result<ArrayRef, Refusal> {
    Ok(match datatype {
        Datatype::Bool => Arc::new(BooleanArray::from(contents.bool_contents)),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => Arc::new(Int32Array::from(contents.int_contents)),
        Datatype::Int64 => Arc::new(Int64Array::from(contents.int64_contents)),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => Arc::new(UInt32Array::from(contents.uint_contents)),
        Datatype::Uint64 => Arc::new(UInt64Array::from(contents.uint64_contents)),
        Datatype::Fp32 => Arc::new(Float32Array::from(contents.fp32_contents)),
        Datatype::Fp64 => Arc::new(Float64Array::from(contents.fp64_contents)),
        Datatype::Bytes => {
            let texts =
                contents.bytes_contents.iter().map(|text| std::str::from_utf8(text)).collect::<Result<Vec<_>, _>>();
            Arc::new(StringArray::from(
                texts.map_err(|_| Refusal::wrong(format!("a text of `{place}` is not in UTF-8")))?,
            ))
        }
        Datatype::Fp16 | Datatype::Bf16 => {
            return Err(Refusal::wrong(format!(
                "`{place}` is {datatype}, which `contents` has no list for; send it raw"
            )));
        }
    })
}

async fn statistics(serving: Call, asked: ModelRequest) -> Result<ModelStatisticsResponse, Refusal> {
    let versions = match (asked.name.as_str(), asked.version.as_str()) {
        ("", _) => serving
            .repository
            .names()
            .iter()
            .flat_map(|name| serving.repository.loaded(name).unwrap_or_default())
            .collect(),
        (name, "") => serving.repository.loaded(name)?,
        (name, version) => vec![serving.repository.resolve(name, Some(version)).await?],
    };
    Ok(ModelStatisticsResponse { model_stats: versions.iter().map(|served| of_version(served)).collect() })
}

fn of_version(served: &Served) -> ModelStatistics {
    let figures = &served.figures;
    let took = |duration: &Duration| Some(StatisticDuration { count: duration.count(), ns: duration.nanos() });
    ModelStatistics {
        name: served.model.clone(),
        version: served.version.to_string(),
        last_inference: figures.last(),
        inference_count: figures.rows(),
        execution_count: figures.batches(),
        inference_stats: Some(InferStatistics {
            success: took(&figures.success),
            fail: took(&figures.fail),
            queue: took(&figures.queue),
            compute_input: took(&figures.input),
            compute_infer: took(&figures.infer),
            compute_output: took(&figures.output),
        }),
    }
}

async fn index(serving: Call, asked: RepositoryIndexRequest) -> Result<RepositoryIndexResponse, Refusal> {
    let states = serving.repository.states().await?.into_iter().filter(|state| !asked.ready || state.version.is_some());
    let described = states.map(|state| ModelIndex {
        state: state.word().to_owned(),
        version: state.version.map(|version| version.to_string()).unwrap_or_default(),
        name: state.model,
        reason: state.reason,
    });
    Ok(RepositoryIndexResponse { models: described.collect() })
}

async fn load(serving: Call, asked: RepositoryModelRequest) -> Result<Empty, Refusal> {
    check_parameters(&asked.parameters)?;
    serving.repository.load(&asked.model_name).await.map(|()| Empty {})
}

async fn unload(serving: Call, asked: RepositoryModelRequest) -> Result<Empty, Refusal> {
    check_parameters(&asked.parameters)?;
    serving.repository.unload(&asked.model_name).await.map(|()| Empty {})
}

fn check_parameters<T>(parameters: &BTreeMap<String, T>) -> Result<(), Refusal> {
    parameters.keys().try_for_each(|name| crate::repository::check_parameter(name))
}
