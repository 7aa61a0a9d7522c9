"""Models as ONNX files, both ways. Learns a model of every estimator that can be written as ONNX, on real rows, writes it, and compares what onnxruntime
predicts by the file with what `millstream predict` says. Imports files of scikit-learn, and of these models, and compares what `millstream` predicts by
them, in a flow and over HTTP, with what onnxruntime says in Python. `tests/onnx` runs it:

    python onnx.py PROGRAM
"""

import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

# This file is called as the package is.
sys.path.pop(0)
import numpy as np
import onnx
import onnxruntime
import sklearn.ensemble
import sklearn.linear_model
import sklearn.neural_network
import sklearn.svm
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

PROGRAM = sys.argv[1]
LIBRARY = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
DATA = Path(__file__).resolve().parent.parent / "processors/models/tests/data"
# Of numbers, as a share of the larger one where that is more than 1. Numbers of networks are of 32 bits, and so are all steps to them.
TOLERANCE = 1e-6
OF_NETWORKS = 1e-5

TYPES = {"tensor(double)": np.float64, "tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_, "tensor(string)": np.object_}


def of_file(name, convert, leave=("river",)):
    """Rows of a file beside the tests of models."""
    with open(DATA / name, newline="") as file:
        rows = [row for row in csv.DictReader(file)]
    return [{key: convert.get(key, float)(value) for key, value in row.items() if key not in leave} for row in rows]


def mixed():
    """Rows of columns of every kind, some of them missing, whose labels follow from them."""
    random = np.random.default_rng(20261201)
    rows = []
    for number in range(3000):
        signal, word = random.normal(), str(random.choice(["a", "b", "größe", ""], p=[0.5, 0.3, 0.15, 0.05]))
        rows.append(
            {
                "amount": float(np.exp(random.normal() + signal)) * 1000,
                "constant": 3.0,
                "gap": None if random.random() < 0.2 else signal + random.normal() * 0.3,
                "word": word,
                "code": int(random.choice([-7, 0, 12345, 10**12])),
                "flag": bool(random.random() < 0.3),
                "count": int(random.poisson(5)),
                # Names that the file would like for itself.
                "label": float(random.normal()),
                "constant_0": float(random.normal()),
                "kind": ["low", "mid", "high"][(signal > -0.4) + (signal + (word == "a") * 0.5 > 0.5)],
                "number": int((signal > -0.4) * 2) + int(signal > 0.5),
                "size": signal * 3 + (word == "b") * 2.0,
            }
        )
    return rows


boolean = lambda text: text == "True"
CLASSES = "brickface cement foliage grass path sky window".split()

# By name: rows, the type of each column, the label, its classes.
DATA_SETS = {
    "phishing": (of_file("phishing.csv", {"y": boolean, "age_of_domain": int, "ip_in_url": int}), "y", None),
    "bananas": (of_file("bananas.csv", {"y": boolean}), "y", None),
    "segments": (of_file("segments.csv", {"y": str}, leave=CLASSES), "y", CLASSES),
    "approval": (of_file("approval.csv", {}), "y", None),
    "chicks": (of_file("chicks.csv", {"chick": str, "diet": str}), "y", None),
    "kinds": (mixed(), "kind", ["low", "mid", "high"]),
    "numbers": (mixed(), "number", [0, 2, 3]),
    "sizes": (mixed(), "size", None),
}
LABELS = ["kind", "number", "size", "y"]

BINARY, SEVERAL, NUMBERS = ["phishing", "bananas"], ["segments", "kinds", "numbers"], ["approval", "chicks", "sizes"]
NETWORK = {"layers": [{"dense": 16, "activation": "tanh"}, {"dropout": 0.1}, {"normalise": "layer"}, {"dense": 8}], "batch_rows": 30}
ALL_ACTIVATIONS = {"layers": [{"dense": 9, "activation": name} for name in ["elu", "leaky_relu", "sigmoid", "linear", "relu"]], "batch_rows": 20}
TREE = {"grace_period": 50, "delta": 0.01}
FOREST = {"n_models": 5, "seed": 3, "grace_period": 30}
PREPROCESSED = {
    "amount": "robust",
    "gap": {"encode": "min_max", "missing": "median", "indicator": True},
    "count": {"missing": "previous"},
    "constant": {"missing": {"constant": 1.5}},
    "word": {"target": {"categories": 3, "smoothing": 2.5}},
    "code": {"frequency": 3},
    "flag": {"target": {}},
}
# Estimator, its settings, the data sets, and what is set besides.
MODELS = [
    ("logistic_regression", {"learning_rate": 0.05}, BINARY, {}),
    ("logistic_regression", {}, ["phishing"], {"threshold": 0.3}),
    ("softmax_regression", {"learning_rate": 0.05}, BINARY + SEVERAL, {}),
    ("linear_regression", {"learning_rate": 0.01}, NUMBERS, {}),
    ("sgd_classifier", {"loss": "log_loss", "alpha": 0.001}, BINARY + SEVERAL, {}),
    ("sgd_classifier", {"loss": "modified_huber", "average": True}, BINARY + SEVERAL, {}),
    ("sgd_classifier", {"loss": "hinge", "penalty": "elasticnet"}, BINARY + SEVERAL, {}),
    ("sgd_regressor", {"average": True}, NUMBERS, {}),
    ("hoeffding_tree", TREE, BINARY + SEVERAL, {}),
    ("hoeffding_tree", TREE | {"leaf_prediction": "naive_bayes"}, BINARY + SEVERAL, {}),
    ("hoeffding_tree", TREE | {"leaf_prediction": "majority_class"}, BINARY + SEVERAL, {}),
    ("hoeffding_tree_regressor", TREE, NUMBERS, {}),
    ("hoeffding_adaptive_tree", TREE | {"drift_delta": 0.3, "least_rows": 30}, BINARY + SEVERAL, {}),
    ("hoeffding_adaptive_tree_regressor", TREE | {"drift_delta": 0.3, "least_rows": 30}, NUMBERS, {}),
    ("adaptive_random_forest", FOREST, BINARY + SEVERAL, {}),
    ("adaptive_random_forest_regressor", FOREST, NUMBERS, {}),
    ("leveraging_bagging", FOREST, ["bananas", "kinds"], {}),
    ("network", NETWORK, BINARY + SEVERAL + NUMBERS, {}),
    ("network", ALL_ACTIVATIONS, ["phishing", "kinds", "sizes"], {}),
    ("softmax_regression", {"learning_rate": 0.05}, ["kinds", "numbers"], {"features": PREPROCESSED}),
    ("linear_regression", {"learning_rate": 0.01}, ["sizes"], {"features": PREPROCESSED, "interval": 0.9}),
    ("hoeffding_tree_regressor", TREE, ["sizes"], {"features": PREPROCESSED}),
    ("network", NETWORK | {"quantiles": [0.1, 0.4, 0.6, 0.9]}, NUMBERS, {}),
    ("k_means", {"clusters": 4}, ["bananas", "kinds"], {"label": None}),
    ("z_score", {}, ["approval", "kinds"], {"label": None}),
]


def toml(value):
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{ " + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return repr(value)


def ask(folder, *arguments, library=LIBRARY, **more):
    environment = os.environ | {"ORT_DYLIB_PATH": str(library)}
    return subprocess.run([PROGRAM, *arguments], cwd=folder, env=environment, capture_output=True, text=True, **more)


def run(folder, *arguments, **more):
    ran = ask(folder, *arguments, **more)
    if ran.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))}: {ran.stderr}{ran.stdout}")
    return ran.stdout


