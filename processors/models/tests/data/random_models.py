"""Compares models that the program learns from random rows with references: scikit-learn's estimators where it has them, and
elsewhere the documented rules, computed in float64, or in float32 for networks, by numpy. `tests/differential/models` runs it:

    python random_models.py PROGRAM SEED

Every prediction is compared that was made before its row was learned, so a single row that is learned otherwise is found.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import sklearn
from safetensors.numpy import load_file
from scipy.sparse import csr_matrix
from sklearn import metrics
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.metrics.pairwise import rbf_kernel

assert sklearn.__version__ == "1.9.1"

OF_CLASSES = ["hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron"]
OF_NUMBERS = ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]
# Larger predictions mean that a model diverges, which blows up every rounding.
LARGEST = 1e6


class Data:
    """Random rows: numbers of which some are constant, huge, tiny or missing, texts, and labels of several kinds."""

    def __init__(self, random, rows, missing):
        self.random, self.rows, self.missing = random, rows, missing
        signal = random.normal(size=rows)
        self.numbers = {
            "normal": signal + random.normal(size=rows) * 0.3,
            "constant": np.full(rows, float(random.integers(-3, 4))),
            "huge": random.normal(size=rows) * 10.0 ** random.integers(3, 9) + 1e9,
            "tiny": random.normal(size=rows) * 10.0 ** -random.integers(3, 9),
            "skewed": np.exp(random.normal(size=rows) * 2),
            "sparse": np.where(random.random(rows) < 0.9, 0.0, random.normal(size=rows) * 3),
        }
        if missing:
            for values in self.numbers.values():
                values[random.random(rows) < 0.1] = np.nan
        words = [f"w{word}" for word in range(6)]
        self.words = [str(word) for word in random.choice(words, rows, p=[0.4, 0.3, 0.15, 0.1, 0.03, 0.02])]
        noisy = signal + random.normal(size=rows) * 0.5
        self.flag = noisy > random.choice([0.0, 1.5])  # half of them, or one of fifteen
        self.kind = np.digitize(noisy, [-0.5, 0.4, 2.0])  # the last is rare
        self.amount = signal * 2 + random.normal(size=rows) * 0.2 + 1

    def write(self, path):
        """CSV with the shortest texts that read back as the same numbers."""
        text = lambda value: "" if isinstance(value, float) and math.isnan(value) else str(value).lower()
        columns = [[text(float(value)) for value in values] for values in self.numbers.values()]
        columns += [self.words, [text(bool(flag)) for flag in self.flag], [str(kind) for kind in self.kind]]
        columns.append([text(float(amount)) for amount in self.amount])
        lines = [",".join([*self.numbers, "word", "flag", "kind", "amount"]), *map(",".join, zip(*columns))]
        path.write_text("\n".join(lines) + "\n")

    def schema(self):
        number = "float64?" if self.missing else "float64"
        columns = {name: number for name in self.numbers}
        return columns | {"word": "utf8", "flag": "boolean", "kind": "int64", "amount": "float64"}


def toml(value):
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{ " + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case str():
            return json.dumps(value)
        case _:
            return repr(value)


class Model:
    """A `train` node, and what became of it."""

    def __init__(self, name, label, estimator, encoders):
        self.name, self.label, self.estimator, self.encoders = name, label, estimator, encoders
        self.what = f"{toml(estimator)}, label {label}, features {toml(encoders)}"

    def table(self, missing):
        settings = {"type": "train", "from": "rows", "model": self.name, "label": self.label}
        settings |= {"features": self.encoders, "estimator": self.estimator}
        if missing:
            settings["missing"] = "mean"
        if self.label == "kind":
            settings["classes"] = [0, 1, 2, 3]
        output = {"type": "file", "from": self.name, "path": f"{self.name}.ndjson"}
        evaluation = {"type": "evaluate", "from": self.name, "label": self.label}
        tables = {f"processor.{self.name}": settings, f"output.{self.name}_rows": output}
        return tables | {f"processor.{self.name}_evaluation": evaluation}

    def read(self, folder, summary):
        lines = (folder / f"{self.name}.ndjson").read_text().splitlines()
        self.out = [json.loads(line) for line in lines]
        self.metrics = dict(summary["models"][self.name]["metrics"])
        self.evaluation = dict(summary["evaluations"][f"{self.name}_evaluation"]["metrics"])
        self.file = folder / f"models/{self.name}/versions/00000001/model.safetensors"

    def found(self):
        """What was predicted, a row each: numbers, probabilities or scores."""
        one, all = ("score", "scores") if "score" in self.out[0] else ("probability", "probabilities")
        if self.label == "amount":
            return np.array([[row["prediction"]] for row in self.out])
        if self.label == "flag":
            return np.array([[row[one]] for row in self.out])
        return np.array([[row[all][str(kind)] for kind in range(4)] for row in self.out])


def run(program, data, models, batch_rows):
    """Learns the models, and returns those that have not diverged; one that has ends its flow."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data.write(folder / "rows.csv")
        source = {"type": "file", "path": "rows.csv", "schema": data.schema(), "batch_rows": batch_rows}
        tables = {"input.rows": source}
        for model in models:
            tables |= model.table(data.missing)
        lines = []
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {toml(value)}" for key, value in table.items())]
        flow = folder / "models.toml"
        flow.write_text("\n".join(lines) + "\n")
        ran = subprocess.run([program, "run", "--json", flow.name], cwd=folder, capture_output=True, text=True)
        summary = json.loads((ran.stdout.splitlines() or ["{}"])[-1])
        if summary.get("status") == "failed" and "it has diverged" in summary["error"]["message"]:
            others = [model for model in models if model.name != summary["error"]["node"]]
            return run(program, data, others, batch_rows)
        if ran.returncode != 0:
            raise SystemExit(f"{flow.read_text()}\n{ran.stderr}{ran.stdout}")
        for model in models:
            model.read(folder, summary)
            if model.estimator["type"] == "network":
                model.tensors = load_file(model.file)
        return models


