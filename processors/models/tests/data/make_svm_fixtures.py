"""Writes svm.ndjson, for src/estimator/svm/tests.rs: what scikit-learn's SVC and SVR, fitted to the first 300 rows of the other fixtures, decide for
the rows behind them.

Made with scikit-learn 1.9.1 on Python 3.11: `pip install scikit-learn==1.9.1 && python make_svm_fixtures.py`, in this folder.
"""

import csv
import itertools
import json

import numpy as np
import sklearn
from sklearn.svm import SVC, SVR

assert sklearn.__version__ == "1.9.1"

FITTED, DECIDED = 300, 60
KERNELS = [
    {"kernel": "linear"},
    {"kernel": "rbf"},
    {"kernel": "rbf", "gamma": "auto"},
    {"kernel": "poly", "coef0": 0.5},
    {"kernel": "poly", "degree": 2, "gamma": 0.05},
    {"kernel": "sigmoid", "gamma": 0.01, "coef0": -0.5},
]



def read(name):
    with open(f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def numbers(rows, columns):
    return np.array([[float(value) for value in list(row.values())[columns]] for row in rows])


def chicks():
    """The time, and a column for each chick and each diet, in the order in which they come."""
    rows = read("chicks")
    values = list(dict.fromkeys(row["chick"] for row in rows)) + sorted({row["diet"] for row in rows})
    ones = [[float(value in (row["chick"], row["diet"])) for value in values] for row in rows]
    return np.hstack([numbers(rows, slice(1)) / 10, ones]), np.array([float(row["y"]) / 100 for row in rows])


# Numbers are divided as the tests do it, so that nobody has to agree about how to standardise.
phishing_x, phishing_y = numbers(read("phishing"), slice(9)), np.array([row["y"] == "True" for row in read("phishing")])
segments_x, segments_y = numbers(read("segments"), slice(18)) / 100, np.array([row["y"] for row in read("segments")])
approval_x, approval_y = numbers(read("approval"), slice(1, 6)) / 100, numbers(read("approval"), slice(6, 7))[:, 0] / 10
chicks_x, chicks_y = chicks()


def state(row, map, reps=2, scale=1.0):
    """The amplitudes of a row's qubits, by the formulas of the circuits."""
    row, qubits = row * scale, len(row)
    bits = np.arange(2**qubits)[:, None] >> np.arange(qubits) & 1
    if map == "angle":
        return np.where(bits, np.sin(row / 2), np.cos(row / 2)).prod(axis=1)
    phase = bits @ (2 * row)
    for one, other in itertools.combinations(range(qubits if map == "zz" else 0), 2):
        phase = phase + (bits[:, one] ^ bits[:, other]) * 2 * (np.pi - row[one]) * (np.pi - row[other])
    hadamards = (-1.0) ** (bits @ bits.T) / 2 ** (qubits / 2)
    amplitudes = np.eye(2**qubits)[0]
    for _ in range(reps):
        amplitudes = np.exp(1j * phase) * (hadamards @ amplitudes)
    return amplitudes


def fidelities(x, y, circuit):
    x, y = (np.array([state(row, **circuit) for row in rows]) for rows in (x, y))
    return np.abs(x.conj() @ y.T) ** 2


def write(file, data, estimator, x, y, settings, weights=None):
    known = dict(settings)
    if isinstance(settings["kernel"], dict):
        circuit = settings["kernel"]["quantum"]
        known["kernel"] = lambda one, other: fidelities(one, other, circuit)
    model = estimator(shrinking=False, tol=1e-5, **known)
    model.fit(x[:FITTED], y[:FITTED], sample_weight=weights)
    behind = x[FITTED : FITTED + DECIDED]
    decided = model.predict(behind) if estimator is SVR else model.decision_function(behind)
    decided = decided.reshape(len(behind), -1).tolist()
    weights = [] if weights is None else weights
    line = {"data": data, "settings": {"tol": 1e-5, **settings}, "weights": weights, "decided": decided}
    print(json.dumps(line), file=file)


with open("svm.ndjson", "w") as file:
    for kernel, c in itertools.product(KERNELS, [0.5, 3.0]):
        settings = {**kernel, "C": c}
        write(file, "phishing", SVC, phishing_x, phishing_y, settings)
        write(file, "segments", SVC, segments_x, segments_y, settings)
        for epsilon in [0.01, 0.2]:
            # Powers of columns that are almost the same take libsvm minutes.
            if settings["kernel"] != "poly":
                write(file, "approval", SVR, approval_x, approval_y, {**settings, "epsilon": epsilon})
            write(file, "chicks", SVR, chicks_x, chicks_y, {**settings, "epsilon": epsilon})
    for quantum in [{"map": "zz", "reps": 1, "scale": 0.5}, {"map": "z"}, {"map": "angle", "scale": 2.0}]:
        settings = {"kernel": {"quantum": quantum}, "C": 3.0}
        write(file, "approval", SVR, approval_x, approval_y, {**settings, "epsilon": 0.01})
        write(file, "phishing", SVC, phishing_x, phishing_y, settings)
    weights = [[0.5, 1.0, 3.0][row % 3] for row in range(FITTED)]
    write(file, "phishing", SVC, phishing_x, phishing_y, {"kernel": "rbf", "C": 2.0}, weights)
    write(file, "approval", SVR, approval_x, approval_y, {"kernel": "rbf", "C": 2.0}, weights)
