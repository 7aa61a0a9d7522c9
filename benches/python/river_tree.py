"""River's Hoeffding tree over the first rows of a Parquet file, test then train: `river_tree.py FILE ROWS`, JSON to stdout.

The seconds are those of the loop over dictionaries that are in memory already.
"""

import json
import sys
import time

import pyarrow.parquet
from river import tree


def main(path, rows):
    table = pyarrow.parquet.read_table(path).slice(0, int(rows)).to_pylist()
    labels = [row.pop("label") for row in table]
    model, right = tree.HoeffdingTreeClassifier(), 0
    start = time.perf_counter()
    for row, label in zip(table, labels):
        right += model.predict_one(row) == label
        model.learn_one(row, label)
    seconds = time.perf_counter() - start
    print(json.dumps({"rows": len(table), "seconds": seconds, "accuracy": right / len(table)}))


main(*sys.argv[1:])