def type_of(values):
    kinds = {type(value) for value in values if value is not None}
    name = {str: "utf8", bool: "boolean", int: "int64", float: "float64"}[kinds.pop()]
    return name + "?" if None in values else name


def learn(folder):
    """Learns all models in one flow, and returns them: name, rows, features."""
    tables, models = {}, []
    for name, (rows, label, classes) in DATA_SETS.items():
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{name}.ndjson").write_text("\n".join(lines) + "\n")
        schema = {key: type_of([row[key] for row in rows]) for key in rows[0]}
        tables[f"input.{name}"] = {"type": "file", "path": f"{name}.ndjson", "schema": schema}
        for number, (estimator, settings, sets, more) in enumerate(MODELS):
            if name not in sets:
                continue
            model = f"m{number}_{name}"
            features = list(more.get("features", [key for key in rows[0] if key not in LABELS]))
            train = {"type": "train", "from": name, "model": model, "label": label, "missing": "mean"} | more
            train["estimator"] = {"type": estimator} | settings
            train.setdefault("features", encoders(features, schema, estimator))
            if classes is not None and train["label"] is not None:
                train["classes"] = classes
            tables[f"processor.{model}"] = {key: value for key, value in train.items() if value is not None}
            tables[f"output.{model}_rows"] = {"type": "drop", "from": model}
            models.append((model, estimator, settings, rows, features, schema))
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {toml(value)}" for key, value in table.items())]
    (folder / "models.toml").write_text("\n".join(lines) + "\n")
    run(folder, "run", "models.toml")
    return models


