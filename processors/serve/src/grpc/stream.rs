//! `ModelStreamInfer`: requests one after the other over one stream, each answered before the next is read, so that answers are in their order. A request that
//! can't be answered is told so, and the stream goes on.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{Stream, try_unfold};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::messages::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use super::{Call, PREFIX, infer};
use crate::refusal::Refusal;
use crate::rest::body::PATIENCE;
use crate::rest::{Access, Room, Route, STREAM, Serving, Share};

/// How long a stream may be open: whoever may no more ask is not asked who they are before the next one.
const LONGEST: Duration = Duration::from_secs(3600);

pub fn route() -> Route {
    Route::post(STREAM, Access::Predict, "Predicts rows, one request after the other.", stream)
}

async fn stream(State(serving): State<Arc<Serving>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (most, room) = (serving.max_body, serving.room.clone());
    let call = Call { serving, headers: parts.headers.clone() };
    let service = service_fn(move |asked: tonic::Request<Streaming<ModelInferRequest>>| {
        let answers = Box::pin(answers(call.clone(), asked.into_inner()));
        ready(Ok::<_, Status>(tonic::Response::new(answers)))
    });
    let mut grpc = Grpc::new(ProstCodec::<ModelStreamInferResponse, _>::default()).max_decoding_message_size(most);
    grpc.streaming(service, Request::from_parts(parts, Messages::new(body, room, most).into_body()))
        .await
        .map(Body::new)
}

/// An answer for each request, until there are no more.
fn answers(
    call: Call,
    asked: Streaming<ModelInferRequest>,
) -> impl Stream<Item = Result<ModelStreamInferResponse, Status>> + Send {
    let end = Instant::now() + LONGEST;
    let over = move |_| Status::unavailable(format!("the stream has been open for {LONGEST:?}; open another one"));
    try_unfold(asked, move |mut asked| {
        let call = call.clone();
        async move {
            match timeout_at(end, asked.message()).await.map_err(over)?? {
                Some(request) => Ok(Some((answer(call, request).await, asked))),
                None => Ok(None),
            }
        }
    })
}

async fn answer(call: Call, request: ModelInferRequest) -> ModelStreamInferResponse {
    let (model_name, id) = (request.model_name.clone(), request.id.clone());
    match infer(call, request).await {
        Ok(answer) => ModelStreamInferResponse { error_message: String::new(), infer_response: Some(answer) },
        Err(Refusal { message, .. }) => {
            let which = ModelInferResponse { model_name, id, ..ModelInferResponse::default() };
            ModelStreamInferResponse { error_message: message, infer_response: Some(which) }
        }
    }
}

/// A body of messages, each of which is bounded, has its share of the memory for bodies until the next one begins, and has to come in time when it has begun.
struct Messages {
    body: Body,
    room: Room,
    most: usize,
    /// What stands before the message that comes, as far as it is there.
    prefix: Vec<u8>,
    /// How many bytes of the message are still to come.
    left: usize,
    share: Option<Share>,
    /// Until when the message has to be there that has begun.
    deadline: Option<Instant>,
}

impl Messages {
    fn new(body: Body, room: Room, most: usize) -> Self {
        Self { body, room, most, prefix: Vec::with_capacity(PREFIX), left: 0, share: None, deadline: None }
    }

    /// The same as a body.
    fn into_body(self) -> Body {
        let next = async |mut messages: Self| Ok::<_, Status>(messages.next().await?.map(|bytes| (bytes, messages)));
        Body::from_stream(try_unfold(self, next))
    }

    /// The bytes that come next.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let frame = match self.deadline {
                Some(end) => timeout_at(end, self.body.frame()).await.map_err(|_| Refusal::slow(PATIENCE))?,
                None => self.body.frame().await,
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| Status::unavailable(error.to_string()))?;
            let Ok(bytes) = frame.into_data() else { continue };
            self.count(&bytes)?;
            return Ok(Some(bytes));
        }
    }

    /// Counts bytes that have come.
    fn count(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                let (of_prefix, rest) = bytes.split_at(bytes.len().min(PREFIX - self.prefix.len()));
                self.prefix.extend_from_slice(of_prefix);
                bytes = rest;
                self.begin()?;
            }
            let (of_message, rest) = bytes.split_at(bytes.len().min(self.left));
            self.left -= of_message.len();
            bytes = rest;
            if self.left == 0 && self.prefix.is_empty() {
                self.deadline = None;
            }
        }
        Ok(())
    }

    /// Begins a message, if all is there that stands before it: whether it is compressed, and its length.
    fn begin(&mut self) -> Result<(), Status> {
        let [_, length @ ..] = &self.prefix[..] else { return Ok(()) };
        let Ok(length) = <[u8; 4]>::try_from(length) else { return Ok(()) };
        let length = u32::from_be_bytes(length) as usize;
        if length > self.most {
            return Err(Refusal::too_large(self.most).into());
        }
        // That of the message before is given back.
        self.share = None;
        self.share.insert(self.room.share()).grow(length)?;
        self.left = length;
        self.prefix.clear();
        Ok(())
    }
}
