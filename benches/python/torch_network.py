"""How many rows of made-up numbers a network of PyTorch's learns and predicts in a second: `torch_network.py DEVICE FEATURES
LAYERS BATCH_ROWS ROWS`, JSON to stdout.

PyTorch as it comes (eager mode), with Adam. Rows lie in the memory of the host, and are copied to the device batch by
batch; predictions come back.
"""

import json
import sys
import time

import torch
from torch import nn


def network(features, layers):
    modules = []
    for before, units in zip([features, *layers], layers):
        modules += [nn.Linear(before, units), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(layers[-1], 1))


def main(device, features, layers, batch_rows, rows):
    torch.manual_seed(0)
    x = torch.rand(batch_rows, features) * 2 - 1
    y = (x.sum(1, keepdim=True) > 0).float()
    model = network(features, layers).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    loss = nn.BCEWithLogitsLoss()

    def learn():
        optimizer.zero_grad()
        loss(model(x.to(device)), y.to(device)).backward()
        optimizer.step()

    def predict():
        with torch.no_grad():
            return torch.sigmoid(model(x.to(device))).cpu()

    def finish():
        if device != "cpu":
            torch.cuda.synchronize()

    def measure(work):
        """Rows per second, after a tenth of them that is not measured."""
        batches = -(-rows // batch_rows)
        for _ in range(-(-batches // 10)):
            work()
        finish()
        start = time.perf_counter()
        for _ in range(batches):
            work()
        finish()
        return batches * batch_rows / (time.perf_counter() - start)

    name = "cpu" if device == "cpu" else torch.cuda.get_device_name()
    print(json.dumps({"device": name, "learned": measure(learn), "predicted": measure(predict)}))


device, features, layers, batch_rows, rows = sys.argv[1:]
main(device, int(features), [int(units) for units in layers.split(",")], int(batch_rows), int(rows))
