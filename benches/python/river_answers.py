"""Logistic regression by River over a Parquet file, test then train: `river_answers.py FILE LABEL`, JSON to stdout.

Numbers are standardised and texts one-hot encoded. Where there is a column `part`, only its rows `train` are learned.
The seconds are those of the loop over dictionaries that are in memory already, without reading and without metrics.
"""

import json
import sys
import time
from numbers import Number

import numpy
import pyarrow.parquet
from river import compose, linear_model, optim, preprocessing
from sklearn.metrics import roc_auc_score


def new_model(schema):
    scaler = preprocessing.StandardScaler()
    encoder = scaler
    if any(pyarrow.types.is_string(kind) for kind in schema.types):
        encoder = (compose.SelectType(Number) | scaler) + (compose.SelectType(str) | preprocessing.OneHotEncoder())
    return encoder | linear_model.LogisticRegression(optimizer=optim.SGD(0.01))


def learn(model, rows, labels, wanted, predictions):
    for row, label, learns in zip(rows, labels, wanted):
        predictions.append(model.predict_proba_one(row).get(True, 0.0))
        if learns:
            model.learn_one(row, label)


def metrics(probabilities, labels):
    nearest = 1e-15
    of_label = numpy.where(labels, probabilities, 1.0 - probabilities).clip(nearest, 1.0 - nearest)
    return {
        "accuracy": float(((probabilities > 0.5) == labels).mean()),
        "log_loss": float(-numpy.log(of_label).mean()),
        "auc": float(roc_auc_score(labels, probabilities)),
    }


def main(path, label):
    file = pyarrow.parquet.ParquetFile(path)
    model = new_model(pyarrow.schema([field for field in file.schema_arrow if field.name not in (label, "part")]))
    predictions, all_labels, all_wanted, seconds = [], [], [], 0.0
    for batch in file.iter_batches():
        rows = batch.to_pylist()
        labels = [row.pop(label) for row in rows]
        wanted = [row.pop("part", "train") == "train" for row in rows]
        start = time.perf_counter()
        learn(model, rows, labels, wanted, predictions)
        seconds += time.perf_counter() - start
        all_labels += labels
        all_wanted += wanted
    learned = numpy.array(all_wanted)
    figures = metrics(numpy.array(predictions)[learned], numpy.array(all_labels)[learned])
    print(json.dumps({"rows": len(all_labels), "seconds": seconds} | figures))


main(*sys.argv[1:])