def encoders(features, schema, estimator):
    raw = any(word in estimator for word in ["tree", "forest", "bagging", "k_means", "z_score"])
    number = "raw" if raw else "standardise"
    other = {"word": {"one_hot": 3}, "code": {"one_hot": 8}}
    usual = lambda name: {"one_hot": 64} if schema[name] in ["utf8", "boolean"] else number
    return {name: other.get(name) or usual(name) for name in features}


def by_program(folder, model, rows, features):
    lines = "\n".join(json.dumps({name: row[name] for name in features}, ensure_ascii=False) for row in rows)
    return [json.loads(line) for line in run(folder, "predict", f"{model}@latest", input=lines).splitlines()]


def by_onnxruntime(file, rows):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    feed = {}
    for column in session.get_inputs():
        assert column.shape == ["rows", 1], (column.name, column.shape)
        values = [math.nan if row[column.name] is None else row[column.name] for row in rows]
        feed[column.name] = np.array(values, dtype=TYPES[column.type]).reshape(-1, 1)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feed)))


def check(what, found, expected, tolerance=TOLERANCE):
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape, (what, found.shape, expected.shape)
    off = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    assert np.all(off <= tolerance), f"{what}: row {np.argmax(off)} is {found.flat[np.argmax(off)]}, not {expected.flat[np.argmax(off)]}"
    return off.max()


def compare(what, outputs, lines):
    """How far the outputs are off what the program predicts."""
    if "variable" in outputs:
        tolerance = OF_NETWORKS if what.startswith("network") else TOLERANCE
        if "quantiles" in outputs:
            check(f"{what}, quantiles", outputs["quantiles"], [list(line["quantiles"].values()) for line in lines], tolerance)
        return check(what, outputs["variable"][:, 0], [line["prediction"] for line in lines], tolerance)
    if "probabilities" not in outputs and "scores" not in outputs:
        names = [name for name in outputs if name in lines[0]]
        assert len(names) == len(outputs), (what, list(outputs), lines[0])
        return max(check(f"{what}, {name}", outputs[name], [line[name] for line in lines]) for name in names)
    label = outputs["output_label"] if "output_label" in outputs else outputs["label"]
    one, several = ("probability", "probabilities") if "probabilities" in outputs else ("score", "scores")
    found = outputs[several]
    if several in lines[0]:
        off = check(what, found, [list(line[several].values()) for line in lines])
    else:
        off = check(what, found[:, -1], [line[one] for line in lines])
        assert several == "scores" or np.allclose(found.sum(axis=1), 1.0)
    # Where two are as probable, a rounding decides.
    ordered = np.sort(found, axis=1)
    clear = [index for index in range(len(lines)) if found.shape[1] == 1 or ordered[index, -1] - ordered[index, -2] > TOLERANCE]
    expected = [line["prediction"] for line in lines]
    assert all(label[index] == expected[index] for index in clear), f"{what}: other classes are predicted"
    return off


def write_ours(folder):
    """Compares models of the program with what onnxruntime makes of their files."""
    worst = {}
    for model, estimator, settings, rows, features, schema in learn(folder):
        what = f"{estimator} {toml(settings)} on {model}"
        file = folder / f"{model}.onnx"
        run(folder, "models", "export", f"{model}@latest", "--output", file)
        onnx.checker.check_model(onnx.load(file), full_check=True)
        properties = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
        assert properties["millstream.model"] == model and properties["millstream.version"] == "1", properties
        off = compare(what, by_onnxruntime(file, rows), by_program(folder, model, rows, features))
        worst[estimator] = max(worst.get(estimator, 0.0), off)
        print(f"{what}: at most {off:.1e} off")
    print("the same as onnxruntime says, but for " + ", ".join(f"{off:.1e} ({name})" for name, off in worst.items()))