class Encoded:
    """The rows as a model sees them: each before it is learned, and when it is."""

    def __init__(self, data, encoders):
        self.before, self.after = [], []
        columns = [self.column(data, name, encoder) for name, encoder in encoders.items()]
        # Numbers stand before slots.
        columns.sort(key=lambda column: column[2])
        self.before = np.hstack([before for before, _, _ in columns])
        self.after = np.hstack([after for _, after, _ in columns])
        self.numbers = sum(before.shape[1] for before, _, is_slots in columns if not is_slots)
        self.has_slots = self.numbers < self.before.shape[1]

    def as_learned(self, is_sparse):
        """The rows as they are learned; if they are sparse, of the slots only those in use, and all numbers, also zeros."""
        if not is_sparse:
            return self.after
        used = (self.after != 0) | (np.arange(self.after.shape[1]) < self.numbers)
        places = [np.flatnonzero(row) for row in used]
        ends = np.cumsum([0, *map(len, places)])
        return csr_matrix((self.after[used], np.concatenate(places), ends), shape=self.after.shape)

    def column(self, data, name, encoder):
        match encoder:
            case {"one_hot": slots}:
                return (*self.one_hot(data.words, slots), True)
            case _:
                return (*self.number(data.numbers[name], encoder == "raw"), False)

    @staticmethod
    def number(values, is_raw):
        """Welford's method. What is missing is the mean, and changes nothing."""
        count = mean = variance = 0.0
        encode = lambda x: x if is_raw else (x - mean) / math.sqrt(variance) if variance > 0 else 0.0
        before, after = [], []
        for value in values.tolist():
            x = mean if math.isnan(value) else value
            before.append([encode(x)])
            if not math.isnan(value):
                count += 1
                step = x - mean
                mean += step / count
                variance += (step * (x - mean) - variance) / count
            # A raw number that is missing is the mean as it was; so is a standardised one, which is 0.
            after.append([encode(x)])
        return np.array(before), np.array(after)

    @staticmethod
    def one_hot(words, slots):
        """The first values get a slot each, others the last one. A value that is not known has the one that is free."""
        known = {}
        before = np.zeros((len(words), slots))
        for row, word in enumerate(words):
            slot = known.get(word, min(len(known), slots - 1))
            before[row, slot] = 1
            if word not in known and len(known) < slots:
                known[word] = slot
        return before, before.copy()


