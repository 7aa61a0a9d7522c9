"""Models of scikit-learn, taken over from files of skops. Fits estimators to the data sets that come with scikit-learn, imports them, and compares what
`millstream predict` says, and for some what a server answers, with what scikit-learn does. `tests/sklearn` runs it:

    python sklearn.py PROGRAM
"""

import json
import pickle
import subprocess
import sys
import tempfile
import urllib.request
import warnings
import zipfile
from pathlib import Path

# This file is called as the package is.
sys.path.pop(0)
import numpy as np
import skops.io
from sklearn import linear_model, svm
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, RobustScaler, StandardScaler

PROGRAM = sys.argv[1]
# Numbers are compared as a share of the larger one where that is more than 1. Weights of networks have 32 bits here.
TOLERANCE, OF_NETWORKS = 1e-6, 1e-5
# That some have not converged, or are fitted without names.
warnings.simplefilter("ignore")


def data(load, names=None):
    found = load(as_frame=True)
    target = found.target if names is None else np.array(names, dtype=object)[found.target]
    return found.data, target


IRIS = data(load_iris, ["setosa", "versicolor", "virginica"])
CANCER = data(load_breast_cancer)
YES_AND_NO = CANCER[0], CANCER[1].to_numpy() == 1
DIABETES = data(load_diabetes)
scaled = lambda model: make_pipeline(StandardScaler(), model)

# By name: the model, and what it is fitted to.
MODELS = {
    "logistic": (scaled(linear_model.LogisticRegression()), CANCER),
    "logistic_flags": (scaled(linear_model.LogisticRegression(solver="liblinear")), YES_AND_NO),
    "logistic_plain": (linear_model.LogisticRegression(fit_intercept=False, max_iter=200), CANCER),
    "multinomial": (scaled(linear_model.LogisticRegression()), IRIS),
    "multinomial_cv": (make_pipeline(RobustScaler(), linear_model.LogisticRegressionCV(Cs=2)), IRIS),
    "searched": (GridSearchCV(scaled(linear_model.LogisticRegression()), {"logisticregression__C": [0.1, 1.0]}), IRIS),
    "discriminant": (LinearDiscriminantAnalysis(), IRIS),
    "discriminant_two": (LinearDiscriminantAnalysis(), CANCER),
    "sgd": (scaled(linear_model.SGDClassifier(random_state=1)), IRIS),
    "sgd_log": (scaled(linear_model.SGDClassifier("log_loss", random_state=1)), IRIS),
    "sgd_huber": (scaled(linear_model.SGDClassifier("modified_huber", average=True, random_state=1)), CANCER),
    "linear_svc": (scaled(svm.LinearSVC()), CANCER),
    "ridge_classifier": (linear_model.RidgeClassifier(), IRIS),
    "perceptron": (scaled(linear_model.Perceptron()), IRIS),
    "linear": (linear_model.LinearRegression(), DIABETES),
    "linear_plain": (linear_model.LinearRegression(fit_intercept=False), DIABETES),
    "ridge": (make_pipeline(MinMaxScaler(), linear_model.Ridge()), DIABETES),
    "lasso": (make_pipeline(MaxAbsScaler(), StandardScaler(with_mean=False), linear_model.LassoCV()), DIABETES),
    "sgd_regressor": (scaled(linear_model.SGDRegressor(random_state=1)), DIABETES),
    "huber": (linear_model.HuberRegressor(), DIABETES),
    "linear_svr": (scaled(svm.LinearSVR()), DIABETES),
    "network": (scaled(MLPClassifier((20, 8), random_state=1)), IRIS),
    "network_two": (scaled(MLPClassifier((16,), activation="logistic", random_state=1)), CANCER),
    "network_tanh": (scaled(MLPRegressor(hidden_layer_sizes=(16, 8), activation="tanh", random_state=1, max_iter=500)), DIABETES),
    "network_linear": (MLPRegressor(hidden_layer_sizes=(), activation="identity", random_state=1, solver="lbfgs"), DIABETES),
    "clusters": (KMeans(4, n_init=2, random_state=1), (IRIS[0], None)),
    "clusters_scaled": (scaled(MiniBatchKMeans(5, n_init=2, random_state=1)), (CANCER[0], None)),
    "svc": (scaled(svm.SVC()), CANCER),
    "svc_three": (svm.SVC(C=3.0), IRIS),
    "svc_poly": (scaled(svm.SVC(kernel="poly", degree=2, coef0=1.0)), IRIS),
    "svc_sigmoid": (scaled(svm.SVC(kernel="sigmoid")), CANCER),
    "nu_svc": (scaled(svm.NuSVC(kernel="linear")), IRIS),
    "svr": (scaled(svm.SVR(C=50.0)), DIABETES),
    "nu_svr": (svm.NuSVR(kernel="linear", C=20.0), DIABETES),
    "neighbours": (scaled(KNeighborsClassifier(7)), CANCER),
    "neighbours_by_distance": (scaled(KNeighborsClassifier(weights="distance")), CANCER),
    "neighbours_numbers": (KNeighborsRegressor(4), DIABETES),
}
# By name: what is refused, and a word of why.
REFUSED = {
    "boosted": (GradientBoostingRegressor(n_estimators=2), DIABETES, "GradientBoostingRegressor"),
    "polynomial": (make_pipeline(PolynomialFeatures(), linear_model.Ridge()), DIABETES, "PolynomialFeatures"),
    "clipped": (make_pipeline(MinMaxScaler(clip=True), linear_model.Ridge()), DIABETES, "that clips"),
    "manhattan": (KNeighborsClassifier(p=1), CANCER, "should be euclidean"),
    "several": (linear_model.LinearRegression(), (DIABETES[0], np.stack([DIABETES[1], DIABETES[1]], axis=1)), "predicts 2 numbers"),
}