def read_ours(folder):
    """Imports files of the program's own, which say what they predict, and compares with the models that they are of."""
    for model in ["m0_phishing", "m2_segments", "m3_chicks"]:
        rows = DATA_SETS[model.split("_")[1]][0]
        features = [key for key in rows[0] if key not in LABELS]
        run(folder, "models", "import", f"{model}.onnx", "--name", f"again_{model}")
        was, now = (by_program(folder, name, rows, features) for name in [model, f"again_{model}"])
        number = "probability" if "probability" in was[0] else "prediction"
        check(f"{model}, read again", [line[number] for line in now], [line[number] for line in was])
        assert number == "prediction" or [line["prediction"] for line in now] == [line["prediction"] for line in was]
    print("files of ours are read again")


def scikit_learn(folder):
    """Writes files of scikit-learn: name, how it is imported, features, and the output with what speaks for each class."""
    random = np.random.default_rng(7)
    numbers = random.normal(size=(2000, 5)).astype(np.float32)
    amount, classes = numbers[:, 0] * 3 + numbers[:, 1], np.digitize(numbers[:, 0] + numbers[:, 1], [-0.5, 0.7])
    words = np.where(numbers[:, 2] > 0, "größe", np.where(numbers[:, 3] > 0, "b", ""))
    matrix, names = [("X", FloatTensorType([None, 5]))], ["a", "b", "c", "d", "e"]
    two, texts = classes > 0, np.array(["no", "odd", "yes"])[classes]
    models = {
        "forest": (sklearn.ensemble.RandomForestClassifier(20, random_state=0).fit(numbers, classes), {}),
        "logistic": (make_pipeline(StandardScaler(), sklearn.linear_model.LogisticRegression()).fit(numbers, texts), {"zipmap": False}),
        "network": (sklearn.neural_network.MLPClassifier((8,), max_iter=20, random_state=0).fit(numbers, classes), {"zipmap": False}),
        "line": (sklearn.linear_model.LinearRegression().fit(numbers, amount), None),
        "trees": (sklearn.ensemble.GradientBoostingRegressor(n_estimators=10).fit(numbers, amount), None),
        "vectors": (sklearn.svm.SVC(probability=False, max_iter=500).fit(numbers, classes), {"zipmap": False}),
        "margin": (sklearn.svm.LinearSVC().fit(numbers, two.astype(int)), {}),
    }
    for name, (model, options) in models.items():
        options = {} if options is None else {"options": {id(model): options}}
        file = convert_sklearn(model, initial_types=matrix, target_opset={"": 17, "ai.onnx.ml": 3}, **options)
        (folder / f"{name}.onnx").write_bytes(file.SerializeToString())
        rows = [dict(zip(names, map(float, row))) for row in numbers]
        more = ["--features", ",".join(names)] + (["--scores"] if name in ["vectors", "margin"] else [])
        yield name, more, rows, {"X": numbers}
    columns = {"amount": numbers[:, :1], "items": (numbers[:, 1:2] * 3).astype(np.int64), "country": words.reshape(-1, 1).astype(object)}
    types = [("amount", FloatTensorType([None, 1])), ("items", Int64TensorType([None, 1])), ("country", StringTensorType([None, 1]))]
    parts = ColumnTransformer([("numbers", StandardScaler(), [0, 1]), ("words", OneHotEncoder(handle_unknown="ignore"), [2])])
    table = np.hstack([columns["amount"].astype(object), columns["items"].astype(object), columns["country"]])
    model = make_pipeline(parts, sklearn.linear_model.LogisticRegression()).fit(table, texts)
    (folder / "columns.onnx").write_bytes(convert_sklearn(model, initial_types=types).SerializeToString())
    rows = [{name: values[row, 0].item() if name != "country" else values[row, 0] for name, values in columns.items()} for row in range(len(numbers))]
    yield "columns", [], rows, columns