def clipped(gradient):
    return min(max(gradient, -1e12), 1e12)


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def linear(model, data, encoded, target):
    """River's linear and logistic regression: one step a row, and only weights in use feel the penalty."""
    rate, l2 = model.estimator["learning_rate"], model.estimator.get("l2", 0.0)
    counts = model.estimator.get("class_weight", {})
    weights, intercept = np.zeros(encoded.before.shape[1]), 0.0
    is_logistic = model.estimator["type"] == "logistic_regression"
    for before, after, y in zip(encoded.before, encoded.after, target):
        predicted = before @ weights + intercept
        yield [sigmoid(predicted) if is_logistic else predicted]
        sum = after @ weights + intercept
        gradient = sigmoid(sum) - y if is_logistic else 2 * (sum - y)
        gradient = clipped(gradient) * counts.get(str(bool(y)).lower(), 1.0)
        used = np.arange(len(after)) < encoded.numbers
        used |= after != 0
        intercept -= rate * gradient
        weights -= rate * (gradient * after + l2 * weights) * used


def softmax(model, data, encoded, target):
    """River's softmax regression: a class takes part from its first row on, and there is no intercept."""
    rate, l2 = model.estimator["learning_rate"], model.estimator.get("l2", 0.0)
    counts = model.estimator.get("class_weight", {})
    weights = np.zeros((4, encoded.before.shape[1]))
    seen = np.zeros(4, dtype=bool)

    def probabilities(row):
        if not seen.any():
            return np.full(4, 0.25)
        sums = np.where(seen, weights @ row, -np.inf)
        powers = np.exp(sums - sums.max())
        return powers / powers.sum()

    for before, after, y in zip(encoded.before, encoded.after, target):
        yield probabilities(before)
        given = probabilities(after)
        if not seen[y]:
            seen[y], given[y] = True, 0.0
        gradient = (np.clip(given, 1e-15, 1 - 1e-15) - (np.arange(4) == y)) * counts.get(str(y), 1.0)
        used = (np.arange(len(after)) < encoded.numbers) | (after != 0)
        step = rate * (np.outer(gradient, after) + l2 * weights) * used
        weights[seen] -= step[seen]


def nystroem(model, data, encoded, target):
    """River's estimators over scikit-learn's Nyström features of landmarks, which are the first rows that differ."""
    count, gamma, left = (model.estimator[key] for key in ("n_components", "gamma", "after"))
    landmarks, root, rows = [], None, []
    for row in encoded.before:
        rows.append(np.zeros(count) if root is None else rbf_kernel([row], landmarks, gamma=gamma)[0] @ root)
        left -= 1
        if root is None and left < 0 and not any((row == other).all() for other in landmarks):
            landmarks.append(row)
            if len(landmarks) == count:
                u, values, v = np.linalg.svd(rbf_kernel(landmarks, gamma=gamma))
                root = u / np.sqrt(np.maximum(values, 1e-12)) @ v
    inner = Model(model.name, model.label, model.estimator["estimator"], {})
    reference, _ = REFERENCES[inner.estimator["type"]]
    return reference(inner, data, SimpleNamespace(before=np.array(rows), after=np.array(rows), numbers=count), target)


