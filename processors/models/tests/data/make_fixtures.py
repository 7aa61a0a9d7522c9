"""Writes the fixtures of tests/river.rs: rows of River's own data sets, and what River predicts for each before it
learns it.

Made with River 0.26.1 on Python 3.11: `pip install river==0.26.1 && python make_fixtures.py`, in this folder.
"""

import csv
import itertools

import river
from river import compose, datasets, linear_model, optim, preprocessing

assert river.__version__ == "0.26.1"


def scaled(estimator):
    return preprocessing.StandardScaler() | estimator


def mixed(numbers, categories, estimator):
    encoders = (compose.Select(*numbers) | preprocessing.StandardScaler()) + (
        compose.Select(*categories) | preprocessing.OneHotEncoder(drop_zeros=True)
    )
    return encoders | estimator


def write(name, stream, model, predict, outputs):
    with open(f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, (x, y) in enumerate(stream):
            if number == 0:
                writer.writerow([*x, "y", *outputs])
            writer.writerow([*(repr(value) if isinstance(value, float) else value for value in x.values()), y]
                            + [repr(float(value)) for value in predict(model, x)])
            model.learn_one(x, y)


def positive(model, x):
    return [model.predict_proba_one(x)[True]]


def number(model, x):
    return [model.predict_one(x)]


def first(rows, dataset):
    return itertools.islice(dataset, rows)


classes = sorted({y for _, y in datasets.ImageSegments()})


def by_class(model, x):
    probabilities = model.predict_proba_one(x)
    return [probabilities.get(label, 0.0) for label in classes]


def chicks():
    for x, y in datasets.ChickWeights():
        yield {"time": x["time"], "chick": f"chick {x['chick']}", "diet": f"diet {x['diet']}"}, y


logistic = linear_model.LogisticRegression
write("bananas", first(1000, datasets.Bananas()), scaled(logistic(optim.SGD(0.01), intercept_lr=0.01)),
      positive, ["river"])
write("phishing", datasets.Phishing(), scaled(logistic(optim.SGD(0.1), intercept_lr=0.1, l2=0.01)),
      positive, ["river"])
write("segments", first(400, datasets.ImageSegments()), scaled(linear_model.SoftmaxRegression(optim.SGD(0.01))), by_class, classes)
write("approval", first(600, datasets.TrumpApproval()), scaled(linear_model.LinearRegression(optim.SGD(0.01))),
      number, ["river"])
write("chicks", chicks(), mixed(["time"], ["chick", "diet"], linear_model.LinearRegression(optim.SGD(0.01), l2=0.001)),
      number, ["river"])