def expect(file, feed):
    """What onnxruntime says: the classes, if there are such, and numbers."""
    outputs = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, feed)
    if len(outputs) == 1:
        return None, outputs[0]
    label, numbers = outputs
    if isinstance(numbers, list):
        numbers = np.array([list(row.values()) for row in numbers])
    return label, numbers


def read_theirs(folder):
    for name, more, rows, feed in scikit_learn(folder):
        run(folder, "models", "import", f"{name}.onnx", "--name", name, *more)
        label, numbers = expect(folder / f"{name}.onnx", feed)
        lines = by_program(folder, name, rows, list(rows[0]))
        if label is None:
            check(name, [line["prediction"] for line in lines], numbers[:, 0])
            continue
        assert [line["prediction"] for line in lines] == list(label), f"{name}: other classes are predicted"
        one, several = ("score", "scores") if "--scores" in more else ("probability", "probabilities")
        if several in lines[0]:
            check(name, [list(line[several].values()) for line in lines], numbers)
        else:
            check(name, [line[one] for line in lines], numbers[:, -1])
    print("files of scikit-learn predict what onnxruntime says")


def serve(folder):
    """Asks a server for predictions of a file of others."""
    *_, (name, _, rows, feed) = scikit_learn(folder)
    environment = os.environ | {"ORT_DYLIB_PATH": str(LIBRARY)}
    command = [PROGRAM, "serve", name, "--address", "127.0.0.1:0", "--without-token"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            line = next(line for line in server.stderr if "serving `" in line)
            address = "http://" + line.split("`")[-2]
            with urllib.request.urlopen(f"{address}/v2/models/{name}") as answer:
                metadata = json.load(answer)
            datatypes = {column["name"]: column["datatype"] for column in metadata["inputs"]}
            assert datatypes == {"amount": "FP32", "items": "INT64", "country": "BYTES"}, metadata
            body = json.dumps({"rows": rows[:100]}).encode()
            request = urllib.request.Request(f"{address}/api/v1/models/{name}/predict", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as answer:
                predictions = json.load(answer)["predictions"]
            label, numbers = expect(folder / f"{name}.onnx", feed)
            assert [row["prediction"] for row in predictions] == list(label[:100])
            check(name, [row["probability"] for row in predictions], numbers[:100].max(axis=1))
        finally:
            server.terminate()
    print("a file of others is served")


FLOW = """
[input.rows]
type = "file"
path = "rows.csv"
schema = { amount = "float32", items = "int64", country = "TYPE" }
[processor.predicted]
type = "predict"
from = "rows"
model = "columns@champion"
[output.out]
type = "stdout"
from = "predicted"
"""


def say_what_is_wrong(folder):
    """Without the library flows are checked, and the way to it is said; columns that don't fit, and training, are refused."""
    (folder / "rows.csv").write_text("amount,items,country\n1.5,2,b\n")
    (folder / "flow.toml").write_text(FLOW.replace("TYPE", "utf8"))
    (folder / "odd.toml").write_text(FLOW.replace("TYPE", "float64"))
    checked = ask(folder, "check", "flow.toml", library="/nowhere.so")
    assert checked.returncode == 0, checked.stderr
    ran = ask(folder, "run", "flow.toml", library="/nowhere.so")
    assert ran.returncode == 1 and "pip install --target DIR onnxruntime" in ran.stderr, ran.stderr
    checked = ask(folder, "check", "odd.toml")
    assert checked.returncode == 2 and "`country` (utf8)" in checked.stderr + checked.stdout, checked
    train = 'type = "train"\nlabel = "country"\nestimator = { type = "onnx", inputs = [], output = "x", columns = 1, gives = "number" }\n'
    (folder / "train.toml").write_text(FLOW.replace("TYPE", "utf8").replace('type = "predict"\n', train).replace("columns@champion", "mine"))
    checked = ask(folder, "check", "train.toml")
    assert checked.returncode == 2 and "`type` can't be `onnx`" in checked.stderr, checked
    (folder / "damaged.onnx").write_bytes((folder / "columns.onnx").read_bytes()[:700])
    imported = ask(folder, "models", "import", "damaged.onnx", "--name", "damaged")
    assert imported.returncode == 1 and "importing `damaged.onnx`" in imported.stderr, imported
    print("what is wrong is said")


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    for part in [write_ours, read_ours, read_theirs, serve, say_what_is_wrong]:
        part(folder)
