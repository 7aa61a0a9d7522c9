"""Asks a server of models by the clients of Triton, KServe or MLflow, as they come from PyPI. `tests/serving` starts the server.

The first two bring the same messages of gRPC and can't be in one process."""

import asyncio
import json
import queue
import sys
import urllib.error
import urllib.request

# Files beside this one are called as packages are.
sys.path.pop(0)
import grpc
import numpy as np
import pandas as pd

CLIENT, ADDRESS, TOKEN, OPEN_ADDRESS = sys.argv[1:]
URL = f"http://{ADDRESS}"
# Clients add what is theirs, so that each request gets its own.
HEADERS = {"Authorization": f"Bearer {TOKEN}"}

ROWS = pd.DataFrame({"amount": [880.0, 20.0], "items": [1, 2], "country": ["FR", "DE"]})


def plain(path, body):
    """What the API of our own says."""
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), HEADERS | {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def expected(version="champion"):
    """The predictions that every other protocol has to give as well."""
    answer = plain(f"/api/v1/models/fraud/predict?version={version}", {"rows": ROWS.to_dict("records")})
    return [row["prediction"] for row in answer["predictions"]], [row["probability"] for row in answer["predictions"]]


def triton_inputs(triton, binary):
    """One tensor a column."""
    columns = [
        ("amount", ROWS["amount"].to_numpy(np.float64), "FP64"),
        ("items", ROWS["items"].to_numpy(np.int64), "INT64"),
        ("country", ROWS["country"].to_numpy(np.object_), "BYTES"),
    ]
    inputs = []
    for name, values, datatype in columns:
        tensor = triton.InferInput(name, [len(values), 1], datatype)
        tensor.set_data_from_numpy(values.reshape(-1, 1), binary_data=binary)
        inputs.append(tensor)
    return inputs


def ask_triton():
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

    client = triton.InferenceServerClient(ADDRESS)
    assert client.is_server_live() and client.is_server_ready()
    assert client.get_server_metadata(headers=dict(HEADERS))["name"] == "millstream"
    assert client.is_model_ready("fraud", headers=dict(HEADERS)) and client.is_model_ready("fraud", "challenger", headers=dict(HEADERS))
    assert not client.is_model_ready("none", headers=dict(HEADERS))
    metadata = client.get_model_metadata("fraud", headers=dict(HEADERS))
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["amount", "items", "country"], metadata
    assert client.get_model_config("fraud", headers=dict(HEADERS))["max_batch_size"] == 0

    for version in ["", "2", "challenger", "latest"]:
        classes, probabilities = expected(version or "champion")
        for binary in [True, False]:
            # By default everything comes back in binary.
            for outputs in [None, [triton.InferRequestedOutput(name, binary_data=binary) for name in ["probability", "prediction"]]]:
                answer = client.infer(
                    "fraud", triton_inputs(triton, binary), model_version=version, outputs=outputs, request_id="7", headers=dict(HEADERS)
                )
                assert answer.as_numpy("prediction").tolist() == classes, answer.get_response()
                assert answer.as_numpy("probability").tolist() == probabilities, answer.get_response()
                assert answer.get_response()["id"] == "7"
    for compression in ["gzip", "deflate"]:
        answer = client.infer("fraud", triton_inputs(triton, True), request_compression_algorithm=compression, headers=dict(HEADERS))
        assert answer.as_numpy("prediction").tolist() == expected()[0]

    waiting = [client.async_infer("fraud", triton_inputs(triton, True), headers=dict(HEADERS)) for _ in range(20)]
    assert all(one.get_result().as_numpy("probability").tolist() == expected()[1] for one in waiting)

    statistics = client.get_inference_statistics("fraud", headers=dict(HEADERS))["model_stats"]
    assert sum(version["inference_stats"]["success"]["count"] for version in statistics) > 30, statistics
    index = client.get_model_repository_index(headers=dict(HEADERS))
    assert {"name": "fraud", "version": "1", "state": "READY", "reason": ""} in index, index
    client.unload_model("fraud", headers=dict(HEADERS))
    assert not client.is_model_ready("fraud", headers=dict(HEADERS))
    client.load_model("fraud", headers=dict(HEADERS))
    assert client.is_model_ready("fraud", headers=dict(HEADERS))

    for name, rows, why in [("amount", 3, "has 2 rows"), ("amuont", 2, "did you mean `amount`?")]:
        tensor = triton.InferInput(name, [rows, 1], "FP64")
        tensor.set_data_from_numpy(np.zeros((rows, 1)))
        try:
            client.infer("fraud", [tensor, *triton_inputs(triton, True)[1:]], headers=dict(HEADERS))
            raise AssertionError(name)
        except InferenceServerException as error:
            assert error.status() == "400" and (why in error.message() or "has 3" in error.message()), error
    try:
        client.infer("fraud", triton_inputs(triton, True))
        raise AssertionError("there was no token")
    except InferenceServerException as error:
        assert error.status() == "401" and "Authorization: Bearer TOKEN" in error.message(), error


def ask_triton_over_grpc():
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    client = triton.InferenceServerClient(ADDRESS)
    metadata = {"authorization": f"Bearer {TOKEN}"}
    assert client.is_server_live() and client.is_server_ready()
    assert client.get_server_metadata().name == "millstream"
    assert client.is_model_ready("fraud", headers=metadata)
    described = client.get_model_metadata("fraud", headers=metadata)
    assert [tensor.name for tensor in described.inputs] == ["amount", "items", "country"], described
    inputs = []
    for tensor in [("amount", "FP64", np.float64), ("items", "INT64", np.int64), ("country", "BYTES", np.object_)]:
        name, datatype, kind = tensor
        inputs.append(triton.InferInput(name, [2, 1], datatype))
        inputs[-1].set_data_from_numpy(ROWS[name].to_numpy(kind).reshape(-1, 1))
    for version in ["", "2", "challenger", "latest"]:
        classes, probabilities = expected(version or "champion")
        for outputs in [None, [triton.InferRequestedOutput("probability"), triton.InferRequestedOutput("prediction")]]:
            answer = client.infer("fraud", inputs, model_version=version, outputs=outputs, request_id="7", headers=metadata)
            assert answer.as_numpy("prediction").tolist() == classes, answer.get_response()
            assert answer.as_numpy("probability").tolist() == probabilities, answer.get_response()
            assert answer.get_response().id == "7"
    statistics = client.get_inference_statistics("fraud", headers=metadata)
    assert sum(version.inference_stats.success.count for version in statistics.model_stats) > 8, statistics
    assert any(model.name == "fraud" and model.state == "READY" for model in client.get_model_repository_index(headers=metadata).models)
    client.unload_model("fraud", headers=metadata)
    assert not client.is_model_ready("fraud", headers=metadata)
    client.load_model("fraud", headers=metadata)
    for wrong, headers, status, why in [
        ("fruad", metadata, "NOT_FOUND", "did you mean `fraud`?"),
        ("fraud", {}, "UNAUTHENTICATED", "Authorization: Bearer TOKEN"),
    ]:
        try:
            client.infer(wrong, inputs, headers=headers)
            raise AssertionError(wrong)
        except InferenceServerException as error:
            assert status in error.status() and why in error.message(), error
    try:
        client.infer("fraud", inputs[:2], headers=metadata)
        raise AssertionError("a feature is missing")
    except InferenceServerException as error:
        assert "INVALID_ARGUMENT" in error.status() and "`country`" in error.message(), error

    # Over one stream: answers come in the order of the requests, also behind one that is wrong.
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)), headers=metadata)
    for number in range(50):
        client.async_stream_infer("fruad" if number == 20 else "fraud", inputs, request_id=str(number))
    for number in range(50):
        result, error = answers.get(timeout=30)
        if number == 20:
            assert "did you mean `fraud`?" in error.message(), error
        else:
            assert error is None and result.get_response().id == str(number), (number, error)
            assert result.as_numpy("probability").tolist() == expected()[1]
    client.stop_stream()

    # The health service is asked by probes of Kubernetes; nothing of a field is sent for the server itself.
    with grpc.insecure_channel(ADDRESS) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=bytes, response_deserializer=bytes)
        assert check(b"") == b"\x08\x01"


