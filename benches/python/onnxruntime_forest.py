"""Writes scikit-learn's forest of 20 trees over 28 numbers as ONNX into the file that is named, and measures how many rows a second onnxruntime predicts
by it, 1,024 at a time. Prints JSON.

    pip install onnxruntime==1.32.0 scikit-learn==1.9.1 skl2onnx==1.20.0 && python onnxruntime_forest.py FILE
"""

import json
import sys
import time

import numpy as np
import onnxruntime
from sklearn.ensemble import RandomForestClassifier
from skl2onnx import to_onnx

random = np.random.default_rng(0)
features = random.normal(size=(3000, 28)).astype(np.float32)
model = RandomForestClassifier(20, random_state=0).fit(features, (features[:, 0] + features[:, 1] > 0).astype(int))
with open(sys.argv[1], "wb") as file:
    file.write(to_onnx(model, features[:1], options={"zipmap": False}).SerializeToString())
ROWS = 1024
rows = ((np.arange(ROWS * 28) * 7919 % 1000) / 250 - 2).astype(np.float32).reshape(ROWS, 28)
for threads in [1, 0]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(sys.argv[1], options)
    best = float("inf")
    for _ in range(200):
        start = time.perf_counter()
        session.run(None, {"X": rows})
        best = min(best, time.perf_counter() - start)
    print(json.dumps({"threads": threads, "rows": ROWS, "µs": best * 1e6, "rows/s": ROWS / best}))
