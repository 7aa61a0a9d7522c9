"""Weights in HDF5 files, both ways. Learns networks and linear models, writes their weights, has Keras read them into models of the same layers, and compares
what these predict with what `millstream predict` says. Has Keras, h5py and safetensors write weights, imports them, and compares the same. `tests/keras` runs it:

    python keras.py PROGRAM
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# This file is called as the package is.
sys.path.pop(0)
os.environ["KERAS_BACKEND"] = "jax"
import h5py
import keras
import numpy as np
from keras import layers
from safetensors.numpy import save_file

PROGRAM = sys.argv[1]
# Keras computes in 32 bits. Numbers are compared as a share of the larger one where that is more than 1.
TOLERANCE = 2e-5
NUMBERS = ["a", "b", "c"]
CLASSES = ["low", "mid", "top"]


def ask(folder, *arguments, **more):
    return subprocess.run([PROGRAM, *map(str, arguments)], cwd=folder, capture_output=True, text=True, **more)


def run(folder, *arguments, **more):
    ran = ask(folder, *arguments, **more)
    assert ran.returncode == 0, f"{arguments}: {ran.stderr}{ran.stdout}"
    return ran.stdout


def make_rows():
    random = np.random.default_rng(11)
    numbers = random.normal(size=(4000, 3)) * [1, 10, 100] + [0, 5, -50]
    words = random.choice(["x", "y", "z"], size=4000)
    amounts = numbers[:, 0] - numbers[:, 1] / 10 + (words == "z") * 2 + random.normal(size=4000) / 10
    classes = np.digitize(amounts, [-1, 1])
    named = zip(numbers, words, amounts, classes)
    return [
        {"a": float(x[0]), "b": float(x[1]), "c": float(x[2]), "word": str(word), "amount": float(amount), "kind": CLASSES[kind], "high": bool(kind == 2)}
        for x, word, amount, kind in named
    ]


ROWS = make_rows()
RAW = np.array([[row[name] for name in NUMBERS] for row in ROWS], dtype=np.float32)
SCHEMA = {"a": "float64", "b": "float64", "c": "float64", "word": "utf8", "amount": "float64", "kind": "utf8", "high": "boolean"}
HIDDEN = '[{ dense = 8, activation = "tanh" }, { dropout = 0.1 }, { normalise = "layer" }, { dense = 4, activation = "ACTIVATION" }]'
STANDARD = '{ a = "standardise", b = "standardise", c = "raw" }'
# By model: estimator, features, label, classes.
MODELS = {
    "net_kind": (f'{{ type = "network", layers = {HIDDEN.replace("ACTIVATION", "relu")} }}', STANDARD, "kind", CLASSES),
    "net_high": (f'{{ type = "network", layers = {HIDDEN.replace("ACTIVATION", "elu")} }}', STANDARD, "high", None),
    "net_amount": (f'{{ type = "network", layers = {HIDDEN.replace("ACTIVATION", "sigmoid")} }}', STANDARD, "amount", None),
    "net_words": ('{ type = "network", layers = [{ dense = 8 }], embedding = 3 }', STANDARD[:-1] + ', word = { one_hot = 5 } }', "amount", None),
    "line": ('{ type = "linear_regression" }', STANDARD.replace("raw", "standardise"), "amount", None),
    "logistic": ('{ type = "logistic_regression" }', STANDARD.replace("raw", "standardise"), "high", None),
    "softmax": ('{ type = "softmax_regression" }', STANDARD.replace("raw", "standardise"), "kind", CLASSES),
    "sgd": ('{ type = "sgd_regressor" }', STANDARD.replace("raw", "standardise"), "amount", None),
}


TREE = """
[processor.tree]
type = "train"
from = "rows"
model = "tree"
label = "high"
estimator = { type = "hoeffding_tree" }
features = ["a", "b", "c"]
[output.tree_rows]
type = "drop"
from = "tree"
"""


def learn(folder):
    (folder / "rows.ndjson").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    schema = ", ".join(f'{name} = "{kind}"' for name, kind in SCHEMA.items())
    lines = ["[input.rows]", 'type = "file"', 'path = "rows.ndjson"', f"schema = {{ {schema} }}"]
    for model, (estimator, features, label, classes) in MODELS.items():
        lines += [f"[processor.{model}]", 'type = "train"', 'from = "rows"', f'model = "{model}"', f'label = "{label}"']
        lines += [f"estimator = {estimator}", f"features = {features}"]
        lines += [f"classes = {json.dumps(classes)}"] if classes else []
        lines += [f"[output.{model}_rows]", 'type = "drop"', f'from = "{model}"']
    (folder / "models.toml").write_text("\n".join(lines) + "\n")
    run(folder, "run", "models.toml")


def dense(activation):
    return [
        layers.Dense(8, activation="tanh"),
        layers.Dropout(0.1),
        layers.LayerNormalization(epsilon=1e-5),
        layers.Dense(4, activation=activation),
    ]


def of_keras(model):
    """A model of Keras of the same layers that knows nothing yet, and what goes in."""
    if model == "net_words":
        numbers, word = layers.Input((3,)), layers.Input((1,), dtype="int32")
        vector = layers.Flatten()(layers.Embedding(5, 3, name="embedding")(word))
        normal = layers.Normalization(name="normalization")(numbers)
        inner = layers.Dense(8, activation="relu", name="dense")(layers.Concatenate()([normal, vector]))
        # Values have their slots in the order in which they came.
        known = list(dict.fromkeys(row["word"] for row in ROWS))
        slots = np.array([[known.index(row["word"])] for row in ROWS])
        return keras.Model([numbers, word], layers.Dense(1, name="dense_1")(inner)), [RAW, slots]
    last = {"kind": (3, "softmax"), "high": (1, "sigmoid"), "amount": (1, None)}[MODELS[model][2]]
    hidden = dense({"net_kind": "relu", "net_high": "elu", "net_amount": "sigmoid"}[model]) if model.startswith("net") else []
    return keras.Sequential([layers.Input((3,)), layers.Normalization(), *hidden, layers.Dense(last[0], activation=last[1])]), RAW


def by_program(folder, model, names):
    lines = "".join(json.dumps({name: row[name] for name in names}) + "\n" for row in ROWS)
    answers = [json.loads(line) for line in run(folder, "predict", f"{model}@latest", input=lines).splitlines()]
    if "probabilities" in answers[0]:
        return np.array([list(answer["probabilities"].values()) for answer in answers])
    return np.array([[answer.get("probability", answer["prediction"])] for answer in answers])


def check(what, found, expected):
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape, (what, found.shape, expected.shape)
    off = (np.abs(found - expected) / np.maximum(1.0, np.abs(expected))).max()
    assert off <= TOLERANCE, f"{what}: {off} off"
    print(f"{what}: at most {off:.1e} off")


def write_ours(folder):
    for model in MODELS:
        names = NUMBERS + (["word"] if model == "net_words" else [])
        expected = by_program(folder, model, names)
        for ending in ["weights.h5", "h5"]:
            file = folder / f"{model}.{ending}"
            said = run(folder, "models", "export", model, "--format", "hdf5", "--output", file)
            assert f"has the weights of {model}/1" in said, said
            same, rows = of_keras(model)
            # The order of layers is that of the file in a chain only.
            by_name = {"by_name": True} if model == "net_words" and ending == "h5" else {}
            same.load_weights(file, **by_name)
            # Which `load_weights` forgets for files of the older layout.
            [layer.finalize_state() for layer in same.layers if isinstance(layer, layers.Normalization)]
            check(f"{model}.{ending} in Keras", same.predict(rows, verbose=0), expected)
    with h5py.File(folder / "line.h5") as file:
        kernel, bias = file["dense/kernel"], file["dense/bias"]
        assert (kernel.shape, kernel.dtype, bias.shape) == ((3, 1), np.float64, (1,))
        assert [name.decode() for name in file.attrs["layer_names"]] == ["normalization", "dense"]
        assert file["millstream/model"][()] == b"line", file["millstream/model"][()]
        mean, variance = file["normalization/mean"][:], file["normalization/variance"][:]
        numbers = np.array([[row[name] for name in NUMBERS] for row in ROWS])
        sums = (numbers - mean) / np.sqrt(variance) @ kernel[:] + bias[:]
        assert np.abs(sums - by_program(folder, "line", NUMBERS)).max() < 1e-9
    print("h5py reads all 64 bits")


def bring(folder, file, name, estimator, *more):
    (folder / "estimator.toml").write_text(estimator)
    run(folder, "models", "import", file, "--name", name, "--features", "a,b,c", "--estimator", "estimator.toml", *more)


def of_classes(model):
    return ["--label", "kind", "--classes", ",".join(CLASSES)] if model == "net_kind" else ["--label", "high", "--classes", "false,true"] if model == "net_high" else []


def table(model):
    estimator = MODELS[model][0].strip("{} ")
    return "\n".join(estimator.split(", ", 1)) + "\n"


def read_ours(folder):
    for model in ["net_kind", "net_high", "net_amount", "line"]:
        bring(folder, f"{model}.h5", f"again_{model}", table(model), *of_classes(model))
        check(f"{model}.h5, read again", by_program(folder, f"again_{model}", NUMBERS), by_program(folder, model, NUMBERS))


def read_theirs(folder):
    for model in ["net_kind", "net_high", "net_amount"]:
        theirs, rows = of_keras(model)
        theirs.layers[0].adapt(rows)
        theirs.compile(optimizer="adam", loss="mse")
        target = np.array([[row["amount"]] for row in ROWS]) if model == "net_amount" else np.eye(3)[:, -theirs.output_shape[1] :][[CLASSES.index(row["kind"]) for row in ROWS]]
        theirs.fit(rows, target, epochs=1, verbose=0)
        expected = theirs.predict(rows, verbose=0)
        theirs.save(folder / "whole.h5")
        theirs.save_weights(folder / "theirs.weights.h5")
        compress(folder / "whole.h5", folder / "compressed.h5")
        for number, file in enumerate(["whole.h5", "theirs.weights.h5", "compressed.h5"]):
            bring(folder, file, f"theirs_{number}_{model}", table(model), *of_classes(model))
            check(f"{file} of {model}", by_program(folder, f"theirs_{number}_{model}", NUMBERS), expected)


def compress(file, into):
    """The weights of a whole model once more, in chunks that are shuffled and compressed."""
    with h5py.File(file) as old, h5py.File(into, "w") as new:

        def copy(name, item):
            if isinstance(item, h5py.Group):
                new.require_group(name).attrs.update(item.attrs)
            elif item.shape:
                new.create_dataset(name, data=item[:], chunks=True, compression="gzip", shuffle=True, fletcher32=True)
            else:
                new.create_dataset(name, data=item[()])

        new.attrs.update(old["model_weights"].attrs)
        old["model_weights"].visititems(copy)


def read_modules(folder):
    random = np.random.default_rng(3)
    first, last = random.normal(size=(8, 3)), random.normal(size=(1, 8))
    tensors = {"net.0.weight": first, "net.0.bias": random.normal(size=8), "net.2.weight": last, "net.2.bias": random.normal(size=1)}
    save_file({name: values.astype(np.float32) for name, values in tensors.items()}, folder / "modules.safetensors")
    bring(folder, "modules.safetensors", "modules", 'type = "network"\nlayers = [{ dense = 8, activation = "tanh" }]\n')
    rows = RAW.astype(np.float64)
    expected = np.tanh(rows @ first.T + tensors["net.0.bias"]) @ last.T + tensors["net.2.bias"]
    check("modules.safetensors", by_program(folder, "modules", NUMBERS), expected)


def say_what_is_wrong(folder):
    """Shapes that differ, folders that are not there, and models without layers."""
    (folder / "file.toml").write_text(table("net_amount").replace("dense = 4", "dense = 5"))
    wrong = ask(folder, "models", "import", "whole.h5", "--name", "wrong", "--features", "a,b,c", "--estimator", "file.toml")
    assert wrong.returncode == 1 and "is of the shape [8, 4], and should be of [8, 5]" in wrong.stderr, wrong.stderr
    with h5py.File(folder / "whole.h5", "r+") as file:
        place = "model_weights/normalization/" + file["model_weights/normalization"].attrs["weight_names"][2]
        del file[place]
        file[place] = h5py.Empty("i4")
    (folder / "file.toml").write_text(table("net_amount"))
    empty = ask(folder, "models", "import", "whole.h5", "--name", "empty", "--features", "a,b,c", "--estimator", "file.toml")
    assert empty.returncode == 1 and "has 0 numbers, and should have 1" in empty.stderr, empty.stderr
    nowhere = ask(folder, "models", "export", "line", "--format", "hdf5", "--output", "/nowhere/line.h5")
    assert nowhere.returncode == 1 and "/nowhere/line.h5" in nowhere.stderr, nowhere.stderr
    flow = (folder / "models.toml").read_text().split("[processor.")[0] + TREE
    (folder / "tree.toml").write_text(flow)
    run(folder, "run", "tree.toml")
    tree = ask(folder, "models", "export", "tree", "--format", "hdf5", "--output", "tree.h5")
    assert tree.returncode == 1 and "neither a network nor a linear model" in tree.stderr, tree.stderr
    print("what is wrong is said")


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    learn(folder)
    for part in [write_ours, read_ours, read_theirs, read_modules, say_what_is_wrong]:
        part(folder)