async def ask_kserve():
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

    classes, probabilities = expected()
    columns = [("amount", "FP64"), ("items", "INT64"), ("country", "BYTES")]

    two = InferenceRESTClient(RESTConfig(protocol="v2", verbose=False))
    assert await two.is_server_live(URL) and await two.is_server_ready(URL)
    assert await two.is_model_ready(URL, "fraud", headers=dict(HEADERS))
    inputs = []
    for name, datatype in columns:
        tensor = InferInput(name, [2], datatype)
        # It writes texts in JSON as they are given.
        tensor.set_data_from_numpy(ROWS[name].to_numpy(np.object_ if datatype == "BYTES" else None), binary_data=datatype != "BYTES")
        inputs.append(tensor)
    answer = await two.infer(URL, InferRequest("fraud", inputs), model_name="fraud", headers=dict(HEADERS))
    outputs = {output.name: output.as_numpy().tolist() for output in answer.outputs}
    assert outputs == {"prediction": classes, "probability": probabilities}, outputs

    over_grpc = InferenceGRPCClient(ADDRESS, verbose=False)
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    assert await over_grpc.is_server_live() and await over_grpc.is_server_ready()
    assert await over_grpc.is_model_ready("fraud", headers=metadata)
    inputs = []
    for name, datatype in columns:
        inputs.append(InferInput(name, [2], datatype))
        inputs[-1].set_data_from_numpy(ROWS[name].to_numpy(np.object_ if datatype == "BYTES" else None))
    answer = await over_grpc.infer(InferRequest("fraud", inputs), headers=metadata)
    outputs = {output.name: output.as_numpy().tolist() for output in answer.outputs}
    assert outputs == {"prediction": classes, "probability": probabilities}, outputs

    one = InferenceRESTClient(RESTConfig(protocol="v1", verbose=False))
    assert await one.is_server_live(URL)
    answer = await one.infer(URL, {"instances": ROWS.to_dict("records")}, model_name="fraud", headers=HEADERS)
    assert [row["prediction"] for row in answer["predictions"]] == classes, answer