def sgd(model, data, encoded, target):
    """scikit-learn's. What it predicts for a row by all rows before it, every few rows; `None` for the others."""
    settings = {key: value for key, value in model.estimator.items() if key != "type"} | {"shuffle": False}
    settings["penalty"] = None if settings.get("penalty") == "none" else settings.get("penalty", "l2")
    is_classifier = model.estimator["type"] == "sgd_classifier"
    if is_classifier and "class_weight" in settings:
        of_name = {"false": 0, "true": 1} | {str(kind): kind for kind in range(4)}
        settings["class_weight"] = {of_name[name]: weight for name, weight in settings["class_weight"].items()}
    average = settings.get("average", False)
    # scikit-learn's average is another one where there is an L1 penalty: ours is the mean of the weights after each row.
    is_mean = average and settings["penalty"] in ("l1", "elasticnet")
    if is_mean:
        settings["average"] = False
    kinds = np.unique([0, 1] if model.label == "flag" else range(4))
    # An L1 penalty draws the weight of a slot when a row uses it, as scikit-learn's does where rows are sparse.
    learns = encoded.as_learned(encoded.has_slots and settings["penalty"] in ("l1", "elasticnet"))

    def learned(rows):
        if not is_classifier:
            return SGDRegressor(**settings).partial_fit(learns[:rows], target[:rows])
        return SGDClassifier(**settings).partial_fit(learns[:rows], target[:rows], classes=kinds)

    # A row of zeros tells `pa1` nothing, and is not counted.
    counts = encoded.after.any(axis=1) | (settings.get("learning_rate") != "pa1")
    sums, first = 0.0, 1 if average is True else average
    for row, before in enumerate(encoded.before):
        if row == 0:
            yield None
            continue
        if is_mean:
            one = learned(row)
            parameters = np.hstack([np.atleast_2d(one.coef_), np.atleast_1d(one.intercept_)[:, None]])
            learned_rows = counts[:row].sum()
            if counts[row - 1] and learned_rows >= first:
                sums = sums + parameters
            if learned_rows >= first:
                parameters = sums / (learned_rows - first + 1)
            scores = parameters @ np.append(before, 1.0)
        elif row % 9 == 0 or row == len(target) - 1:
            one = learned(row)
            scores = np.atleast_1d(one.decision_function([before])[0] if is_classifier else one.predict([before])[0])
        else:
            yield None
            continue
        yield chances(scores, settings.get("loss"))


def chances(scores, loss):
    """Scores as probabilities, where the loss has such; of several classes in shares of one."""
    match loss:
        case "log_loss":
            scores = np.array([sigmoid(score) for score in scores])
        case "modified_huber":
            scores = (np.clip(scores, -1, 1) + 1) / 2
        case _:
            return scores
    if len(scores) == 1:
        return scores
    return scores / scores.sum() if scores.sum() > 0 else np.full(4, 0.25)


ACTIVATIONS = {
    "relu": (lambda x: np.maximum(x, 0), lambda x, y: (x > 0).astype(np.float32)),
    "leaky_relu": (lambda x: np.where(x > 0, x, np.float32(0.01) * x), lambda x, y: np.where(x > 0, 1, 0.01)),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x, y: np.where(x > 0, 1, y + 1)),
    "tanh": (np.tanh, lambda x, y: 1 - y * y),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x, y: y * (1 - y)),
    "linear": (lambda x: x, lambda x, y: np.ones_like(x)),
}


def network(model, data, encoded, target):
    """Batches of rows, each predicted by the network before the batch; in float32, from the first weights of the file."""
    estimator = model.estimator
    activations = [layer["activation"] for layer in estimator["layers"]] + ["linear"]
    layers = [
        [model.first[f"estimator.{layer}.{part}"].copy() for part in ("weights", "bias")]
        for layer in range(len(activations))
    ]
    moments = [[[np.zeros_like(part), np.zeros_like(part)] for part in layer] for layer in layers]
    batch_rows, batch = estimator["batch_rows"], 0

    def forward(x):
        trace = [x.astype(np.float32)]
        for (weights, bias), activation in zip(layers, activations):
            sums = trace[-1] @ weights + bias
            trace += [sums, ACTIVATIONS[activation][0](sums).astype(np.float32)]
        return trace

    for start in range(0, len(target), batch_rows):
        rows = slice(start, start + batch_rows)
        for output in forward(encoded.before[rows])[-1].astype(np.float64):
            yield given(output, model.label)
        y = target[rows]
        if len(y) < batch_rows:
            return
        batch += 1
        trace = forward(encoded.after[rows])
        output = trace[-1].astype(np.float64)
        match model.label:
            case "flag":
                gradient = 1 / (1 + np.exp(-output)) - y[:, None]
            case "kind":
                powers = np.exp(output - output.max(axis=1, keepdims=True))
                gradient = powers / powers.sum(axis=1, keepdims=True) - np.eye(4)[y]
            case _:
                gradient = output - y[:, None].astype(np.float32)
                if estimator.get("loss") == "huber":
                    gradient = np.clip(gradient, -1, 1)
                elif estimator.get("loss") == "absolute_error":
                    gradient = np.sign(gradient)
        gradient = (gradient / batch_rows).astype(np.float32)
        for number in reversed(range(len(layers))):
            x, sums, y = trace[2 * number : 2 * number + 3]
            gradient = gradient * ACTIVATIONS[activations[number]][1](sums, y).astype(np.float32)
            weights = layers[number][0]
            of_parts = [x.T @ gradient, gradient.sum(axis=0)]
            gradient = gradient @ weights.T
            for part, of_part, remembered in zip(layers[number], of_parts, moments[number]):
                follow(estimator["optimizer"], batch, part, of_part, remembered)


