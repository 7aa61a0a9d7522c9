"""Serves scikit-learn's logistic regression over a table by MLServer, as the model `numbers`: `mlserver_model.py TABLE FOLDER PORT`, until it is
stopped.

As MLServer comes, but that it works in one process, as it does for a single model that takes no time: handing rows to workers makes it slower.
"""

import json
import os
import pathlib
import sys

import joblib
import pyarrow.parquet
from sklearn.linear_model import LogisticRegression

table, folder, port = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
rows = pyarrow.parquet.read_table(table).slice(0, 10_000).to_pandas()
model = LogisticRegression().fit(rows.drop(columns="label").to_numpy(), rows["label"])
folder.mkdir(parents=True, exist_ok=True)
joblib.dump(model, folder / "model.joblib")
described = {
    "name": "numbers",
    "implementation": "mlserver_sklearn.SKLearnModel",
    "parameters": {"uri": "./model.joblib", "version": "1"},
}
(folder / "model-settings.json").write_text(json.dumps(described))
# Their ports for gRPC and metrics may be taken by others.
server = {"host": "127.0.0.1", "http_port": port, "grpc_port": 0, "metrics_endpoint": None, "parallel_workers": 0, "debug": False}
(folder / "settings.json").write_text(json.dumps(server))
mlserver = pathlib.Path(sys.executable).with_name("mlserver")
os.execv(mlserver, [str(mlserver), "start", str(folder)])
