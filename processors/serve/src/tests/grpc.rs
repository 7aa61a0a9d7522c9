//! The Open Inference Protocol over gRPC, message by message.

use http_body_util::BodyExt as _;
use prost::Message;
use tonic::Code;

use super::*;
use crate::grpc::messages::*;

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// The message that is answered, or the status and what it says.
async fn call<A: Message + Default>(server: &Server, path: &str, request: &impl Message) -> Result<A, (Code, String)> {
    call_with(server, path, &request.encode_to_vec()).await
}

async fn call_with<A: Message + Default>(server: &Server, path: &str, message: &[u8]) -> Result<A, (Code, String)> {
    let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    let request = Request::post(path).header("content-type", "application/grpc").body(Body::from(framed)).unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"application/grpc".parse().unwrap())
    );
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let status = body.trailers().and_then(tonic::Status::from_header_map);
    let status = status.or_else(|| tonic::Status::from_header_map(&parts.headers)).unwrap();
    match status.code() {
        Code::Ok => Ok(A::decode(&body.to_bytes()[5..]).unwrap()),
        code => Err((code, status.message().to_owned())),
    }
}

fn input(name: &str, datatype: &str, contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![2],
        contents,
        ..Default::default()
    }
}

/// Two payments, in the lists for their types.
fn typed() -> ModelInferRequest {
    let texts = [Bytes::from("FR"), Bytes::from("DE")].to_vec();
    ModelInferRequest {
        model_name: "fraud".to_owned(),
        id: "42".to_owned(),
        inputs: vec![
            input(
                "amount",
                "FP64",
                Some(InferTensorContents { fp64_contents: vec![870.0, 10.0], ..Default::default() }),
            ),
            input("items", "INT16", Some(InferTensorContents { int_contents: vec![1, 2], ..Default::default() })),
            input("country", "BYTES", Some(InferTensorContents { bytes_contents: texts, ..Default::default() })),
        ],
        ..Default::default()
    }
}

#[tokio::test]
async fn contents_may_be_typed_or_raw_and_answers_are_raw() {
    let server = Server::start();
    let answer: ModelInferResponse = call(&server, INFER, &typed()).await.unwrap();
    assert_eq!((answer.model_version.as_str(), answer.id.as_str()), ("1", "42"));
    let rows = table("amount:float64 items:int64 country\n 870 1 FR\n 10 2 DE");
    let expected = fraud(1).predict_batch(&rows).unwrap();
    let numbers: Vec<u8> =
        [expected.row(0)[0], expected.row(1)[0]].iter().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(answer.raw_output_contents, [Bytes::from(vec![1, 0]), numbers.into()]);
    let described: Vec<_> =
        answer.outputs.iter().map(|output| (&output.name[..], &output.datatype[..], &output.shape[..])).collect();
    assert_eq!(described, [("prediction", "BOOL", &[2_i64][..]), ("probability", "FP64", &[2])]);

    let raw = ModelInferRequest {
        inputs: vec![input("amount", "FP64", None), input("items", "INT16", None), input("country", "BYTES", None)],
        raw_input_contents: vec![
            [870.0_f64.to_le_bytes(), 10.0_f64.to_le_bytes()].concat().into(),
            Bytes::from(vec![1, 0, 2, 0]),
            Bytes::from(&b"\x02\0\0\0FR\x02\0\0\0DE"[..]),
        ],
        ..typed()
    };
    assert_eq!(call::<ModelInferResponse>(&server, INFER, &raw).await.unwrap(), answer);
    let only = InferRequestedOutputTensor { name: "probability".to_owned(), ..Default::default() };
    let challenger = ModelInferRequest { model_version: "challenger".to_owned(), outputs: vec![only], ..raw };
    let challenger: ModelInferResponse = call(&server, INFER, &challenger).await.unwrap();
    assert_eq!((challenger.model_version.as_str(), challenger.raw_output_contents.len()), ("2", 1));
}

