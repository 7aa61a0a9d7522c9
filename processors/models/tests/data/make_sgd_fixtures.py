"""Writes the fixtures of src/estimator/sgd/tests.rs. sgd.ndjson: what scikit-learn's SGDClassifier and SGDRegressor learn from
the rows of the other fixtures, for every loss, penalty and learning rate. digits.csv: digits as they come, and what
SGDClassifier predicts for each before it learns it, with the losses that have probabilities.

Made with scikit-learn 1.9.1 on Python 3.11: `pip install scikit-learn==1.9.1 && python make_sgd_fixtures.py`, in this
folder.
"""

import csv
import itertools
import json

import numpy as np
import sklearn
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier, SGDRegressor

assert sklearn.__version__ == "1.9.1"

OF_CLASSES = ["hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron"]
OF_NUMBERS = ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]
CURVED = ["modified_huber", "huber", "squared_hinge", "squared_error", "squared_epsilon_insensitive"]
PENALTIES = ["l2", "l1", "elasticnet", "none"]
RATES = ["constant", "optimal", "invscaling"]


def read(name, features):
    with open(f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    x = np.array([[float(value) for value in list(row.values())[:features]] for row in rows])
    return x, [row["y"] for row in rows]


phishing_x, phishing_y = read("phishing", 9)
phishing_y = np.array([value == "True" for value in phishing_y])
segments_x, segments_y = read("segments", 18)
segments_y = np.array(segments_y)
approval_x, approval_y = read("approval", 6)
approval_x = approval_x[:, 1:]  # without the date
approval_y = np.array(approval_y, dtype=float)
# So that the numbers of all columns are of one size, and nobody has to agree about how to standardise.
segments_x, approval_x, approval_y = segments_x / 100, approval_x / 100, approval_y / 10


def one_hot():
    """The chicks, each a column, and the diets behind them, in the order in which they come; and before them the time."""
    with open("chicks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    values = list(dict.fromkeys(row["chick"] for row in rows)) + sorted({row["diet"] for row in rows})
    x = np.zeros((len(rows), 1 + len(values)))
    for number, row in enumerate(rows):
        x[number, 0] = float(row["time"]) / 10
        x[number, 1 + values.index(row["chick"])] = 1
        x[number, 1 + values.index(row["diet"])] = 1
    return csr_matrix(x), np.array([float(row["y"]) / 100 for row in rows])


def write(file, data, estimator, x, y, settings):
    known = dict(settings, shuffle=False)
    known["penalty"] = None if settings.get("penalty") == "none" else settings.get("penalty", "l2")
    known["class_weight"] = settings.get("class_weight") and {
        {"true": True, "false": False}.get(name, name): weight for name, weight in settings["class_weight"].items()
    }
    if estimator is SGDRegressor:
        del known["class_weight"]
        model = estimator(**known).partial_fit(x, y)
    else:
        model = estimator(**known).partial_fit(x, y, classes=np.unique(y))
    line = {
        "data": data,
        "settings": settings,
        "intercept": np.atleast_1d(model.intercept_).tolist(),
        "coefficients": np.atleast_2d(model.coef_).tolist(),
    }
    file.write(json.dumps(line) + "\n")


def alpha(loss, rate):
    """Such that nothing diverges, and no rounding is blown up: `optimal` starts with large steps where alpha is small."""
    return 0.3 if rate == "optimal" and loss in CURVED else 0.001


with open("sgd.ndjson", "w") as file:
    def classify(**settings):
        write(file, "phishing", SGDClassifier, phishing_x, phishing_y, settings)

    def regress(**settings):
        write(file, "approval", SGDRegressor, approval_x, approval_y, settings)

    for loss, penalty, rate in itertools.product(OF_CLASSES + OF_NUMBERS, PENALTIES, RATES):
        classify(loss=loss, penalty=penalty, learning_rate=rate, alpha=alpha(loss, rate))
    for loss, penalty, rate in itertools.product(OF_NUMBERS, PENALTIES, RATES):
        regress(loss=loss, penalty=penalty, learning_rate=rate, alpha=alpha(loss, rate))
    for penalty, rate in itertools.product(PENALTIES, ["pa1", "pa2"]):
        classify(loss="hinge", penalty=penalty, learning_rate=rate, eta0=0.5)
        # Without intercept: with it, steps go too far on rows as short as these, and blow up every rounding.
        regress(loss="epsilon_insensitive", penalty=penalty, learning_rate=rate, eta0=0.5, fit_intercept=False)
    # The defaults, and each of the other settings.
    classify()
    regress()
    classify(class_weight={"true": 3.0})
    classify(class_weight={"false": 0.5, "true": 2.0}, loss="log_loss")
    classify(fit_intercept=False)
    classify(penalty="elasticnet", l1_ratio=0.8)
    # So strong that the common factor of the weights gets small, and is multiplied out.
    classify(alpha=0.5, learning_rate="constant", eta0=0.1)
    classify(alpha=10.0, learning_rate="constant", eta0=0.1)
    regress(epsilon=0.5, loss="huber")
    regress(power_t=0.4, eta0=0.1)
    for average in [True, 1, 100, 10_000]:
        classify(average=average)
        classify(average=average, loss="log_loss", learning_rate="constant")
        regress(average=average)
    for settings in [{}, {"loss": "log_loss", "average": True, "alpha": 0.1}, {"penalty": "l1"}, {"class_weight": {"sky": 4.0}}]:
        write(file, "segments", SGDClassifier, segments_x, segments_y, settings)
    # Of sparse rows scikit-learn moves the intercept more slowly.
    x, y = one_hot()
    for penalty, average in [("l2", True), ("l1", False), ("elasticnet", False)]:
        write(file, "chicks", SGDRegressor, x, y, {"penalty": penalty, "average": average, "fit_intercept": False})


def before_learning(loss, x, y):
    """The class that is predicted for each row before it is learned; for the first, of which nothing is known, 0."""
    model = SGDClassifier(loss=loss, shuffle=False)
    for number in range(len(y)):
        row = slice(number, number + 1)
        yield int(model.predict(x[row])[0]) if number else 0
        model.partial_fit(x[row], y[row], classes=np.unique(y))


with open("digits.csv", "w", newline="") as file:
    x, y = (part[:400] for part in load_digits(return_X_y=True))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["pixels", "y", "log_loss", "modified_huber"])
    for pixels, label, *predicted in zip(x, y, before_learning("log_loss", x, y), before_learning("modified_huber", x, y)):
        # A brightness from 0 to 16 a letter.
        writer.writerow(["".join("0123456789abcdefg"[int(pixel)] for pixel in pixels), label, *predicted])
