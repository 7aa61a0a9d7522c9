"""Prints the mean errors of River's trees of numbers over the first 600 rows of TrumpApproval, each predicted before it is learned: those that
`tests/river.rs` compares with.

Made with River 0.26.1 on Python 3.11: `pip install river==0.26.1 && python regression_trees.py`.
"""

import itertools

import river
from river import datasets, forest, preprocessing, tree

assert river.__version__ == "0.26.1"
rows = list(itertools.islice(datasets.TrumpApproval(), 600))


def mean_error(model):
    model, error = preprocessing.StandardScaler() | model, 0.0
    for x, y in rows:
        error += abs((model.predict_one(x) or 0.0) - y)
        model.learn_one(x, y)
    return error / len(rows)


for grace, delta, leaves in itertools.product((50, 200), (1e-7, 1e-3), ("mean", "model", "adaptive")):
    settings = {"grace_period": grace, "delta": delta, "leaf_prediction": leaves}
    print("tree", settings, mean_error(tree.HoeffdingTreeRegressor(**settings)))
for aggregation in ("mean", "median"):
    print("forest", aggregation, mean_error(forest.ARFRegressor(seed=42, aggregation_method=aggregation)))