def ask_mlflow():
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    # It knows no tokens.
    client = ScoringServerClient("127.0.0.1", int(OPEN_ADDRESS.rsplit(":", 1)[1]))
    client.wait_server_ready(timeout=30)
    assert client.get_version()
    classes, probabilities = expected()
    answer = client.invoke(ROWS).get_predictions()
    assert answer["prediction"].tolist() == classes and answer["probability"].tolist() == probabilities, answer
    for body in [{"inputs": ROWS.to_dict("list")}, {"instances": ROWS.to_dict("records")}]:
        assert client.invoke(json.dumps(body)).get_predictions()["prediction"].tolist() == classes


def ask_mlflow_registry():
    import os

    os.environ["MLFLOW_TRACKING_TOKEN"] = TOKEN
    from mlflow import MlflowClient
    from mlflow.exceptions import RestException

    client = MlflowClient(tracking_uri=URL, registry_uri=URL)
    [model] = client.search_registered_models()
    assert model.name == "fraud" and {alias: int(version) for alias, version in model.aliases.items()} == {"champion": 1, "challenger": 2}, model
    versions = client.search_model_versions("name='fraud'")
    assert [int(version.version) for version in versions] == list(range(len(versions), 0, -1)), versions
    assert versions[-1].aliases == ["champion"] and versions[-1].status == "READY" and versions[-1].creation_timestamp > 1_700_000_000_000

    client.set_registered_model_alias("fraud", "tried", 2)
    assert int(client.get_model_version_by_alias("fraud", "tried").version) == 2
    client.delete_registered_model_alias("fraud", "tried")
    client.set_registered_model_tag("fraud", "owner", "payments")
    client.update_registered_model("fraud", description="Scores card payments.")
    client.set_model_version_tag("fraud", "2", "reviewed", "yes")
    client.update_model_version("fraud", "2", description="Without the shop in Bern.")
    model = client.get_registered_model("fraud")
    assert (model.tags, model.description) == ({"owner": "payments"}, "Scores card payments."), model
    version = client.get_model_version("fraud", "2")
    assert (version.tags, version.description) == ({"reviewed": "yes"}, "Without the shop in Bern."), version
    assert [one.name for one in client.search_registered_models("tags.owner = 'payments'")] == ["fraud"]
    client.delete_model_version_tag("fraud", "2", "reviewed")
    client.delete_registered_model_tag("fraud", "owner")
    assert client.get_model_version("fraud", "2").tags == {} and client.search_registered_models("tags.owner = 'payments'") == []
    assert client.get_model_version_download_uri("fraud", "2") == "mlflow-artifacts:/fraud/2"
    # In Python, through its ONNX file.
    import mlflow

    mlflow.set_tracking_uri(URL)
    mlflow.set_registry_uri(URL)
    loaded = mlflow.pyfunc.load_model("models:/fraud@champion")
    answer = loaded.predict({name: ROWS[[name]].to_numpy() for name in ROWS})
    classes, probabilities = expected()
    assert answer["label"].tolist() == classes and np.allclose(answer["probabilities"][:, 1], probabilities, atol=1e-9), answer
    for wrong in [lambda: client.get_registered_model("none"), lambda: client.get_model_version_by_alias("fraud", "tried")]:
        try:
            wrong()
            raise AssertionError("there is no such thing")
        except RestException as error:
            assert error.error_code == "RESOURCE_DOES_NOT_EXIST", error