def given(output, label):
    match label:
        case "flag":
            return [sigmoid(output[0])]
        case "kind":
            powers = np.exp(output - output.max())
            return powers / powers.sum()
    return output


def follow(optimizer, batch, part, gradient, remembered):
    rate = np.float32(optimizer["learning_rate"])
    if optimizer["type"] == "sgd":
        remembered[0] = np.float32(optimizer.get("momentum", 0.0)) * remembered[0] - rate * gradient
        part += remembered[0]
        return
    beta1, beta2 = np.float32(0.9), np.float32(0.999)
    remembered[0] = beta1 * remembered[0] + (1 - beta1) * gradient
    remembered[1] = beta2 * remembered[1] + (1 - beta2) * gradient * gradient
    mean, square = remembered[0] / np.float32(1 - 0.9**batch), remembered[1] / np.float32(1 - 0.999**batch)
    part *= np.float32(1 - optimizer["learning_rate"] * optimizer.get("weight_decay", 0.0))
    part -= rate * mean / (np.sqrt(square) + np.float32(1e-8))


class Report:
    """Counts what was compared, and shows what differs."""

    def __init__(self):
        self.models, self.numbers, self.differences, self.diverged = 0, 0, 0, 0

    def compare(self, model, expected, tolerance):
        self.models += 1
        found = model.found()
        for row, wanted in enumerate(expected):
            if wanted is None:
                continue
            wanted = np.asarray(wanted, dtype=np.float64)
            if not (np.abs(wanted) < LARGEST).all():
                self.diverged += 1
                return
            self.numbers += len(wanted)
            near = np.abs(found[row] - wanted) <= tolerance * np.maximum(np.abs(wanted), 1)
            if not near.all():
                return self.differs(model, f"row {row}: {found[row].tolist()}, expected {wanted.tolist()}")

    def compare_metrics(self, model, expected):
        for of, found in (("train", model.metrics), ("evaluate", model.evaluation)):
            for name, wanted in expected.items():
                self.numbers += 1
                if name not in found or of == "evaluate" and found[name] is None and "score" in model.out[0]:
                    continue
                actual = math.nan if found[name] is None else found[name]
                near = abs(actual - wanted) <= 1e-9 * max(abs(wanted), 1)
                if not (near or math.isnan(actual) and math.isnan(wanted)):
                    self.differs(model, f"{name} of {of} is {actual}, expected {wanted}")

    def differs(self, model, what):
        self.differences += 1
        print(f"{model.what}\n  {what}")


