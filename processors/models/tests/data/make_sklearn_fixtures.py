"""Makes the files of skops and what scikit-learn predicts by them: needs scikit-learn 1.9.1 and skops 0.16.0.

    cd sklearn && python ../make_sklearn_fixtures.py
"""

import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import skops.io
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

# That it has not converged.
warnings.simplefilter("ignore")
iris, diabetes = load_iris(), load_diabetes()
flowers, sizes = iris.data, diabetes.data[:60, :4]
species = np.array(["setosa", "versicolor", "virginica"], dtype=object)[iris.target]
network = MLPClassifier((5, 4), activation="tanh", max_iter=300, random_state=1)

# By name: the model, its rows, what they should be, and what the model says of rows.
MODELS = {
    "logistic": (make_pipeline(StandardScaler(), LogisticRegression()), flowers, species, "predict_proba"),
    "vectors": (SVC(C=2.0), flowers, iris.target, "decision_function"),
    "clusters": (KMeans(3, n_init=1, random_state=0), flowers, None, "transform"),
    "network": (network, flowers, iris.target, "predict_proba"),
    "ridge": (Ridge(), sizes, diabetes.target[:60], "predict"),
    "neighbours": (KNeighborsRegressor(3, weights="distance"), sizes, diabetes.target[:60], "predict"),
    "forest": (RandomForestClassifier(1, max_depth=1, random_state=0), flowers, iris.target, "predict_proba"),
}
expected = {}
for name, (model, rows, target, method) in MODELS.items():
    model.fit(rows, target)
    asked = rows[::7] + 0.05
    expected[name] = {"rows": asked.tolist(), "predictions": getattr(model, method)(asked).tolist()}
    if name == "logistic":
        # As a table of pandas would have them.
        model[0].feature_names_in_ = np.array(["sepal_length", "sepal_width", "petal_length", "petal_width"], dtype=object)
    if name == "network":
        # What no prediction needs, and makes the file twenty times as large.
        del model._random_state, model._optimizer, model.loss_curve_
    skops.io.dump(model, f"{name}.skops", compression=zipfile.ZIP_DEFLATED, compresslevel=9)
Path("expected.json").write_text(json.dumps(expected))
