"""scikit-learn's network of 64 and 32 units over a Parquet file, test then train by batches: `sklearn_network.py FILE LABEL
BATCH_ROWS`, JSON to stdout.

Every batch is predicted, then learned, standardised by what was seen up to its end. The seconds are those of the loop
over arrays that are in memory already, without reading and without metrics.
"""

import json
import sys
import time

import numpy
import pyarrow.parquet
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler


def main(path, label, batch_rows):
    table = pyarrow.parquet.read_table(path)
    x = numpy.column_stack([table[name].to_numpy() for name in table.column_names if name != label])
    y = table[label].to_numpy().astype(bool)
    model = MLPClassifier(hidden_layer_sizes=(64, 32), random_state=42)
    scaler = StandardScaler()
    right, seconds = 0, 0.0
    for start in range(0, len(x), batch_rows):
        rows, labels = x[start : start + batch_rows], y[start : start + batch_rows]
        begun = time.perf_counter()
        predictions = numpy.zeros(len(rows), bool)
        if start > 0:
            predictions = model.predict_proba(scaler.transform(rows))[:, 1] > 0.5
        scaler.partial_fit(rows)
        model.partial_fit(scaler.transform(rows), labels, classes=[False, True])
        seconds += time.perf_counter() - begun
        right += int((predictions == labels).sum())
    print(json.dumps({"rows": len(x), "seconds": seconds, "accuracy": right / len(x)}))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