def figures(model, target):
    """The metrics of scikit-learn on what was predicted."""
    if model.label == "amount":
        predicted = np.array([row["prediction"] for row in model.out])
        rmse = math.sqrt(metrics.mean_squared_error(target, predicted))
        return {"mae": metrics.mean_absolute_error(target, predicted), "rmse": rmse, "r2": metrics.r2_score(target, predicted)}
    predicted = np.array([int(row["prediction"]) for row in model.out])
    is_binary = model.label == "flag"
    average = {"average": "binary"} if is_binary else {"average": "macro", "labels": np.unique(target)}
    expected = {
        "accuracy": metrics.accuracy_score(target, predicted),
        "recall": metrics.recall_score(target, predicted, **average),
        "kappa": metrics.cohen_kappa_score(target, predicted),
        "balanced_accuracy": metrics.recall_score(target, predicted, average="macro", labels=np.unique(target)),
    }
    if set(predicted) >= set(target):
        expected["precision"] = metrics.precision_score(target, predicted, **average)
        expected["f1"] = metrics.f1_score(target, predicted, **average)
    if "score" in model.out[0]:
        return expected
    given = model.found()
    if is_binary:
        given = np.hstack([1 - given, given])
        expected["auc"] = metrics.roc_auc_score(target, binned(given[:, 1]))
        expected["pr_auc"] = metrics.average_precision_score(target, binned(given[:, 1]))
        expected["brier"] = metrics.brier_score_loss(target, given[:, 1])
        expected["ece"] = calibration_error(given[:, 1], target == 1)
    else:
        expected["brier"] = ((given - np.eye(4)[target]) ** 2).sum(axis=1).mean()
        expected["ece"] = calibration_error(given.max(axis=1), given.argmax(axis=1) == target)
    of_class = np.clip(given[np.arange(len(target)), target], 1e-15, 1 - 1e-15)
    expected["log_loss"] = -np.log(of_class).mean()
    return expected


def calibration_error(probabilities, came_true):
    """How far 15 bins of the same width are from how often what they say comes true."""
    bins = np.minimum((probabilities * 15).astype(int), 14)
    off = [abs((probabilities - came_true)[bins == number].sum()) for number in range(15)]
    return sum(off) / len(probabilities)


def binned(probabilities):
    """The numbers of the bins in which areas are counted: 512 to a doubling, up to a half and down from 1."""
    half, first = 63 * 512 + 2, ((1023 - 64) << 9) - 1
    near = np.where(probabilities > 0.5, 1 - probabilities, probabilities)
    bins = np.maximum((near.view(np.int64) >> 43) - first, 0)
    return np.where(probabilities > 0.5, 2 * half - 2 - bins, bins)


def encoders(random, data, is_raw):
    """Some columns. Numbers of any size are standardised; as they are, only small ones are."""
    names = ["normal", "tiny", "sparse", "constant"] if is_raw else list(data.numbers)
    chosen = random.choice(names, random.integers(1, len(names) + 1), replace=False)
    of_numbers = {str(name): "raw" if is_raw else "standardise" for name in chosen}
    is_one_hot = random.random() < 0.5
    return of_numbers | ({"word": {"one_hot": int(random.choice([3, 8]))}} if is_one_hot else {})


def weights_of_classes(random, label):
    if label == "amount" or random.random() < 0.7:
        return {}
    names = ["true", "false"] if label == "flag" else ["0", "3"]
    return {"class_weight": {str(random.choice(names)): float(random.choice([0.5, 3.0]))}}


def of_river(random, label):
    types = {"flag": "logistic_regression", "kind": "softmax_regression", "amount": "linear_regression"}
    rate = float(random.choice([0.001, 0.01, 0.02]))
    estimator = {"type": types[label], "learning_rate": rate, "l2": float(random.choice([0.0, 0.001, 0.1]))}
    return estimator | weights_of_classes(random, label)


def of_scikit_learn(random, label):
    is_number = label == "amount"
    loss = str(random.choice(OF_NUMBERS if is_number else OF_CLASSES))
    rate = str(random.choice(["constant", "optimal", "invscaling"]))
    # Such that few diverge: `optimal` starts with large steps where alpha is small.
    alpha = 0.3 if rate == "optimal" else float(random.choice([0.0001, 0.01, 0.3]))
    estimator = {"type": "sgd_regressor" if is_number else "sgd_classifier", "loss": loss, "learning_rate": rate}
    estimator |= {"penalty": str(random.choice(["l2", "l1", "elasticnet", "none"])), "alpha": alpha}
    estimator |= {"eta0": float(random.choice([0.001, 0.01])), "fit_intercept": bool(random.random() < 0.8)}
    if random.random() < 0.3:
        estimator["average"] = [True, 50][random.integers(2)]
    if loss in ("hinge", "epsilon_insensitive") and random.random() < 0.3:
        estimator |= {"learning_rate": str(random.choice(["pa1", "pa2"])), "eta0": 0.1, "fit_intercept": False}
    return estimator | weights_of_classes(random, label)