#[tokio::test]
async fn what_is_wrong_has_a_status_and_is_named() {
    let server = Server::start();
    let refused = async |change: &dyn Fn(&mut ModelInferRequest)| {
        let mut request = typed();
        change(&mut request);
        call::<ModelInferResponse>(&server, INFER, &request).await.unwrap_err()
    };
    let (code, why) = refused(&|request| request.model_name = "fruad".into()).await;
    assert_eq!((code, why.as_str()), (Code::NotFound, "model `fruad` is not served; did you mean `fraud`?"));
    let (code, why) = refused(&|request| request.raw_input_contents = vec![Bytes::new(); 2]).await;
    assert_eq!((code, why.as_str()), (Code::InvalidArgument, "`raw_input_contents` has 2 tensors, and `inputs` has 3"));
    let (_, why) = refused(&|request| request.raw_input_contents = vec![Bytes::new(); 3]).await;
    assert_eq!(why, "`inputs[0]` has both `contents` and `raw_input_contents`");
    let (_, why) = refused(&|request| request.inputs[1].datatype = "INT64".into()).await;
    assert_eq!(why, "`inputs[1]` of shape [2] has 2 values, not 0");
    let (_, why) = refused(&|request| request.inputs[1].shape = vec![3]).await;
    assert_eq!(why, "`inputs[1]` of shape [3] has 3 values, not 2");
    let (_, why) = refused(&|request| request.inputs[0].datatype = "FP16".into()).await;
    assert!(why.contains("send it raw"), "{why}");
    let (_, why) = refused(&|request| {
        request.outputs = vec![InferRequestedOutputTensor { name: "probabilty".into(), ..Default::default() }]
    })
    .await;
    assert_eq!(why, "`outputs[0].name`: the model has no output `probabilty`; did you mean `probability`?");
    let (_, why) = refused(&|request| request.inputs[2].name = "county".into()).await;
    assert_eq!(why, "`inputs[2].name`: model `fraud` has no feature `county`; did you mean `country`?");
    assert!(call_with::<ModelInferResponse>(&server, INFER, b"no message").await.is_err());
    let long = ModelInferRequest { id: "x".repeat(MAX_BODY), ..typed() };
    assert_eq!(call::<ModelInferResponse>(&server, INFER, &long).await.unwrap_err().0, Code::ResourceExhausted);
}

#[tokio::test]
async fn the_server_and_its_models_are_described() {
    let server = Server::start();
    let of_model = |name: &str| ModelRequest { name: name.to_owned(), version: String::new() };
    for (service, expected) in [("", Ok(1)), ("inference.GRPCInferenceService", Ok(1)), ("other", Err(Code::NotFound))]
    {
        let asked = HealthCheckRequest { service: service.to_owned() };
        let health = call::<HealthCheckResponse>(&server, "/grpc.health.v1.Health/Check", &asked).await;
        assert_eq!(health.map(|health| health.status).map_err(|(code, _)| code), expected);
    }
    let path = |method: &str| format!("/inference.GRPCInferenceService/{method}");
    assert!(call::<ServerReadyResponse>(&server, &path("ServerReady"), &Empty {}).await.unwrap().ready);
    for (name, expected) in [("fraud", true), ("none", false)] {
        let ready: ModelReadyResponse = call(&server, &path("ModelReady"), &of_model(name)).await.unwrap();
        assert_eq!(ready.ready, expected);
    }
    let described: ModelMetadataResponse = call(&server, &path("ModelMetadata"), &of_model("flower")).await.unwrap();
    assert_eq!(described.outputs[2].shape, [-1, 3]);
    assert_eq!(described.properties["estimator"], "softmax_regression");
    call::<ModelInferResponse>(&server, INFER, &typed()).await.unwrap();
    let statistics: ModelStatisticsResponse = call(&server, &path("ModelStatistics"), &of_model("")).await.unwrap();
    assert_eq!(statistics.model_stats.iter().map(|version| version.inference_count).sum::<u64>(), 2);
    let model = RepositoryModelRequest { model_name: "flower".to_owned(), ..Default::default() };
    call::<Empty>(&server, &path("RepositoryModelUnload"), &model).await.unwrap();
    let index: RepositoryIndexResponse =
        call(&server, &path("RepositoryIndex"), &RepositoryIndexRequest::default()).await.unwrap();
    assert_eq!((index.models[0].name.as_str(), index.models[0].state.as_str()), ("flower", "UNAVAILABLE"));
    call::<Empty>(&server, &path("RepositoryModelLoad"), &model).await.unwrap();
    let config = [("config".to_owned(), InferParameter { choice: Some(ParameterChoice::Bool(true)) })].into();
    let wrong = RepositoryModelRequest { parameters: config, ..model };
    assert_eq!(
        call::<Empty>(&server, &path("RepositoryModelLoad"), &wrong).await.unwrap_err().0,
        Code::InvalidArgument
    );
}

