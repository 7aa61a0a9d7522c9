"""Learns a model of every estimator that can be written as ONNX, on real rows, writes it, and compares what onnxruntime predicts by the file with
what `millstream predict` says. `tests/onnx` runs it:

    python onnx.py PROGRAM
"""

import csv
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

# This file is called as the package is.
sys.path.pop(0)
import numpy as np
import onnx
import onnxruntime

PROGRAM = sys.argv[1]
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
    ("adaptive_random_forest", FOREST, BINARY + SEVERAL, {}),
    ("adaptive_random_forest_regressor", FOREST, NUMBERS, {}),
    ("leveraging_bagging", FOREST, ["bananas", "kinds"], {}),
    ("network", NETWORK, BINARY + SEVERAL + NUMBERS, {}),
    ("network", ALL_ACTIVATIONS, ["phishing", "kinds", "sizes"], {}),
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


def run(folder, *arguments, **more):
    ran = subprocess.run([PROGRAM, *arguments], cwd=folder, capture_output=True, text=True, **more)
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
            features = [key for key in rows[0] if key not in LABELS]
            train = {"type": "train", "from": name, "model": model, "label": label, "missing": "mean"} | more
            train["estimator"] = {"type": estimator} | settings
            train["features"] = encoders(features, schema, estimator)
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


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
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
