"""Writes the fixtures of src/estimator/k_means/tests.rs, k_means.csv and k_means_batches.csv: to which cluster scikit-learn's
MiniBatchKMeans assigns the rows of segments.csv, and how far they are from its centre, each before it learns it. Batches have
one row, or 16, and the first rows are the first centres.

Made with scikit-learn 1.9.1 on Python 3.11: `pip install scikit-learn==1.9.1 && python make_k_means_fixture.py`, in this
folder.
"""

import csv

import numpy as np
import sklearn
from sklearn.cluster import MiniBatchKMeans

assert sklearn.__version__ == "1.9.1"
CLUSTERS = 7

with open("segments.csv", newline="") as file:
    rows = [[float(value) for value in list(row.values())[:18]] for row in csv.DictReader(file)]
x = np.array(rows) / 100
assert len(np.unique(x[:CLUSTERS], axis=0)) == CLUSTERS

for name, rows in [("k_means.csv", 1), ("k_means_batches.csv", 16)]:
    model = MiniBatchKMeans(CLUSTERS, init=x[:CLUSTERS], n_init=1, batch_size=1, reassignment_ratio=0, random_state=0)
    # Each of these is learned by its own centre, which counts as one row then.
    model.partial_fit(x[:CLUSTERS])
    with open(name, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["cluster", "distance"])
        for start in range(CLUSTERS, len(x), rows):
            batch = x[start : start + rows]
            for row in batch:
                distances = model.transform(row[None])[0]
                cluster = int(model.predict(row[None])[0])
                out.writerow([cluster, repr(float(distances[cluster]))])
            model.partial_fit(batch)
