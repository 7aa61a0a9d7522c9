"""Writes `k_neighbors.csv`: what River's nearest neighbours predict for the rows of the other fixtures, each before it is learned.

Made with River 0.26.1 on Python 3.11: `pip install river==0.26.1 && python make_neighbours_fixtures.py`, in this folder.
"""

import csv
import itertools

import river
from river import datasets, neighbors, preprocessing

assert river.__version__ == "0.26.1"


def predictions(dataset, rows, model, predict):
    for x, y in itertools.islice(dataset, rows):
        yield predict(model, x)
        model.learn_one(x, y)


def over(window):
    return neighbors.LazySearch(window_size=window)


scaler = preprocessing.StandardScaler
columns = {
    "bananas": predictions(
        datasets.Bananas(), 1000,
        scaler() | neighbors.KNNClassifier(n_neighbors=7, engine=over(150)),
        lambda model, x: model.predict_proba_one(x).get(True, 0.0)),
    "approval": predictions(
        datasets.TrumpApproval(), 600,
        scaler() | neighbors.KNNRegressor(n_neighbors=4, engine=over(100), aggregation_method="weighted_mean"),
        lambda model, x: model.predict_one(x)),
    "approval_uniform": predictions(
        datasets.TrumpApproval(), 600,
        scaler() | neighbors.KNNRegressor(n_neighbors=4, engine=over(1000), aggregation_method="mean"),
        lambda model, x: model.predict_one(x)),
}
with open("k_neighbors.csv", "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in itertools.zip_longest(*columns.values()):
        writer.writerow("" if value is None else repr(float(value)) for value in row)
