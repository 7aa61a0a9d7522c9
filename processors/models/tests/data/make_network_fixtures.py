"""Writes network.ndjson, the fixture of src/estimator/network/tests.rs: what scikit-learn's MLPClassifier and MLPRegressor
become of given weights when they learn the rows of the other fixtures, 50 at a time.

Made with scikit-learn 1.9.1 on Python 3.11: `pip install scikit-learn==1.9.1 && python make_network_fixtures.py`, in this
folder.
"""

import csv
import json

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor

assert sklearn.__version__ == "1.9.1"

BATCH_ROWS = 50


def read(name, features):
    with open(f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    x = np.array([[float(value) for value in list(row.values())[:features]] for row in rows])
    return x, np.array([row["y"] for row in rows])


def weights(model):
    layers = zip(model.coefs_, model.intercepts_)
    return [{"weights": w.round(6).tolist(), "bias": b.round(6).tolist()} for w, b in layers]


def write(file, data, model, x, y, settings):
    model.set_params(alpha=0.0, shuffle=False, hidden_layer_sizes=(8, 5), random_state=7, nesterovs_momentum=False, epsilon=1e-30)
    known = {"classes": np.unique(y)} if isinstance(model, MLPClassifier) else {}
    # The first call makes the weights, and moves them by nothing; the second makes another optimizer. Two digits are as
    # random as more.
    model.set_params(learning_rate_init=1e-300)
    model.partial_fit(x[:BATCH_ROWS], y[:BATCH_ROWS], **known)
    model.set_params(learning_rate_init=0.01)
    del model._optimizer
    model.coefs_ = [w.round(2) for w in model.coefs_]
    model.intercepts_ = [b.round(2) for b in model.intercepts_]
    before = weights(model)
    for start in range(0, len(x), BATCH_ROWS):
        batch = slice(start, start + BATCH_ROWS)
        model.partial_fit(x[batch], y[batch])
    line = {"data": data, "settings": settings, "before": before, "after": weights(model)}
    file.write(json.dumps(line) + "\n")


def layers(activation):
    return [{"dense": 8, "activation": activation}, {"dense": 5, "activation": activation}]


# The epsilon is so small that it does not matter that scikit-learn adds it before the corrections of the means.
ADAM = {"type": "adam", "learning_rate": 0.01, "epsilon": 1e-30}
SGD = {"type": "sgd", "learning_rate": 0.01, "momentum": 0.9}

phishing_x, phishing_y = read("phishing", 9)
segments_x, segments_y = read("segments", 18)
approval_x, approval_y = read("approval", 6)
segments_x, approval_x, approval_y = segments_x / 100, approval_x[:, 1:] / 100, approval_y.astype(float) / 10

with open("network.ndjson", "w") as file:
    for activation, known in [("relu", "relu"), ("tanh", "tanh"), ("sigmoid", "logistic")]:
        for optimizer, solver in [(ADAM, "adam"), (SGD, "sgd")]:
            settings = {"layers": layers(activation), "optimizer": optimizer, "batch_rows": BATCH_ROWS}
            classifier = {"activation": known, "solver": solver}
            write(file, "phishing", MLPClassifier(**classifier), phishing_x, phishing_y == "True", settings)
            write(file, "segments", MLPClassifier(**classifier), segments_x, segments_y, settings)
            write(file, "approval", MLPRegressor(**classifier), approval_x, approval_y, settings)