def of_landmarks(random, label):
    estimator = {"type": "nystroem", "estimator": of_river(random, label), "n_components": int(random.integers(1, 12))}
    return estimator | {"gamma": float(random.choice([0.05, 0.5, 2.0])), "after": int(random.choice([0, 30]))}


def of_layers(random, label):
    optimizers = [
        {"type": "sgd", "learning_rate": 0.05},
        {"type": "sgd", "learning_rate": 0.02, "momentum": 0.9},
        {"type": "adam", "learning_rate": 0.01},
        {"type": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
    ]
    layer = lambda: {"dense": int(random.integers(1, 20)), "activation": str(random.choice(list(ACTIVATIONS)))}
    estimator = {"type": "network", "layers": [layer() for _ in range(random.integers(1, 3))]}
    estimator |= {"optimizer": optimizers[random.integers(len(optimizers))], "seed": int(random.integers(1000))}
    if label == "amount":
        estimator["loss"] = str(random.choice(["squared_error", "huber", "absolute_error"]))
    return estimator | {"batch_rows": int(random.choice([1, 16, 50]))}


REFERENCES = {
    "logistic_regression": (linear, 1e-8),
    "linear_regression": (linear, 1e-8),
    "softmax_regression": (softmax, 1e-8),
    "sgd_classifier": (sgd, 1e-6),
    "sgd_regressor": (sgd, 1e-6),
    "network": (network, 2e-3),
    "nystroem": (nystroem, 1e-6),
}


def first_weights(program, data, models):
    """What networks are before they learn: those of which no batch is complete, since there are fewer rows than one has."""
    few = Data(np.random.default_rng(0), 1, data.missing)
    longer = [Model(model.name, model.label, model.estimator | {"batch_rows": 1000}, model.encoders) for model in models]
    run(program, few, longer, 8192)
    for model, first in zip(models, longer):
        model.first = first.tensors


def main(program, seed):
    random = np.random.default_rng(seed)
    report = Report()
    for number in range(12):
        data = Data(random, int(random.integers(150, 400)), missing=number % 3 == 2)
        targets = {"flag": data.flag.astype(int), "kind": data.kind, "amount": data.amount}
        models = []
        for of in [of_river] * 4 + [of_scikit_learn] * 9 + [of_landmarks] * 2 + [of_layers] * 3:
            label = str(random.choice(list(targets)))
            is_raw = random.random() < 0.4 and of is not of_layers
            chosen = encoders(random, data, is_raw)
            if of is of_layers:
                chosen.pop("word", None)
            estimator = of(random, label)
            if "word" in chosen and estimator.get("penalty") in ("l1", "elasticnet"):
                # Of sparse rows scikit-learn moves the intercept more slowly.
                estimator["fit_intercept"] = False
            models.append(Model(f"m{len(models)}", label, estimator, chosen))
        networks = [model for model in models if model.estimator["type"] == "network"]
        first_weights(program, data, networks)
        converged = run(program, data, models, int(random.choice([1, 7, 8192])))
        report.diverged += len(models) - len(converged)
        for model in converged:
            reference, tolerance = REFERENCES[model.estimator["type"]]
            target = targets[model.label]
            report.compare(model, reference(model, data, Encoded(data, model.encoders), target), tolerance)
            report.compare_metrics(model, figures(model, target))
    print(f"{report.models} models, {report.numbers} numbers, {report.diverged} diverged: {report.differences} differences")
    return 1 if report.differences or report.diverged > report.models / 4 else 0


if __name__ == "__main__":
    np.seterr(over="ignore")  # of sigmoids, which are 0 then
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
