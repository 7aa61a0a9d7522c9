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


def write(file, data, estimator, x, y, settings, weights=None):
    model = estimator(shrinking=False, tol=1e-5, **settings)
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
    weights = [[0.5, 1.0, 3.0][row % 3] for row in range(FITTED)]
    write(file, "phishing", SVC, phishing_x, phishing_y, {"C": 2.0}, weights)
    write(file, "approval", SVR, approval_x, approval_y, {"C": 2.0}, weights)
