"""Writes dbstream.ndjson, for src/estimator/dbstream.rs: what River's DBSTREAM has learned from the first rows of segments.csv, divided by 100.

Made with River 0.26.1 on Python 3.11: `pip install river==0.26.1 && python make_dbstream_fixtures.py`, in this folder.
"""

import csv
import json

import river
from river import cluster

assert river.__version__ == "0.26.1"

with open("segments.csv", newline="") as file:
    rows = [[float(value) / 100 for value in list(row.values())[:18]] for row in csv.DictReader(file)]

SETTINGS = [
    {"clustering_threshold": 1.0, "fading_factor": 0.01, "cleanup_interval": 50},
    {"clustering_threshold": 0.7, "fading_factor": 0.002, "cleanup_interval": 100},
    {"clustering_threshold": 1.5, "fading_factor": 0.05, "cleanup_interval": 7, "intersection_factor": 0.1},
    {"clustering_threshold": 0.4, "fading_factor": 0.001, "cleanup_interval": 1000},
]
with open("dbstream.ndjson", "w") as file:
    for settings in SETTINGS:
        model = cluster.DBSTREAM(**settings)
        for row in rows:
            model.learn_one(dict(enumerate(row)))
        micro = model._micro_clusters
        # River leaves what has faded as 0.
        shared = [(i, j, value) for i, line in model.s.items() for j, value in line.items() if value > 0]
        line = {
            "settings": settings,
            "rows": len(rows),
            "ids": list(micro),
            "centres": [list(one.center.values()) for one in micro.values()],
            "weights": [one.weight for one in micro.values()],
            "shared": sorted(shared),
        }
        print(json.dumps(line), file=file)