const STREAM: &str = crate::rest::STREAM;

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// What is answered to a stream of such bytes, and how it ends.
async fn stream(server: &Server, bytes: Body) -> (Vec<ModelStreamInferResponse>, Code) {
    let request = Request::post(STREAM).header("content-type", "application/grpc").body(bytes).unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    let status = tonic::Status::from_header_map(body.trailers().unwrap()).unwrap().code();
    let (mut bytes, mut answers) = (body.to_bytes(), Vec::new());
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let message = bytes.split_to(5 + length);
        answers.push(ModelStreamInferResponse::decode(&message[5..]).unwrap());
    }
    (answers, status)
}

#[tokio::test]
async fn a_stream_is_answered_in_its_order_and_goes_on_behind_what_is_wrong() {
    let server = Server::start();
    let expected: ModelInferResponse = call(&server, INFER, &typed()).await.unwrap();
    let numbered = |number: usize| ModelInferRequest { id: number.to_string(), ..typed() };
    let wrong = ModelInferRequest { model_name: "fruad".to_owned(), ..numbered(7) };
    let asked = (0..40).map(|number| if number == 7 { wrong.clone() } else { numbered(number) });
    let bytes: Vec<u8> = asked.flat_map(|request| framed(&request.encode_to_vec())).collect();
    // However it is cut into pieces.
    for size in [1, 4, 7, 1000, bytes.len()] {
        let pieces: Vec<_> =
            bytes.chunks(size).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
        let (answers, code) = stream(&server, Body::from_stream(futures::stream::iter(pieces))).await;
        assert_eq!((answers.len(), code), (40, Code::Ok));
        for (number, answer) in answers.into_iter().enumerate() {
            let found = answer.infer_response.unwrap();
            assert_eq!(found.id, number.to_string());
            if number == 7 {
                assert_eq!(answer.error_message, "model `fruad` is not served; did you mean `fraud`?");
            } else {
                assert_eq!(ModelInferResponse { id: "42".to_owned(), ..found }, expected);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_message_of_a_stream_has_its_time_and_its_size() {
    let server = Server::start();
    let message = framed(&typed().encode_to_vec());
    // As many as you like, with pauses between them.
    let slow = futures::stream::unfold(0, move |number| {
        let message = message.clone();
        async move {
            tokio::time::sleep(std::time::Duration::from_secs(300)).await;
            (number < 5).then(|| (Ok::<_, std::io::Error>(Bytes::from(message)), number + 1))
        }
    });
    let (answers, code) = stream(&server, Body::from_stream(slow)).await;
    assert_eq!((answers.len(), code), (5, Code::Ok));
    // One that has begun is waited for, but not for ever.
    let begun = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(&[0, 0, 0]))]);
    let begun = futures::StreamExt::chain(begun, futures::stream::pending());
    assert_eq!(stream(&server, Body::from_stream(begun)).await.1, Code::DeadlineExceeded);
    let long = [&[0][..], &(MAX_BODY as u32 + 1).to_be_bytes()].concat();
    assert_eq!(stream(&server, Body::from(long)).await.1, Code::ResourceExhausted);
    assert_eq!(stream(&server, Body::from(framed(b"no message"))).await.1, Code::Internal);
    // Nor is a stream open for ever.
    let silent = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    assert_eq!(stream(&server, silent).await.1, Code::Unavailable);
}