def ask(folder, *arguments, **more):
    return subprocess.run([PROGRAM, *map(str, arguments)], cwd=folder, capture_output=True, text=True, **more)


def run(folder, *arguments, **more):
    ran = ask(folder, *arguments, **more)
    assert ran.returncode == 0, f"{arguments}: {ran.stderr}{ran.stdout}"
    return ran.stdout


def imported(folder, name, model, rows, target):
    """Fits a model, writes it, and takes it over."""
    model.fit(rows, target)
    # As skops writes files, and smaller.
    skops.io.dump(model, folder / f"{name}.skops", compression=zipfile.ZIP_DEFLATED if len(name) % 2 else zipfile.ZIP_STORED)
    run(folder, "models", "import", f"{name}.skops", "--name", name)


def off(what, found, expected, tolerance=TOLERANCE):
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape, (what, found.shape, expected.shape)
    far = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    worst = np.argmax(far)
    assert far.flat[worst] <= tolerance, f"{what}: {found.flat[worst]}, not {expected.flat[worst]} in row {worst}"
    return far.flat[worst]


def compare(name, model, rows, lines):
    """How far what is predicted here is off what scikit-learn predicts."""
    predicted = [line.get("prediction", line.get("cluster")) for line in lines]
    tolerance = OF_NETWORKS if name.startswith("network") else TOLERANCE
    if "cluster" in lines[0]:
        assert predicted == model.predict(rows).tolist(), name
        return off(name, [line["distance"] for line in lines], model.transform(rows).min(axis=1))
    if not hasattr(model, "classes_"):
        return off(name, predicted, model.predict(rows), tolerance)
    assert predicted == model.predict(rows).tolist(), f"{name}: other classes are predicted"
    is_probable = "probability" in lines[0]
    expected = model.predict_proba(rows) if is_probable else model.decision_function(rows)
    one, several = ("probability", "probabilities") if is_probable else ("score", "scores")
    if several in lines[0]:
        return off(name, [list(line[several].values()) for line in lines], expected, tolerance)
    return off(name, [line[one] for line in lines], expected[:, 1] if is_probable else expected, tolerance)


def take_over(folder):
    worst = {}
    for name, (model, (rows, target)) in MODELS.items():
        imported(folder, name, model, rows, target)
        text = "\n".join(json.dumps(row) for row in rows.to_dict("records"))
        lines = [json.loads(line) for line in run(folder, "predict", f"{name}@champion", input=text).splitlines()]
        assert len(lines) == len(rows), (name, len(lines))
        worst[name] = compare(name, model, rows, lines)
    print("models predict what they did in scikit-learn, but for " + ", ".join(f"{far:.0e} ({name})" for name, far in worst.items()))


def serve(folder):
    """A server tells the columns by their names, and answers the same."""
    command = [PROGRAM, "serve", "multinomial", "linear", "--address", "127.0.0.1:0", "--without-token"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        try:
            address = "http://" + next(line for line in server.stderr if "serving `" in line).split("`")[-2]
            for name in ["multinomial", "linear"]:
                model, (rows, _) = MODELS[name]
                with urllib.request.urlopen(f"{address}/v2/models/{name}") as answer:
                    inputs = json.load(answer)["inputs"]
                assert [column["name"] for column in inputs] == list(rows.columns), inputs
                body = json.dumps({"rows": rows.to_dict("records")}).encode()
                request = urllib.request.Request(f"{address}/api/v1/models/{name}/predict", body, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request) as answer:
                    compare(name, model, rows, json.load(answer)["predictions"])
        finally:
            server.terminate()
    print("they are served")


def say_what_is_wrong(folder):
    for name, (model, (rows, target), why) in REFUSED.items():
        model.fit(rows, target)
        skops.io.dump(model, folder / f"{name}.skops")
        refused = ask(folder, "models", "import", f"{name}.skops", "--name", name)
        assert refused.returncode == 1 and why in refused.stderr, (name, refused)
    (folder / "model.pkl").write_bytes(pickle.dumps(MODELS["linear"][0]))
    refused = ask(folder, "models", "import", "model.pkl", "--name", "pickled")
    assert refused.returncode == 1 and "it is a pickle" in refused.stderr and "skops.io.dump" in refused.stderr, refused
    assert "pickled" not in run(folder, "models", "list")
    print("what is not taken over is refused")


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    for part in [take_over, serve, say_what_is_wrong]:
        part(folder)