def ask_mlflow_models():
    """Models that MLflow's client makes: it uploads what it has saved, and says that a version is to be made of it."""
    import os
    import tempfile

    os.environ["MLFLOW_TRACKING_TOKEN"] = TOKEN
    import mlflow
    import onnx
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import RestException
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mlflow.set_tracking_uri(URL)
    mlflow.set_registry_uri(URL)
    client = MlflowClient(tracking_uri=URL, registry_uri=URL)
    iris = load_iris(as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(iris.data, iris.target)
    with tempfile.TemporaryDirectory() as folder:
        # Its default for scikit-learn is skops, from which an estimator of ours is made.
        mlflow.sklearn.save_model(model, f"{folder}/sklearn")
        mlflow.sklearn.save_model(model, f"{folder}/pickled", serialization_format="cloudpickle")
        own = download_artifacts(artifact_uri="mlflow-artifacts:/fraud/1/model.onnx", dst_path=folder)
        mlflow.onnx.save_model(onnx.load(own), f"{folder}/onnx")
        for name in ["sklearn", "pickled", "onnx"]:
            MlflowArtifactsRepository(f"mlflow-artifacts:/made/{name}").log_artifacts(f"{folder}/{name}")
    files = MlflowArtifactsRepository("mlflow-artifacts:/made").list_artifacts("sklearn")
    assert "made/sklearn/MLmodel" in [f"made/{file.path}" for file in files], files

    created = client.create_registered_model("iris", tags={"owner": "garden"}, description="Which flower it is.")
    assert (created.name, created.tags, created.description) == ("iris", {"owner": "garden"}, "Which flower it is."), created
    # `mlflow.register_model` goes on where there is such a model.
    for name, code in [("iris", "RESOURCE_ALREADY_EXISTS"), ("No Name", "BAD_REQUEST")]:
        try:
            client.create_registered_model(name)
            raise AssertionError(name)
        except RestException as error:
            assert error.error_code == code, error
    version = client.create_model_version("iris", "mlflow-artifacts:/made/sklearn", tags={"millstream.label": "kind"}, description="The first.")
    assert (int(version.version), version.status, version.description) == (1, "READY", "The first."), version
    assert client.get_model_version_by_alias("iris", "champion").version == version.version
    assert [int(one.version) for one in client.search_model_versions("name='iris' and version_number < 2")] == [1]
    assert client.search_model_versions("name='iris' and version_number > 1") == []
    plain("/v2/repository/models/iris/load", {})
    rows = iris.data.to_dict("records")
    answer = plain("/api/v1/models/iris/predict", {"rows": rows})["predictions"]
    assert [row["prediction"] for row in answer] == model.predict(iris.data).tolist()
    found = np.array([list(row["probabilities"].values()) for row in answer])
    assert np.allclose(found, model.predict_proba(iris.data), rtol=0, atol=1e-9), np.abs(found - model.predict_proba(iris.data)).max()

    client.create_registered_model("again")
    client.create_model_version("again", "mlflow-artifacts:/made/onnx")
    loaded = mlflow.onnx.load_model("mlflow-artifacts:/made/onnx")
    assert loaded.graph.output, "it is the file that was uploaded"
    for source, why in [
        ("mlflow-artifacts:/made/pickled", "is a pickle"),
        ("mlflow-artifacts:/made/nothing", "nothing was uploaded"),
        ("mlflow-artifacts:/made", "it should be one"),
        ("s3://bucket/iris", "what is taken is `mlflow-artifacts:/PATH`"),
    ]:
        try:
            client.create_model_version("iris", source)
            raise AssertionError(source)
        except RestException as error:
            assert why in error.message, error
    assert len(client.search_model_versions("name='iris'")) == 1


def ask_mlflow_runs():
    """A notebook that logs by itself, and the model that it logs, which becomes a version."""
    import os

    os.environ["MLFLOW_TRACKING_TOKEN"] = TOKEN
    import mlflow
    from mlflow import MlflowClient
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    mlflow.set_tracking_uri(URL)
    mlflow.set_registry_uri(URL)
    mlflow.set_experiment("Flowers in the garden")
    data, kinds = load_iris(return_X_y=True)
    mlflow.autolog()
    with mlflow.start_run(run_name="one") as run:
        model = LogisticRegression(max_iter=300).fit(data, kinds)
        mlflow.log_metric("mine", 0.5)
        mlflow.log_metric("mine", 0.25, step=1)
    mlflow.autolog(disable=True)
    told = MlflowClient().get_run(run.info.run_id)
    assert (told.info.status, told.info.run_name, told.data.params["max_iter"], told.data.metrics["mine"]) == ("FINISHED", "one", "300", 0.25), told
    assert abs(told.data.metrics["training_accuracy_score"] - model.score(data, kinds)) < 1e-12, told.data.metrics
    with mlflow.start_run() as run:
        logged = mlflow.sklearn.log_model(model, name="model", registered_model_name="garden")
    version = MlflowClient().get_model_version("garden", "1")
    assert (version.run_id, version.status, int(version.version)) == (run.info.run_id, "READY", 1), version
    # The same model is the version that it is.
    assert int(mlflow.register_model(logged.model_uri, "garden").version) == 1
    plain("/v2/repository/models/garden/load", {})
    answer = plain("/api/v1/models/garden/predict", {"rows": data.tolist()})["predictions"]
    assert [row["prediction"] for row in answer] == model.predict(data).tolist()


def ask_description():
    """Anybody may read the OpenAPI document, which has to be one."""
    from openapi_spec_validator import validate

    with urllib.request.urlopen(f"{URL}/api/v1/openapi.json") as answer:
        document = json.load(answer)
    validate(document)
    assert "post" in document["paths"]["/v2/models/{model}/infer"], list(document["paths"])


def ask_metrics():
    with urllib.request.urlopen(urllib.request.Request(URL + "/metrics", headers=HEADERS)) as answer:
        text = answer.read().decode()
    assert 'millstream_serve_requests_total{model="fraud",version="1",result="success"}' in text, text


match CLIENT:
    case "triton":
        ask_triton()
        ask_triton_over_grpc()
        ask_metrics()
    case "kserve":
        asyncio.run(ask_kserve())
    case "mlflow":
        ask_mlflow()
        ask_mlflow_registry()
        ask_mlflow_models()
        ask_mlflow_runs()
        ask_description()
print(f"the clients of {CLIENT} understand the server, and get the same predictions")
