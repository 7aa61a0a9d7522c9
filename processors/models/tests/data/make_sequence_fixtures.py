"""Writes sequence.ndjson, the fixture of src/estimator/network/tests/sequences.rs: what PyTorch's GRU, LSTM and Conv1d become of their first weights
when they learn sequences, 8 at a time, and what they predict then.

Made with PyTorch 2.7.1 on Python 3.11: `pip install torch==2.7.1 numpy && python make_sequence_fixtures.py`, in this folder.
"""

import json

import torch
from torch import nn
from torch.nn import functional

assert torch.__version__.startswith("2.7.1")

FEATURES, ROWS, BATCH_ROWS = 3, 6, 8
ADAM, SGD = {"type": "adam", "learning_rate": 0.01}, {"type": "sgd", "learning_rate": 0.1, "momentum": 0.5}


class Recurrent(nn.Module):
    """Its parameters as they are here: a row an input, and of an LSTM one bias."""

    def __init__(self, kind, inputs, units):
        super().__init__()
        self.layer = getattr(nn, kind)(inputs, units, batch_first=True)
        self.parts = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
        if kind == "LSTM":
            nn.init.zeros_(self.layer.bias_hh_l0).requires_grad_(False)
            self.parts.pop()

    def forward(self, rows):
        return self.layer(rows)[0]

    def own(self):
        return [getattr(self.layer, part).detach().t().flatten() for part in self.parts]


class Convolution(nn.Module):
    """Causal: there are zeros before the first row."""

    def __init__(self, inputs, units, kernel, dilation):
        super().__init__()
        self.before = (kernel - 1) * dilation
        self.layer = nn.Conv1d(inputs, units, kernel, dilation=dilation)

    def forward(self, rows):
        return torch.tanh(self.layer(functional.pad(rows.transpose(1, 2), (self.before, 0)))).transpose(1, 2)

    def own(self):
        return [self.layer.weight.detach().permute(2, 1, 0).flatten(), self.layer.bias.detach()]


class Dense(nn.Module):
    def __init__(self, inputs, units, activation):
        super().__init__()
        self.layer, self.activation = nn.Linear(inputs, units), activation

    def forward(self, rows):
        return self.activation(self.layer(rows))

    def own(self):
        return [self.layer.weight.detach().t().flatten(), self.layer.bias.detach()]


def conv(inputs, units, kernel, dilation):
    return {"conv1d": units, "kernel": kernel, "dilation": dilation, "activation": "tanh"}, Convolution(inputs, units, kernel, dilation)


def dense(inputs, units):
    return {"dense": units, "activation": "tanh"}, Dense(inputs, units, torch.tanh)


CASES = [
    (lambda: [({"gru": 5}, Recurrent("GRU", FEATURES, 5))], 5),
    (lambda: [({"lstm": 5}, Recurrent("LSTM", FEATURES, 5))], 5),
    (lambda: [conv(FEATURES, 4, 3, 1)], 4),
    (lambda: [dense(FEATURES, 4), conv(4, 9, 2, 2), ({"gru": 9}, Recurrent("GRU", 9, 9)), ({"lstm": 4}, Recurrent("LSTM", 9, 4)), dense(4, 3)], 3),
]


def flat(layers):
    return [round(float(value), 9) for layer in layers for part in layer.own() for value in part]


def main():
    torch.manual_seed(7)
    windows = [torch.randn(int(torch.randint(1, ROWS + 1, ())), FEATURES) for _ in range(48)]
    targets = [float(torch.tanh(window.sum() / 2) + window[-1, 0]) for window in windows]
    lines = []
    for make, last in CASES:
        for optimizer in [SGD, ADAM]:
            described, layers = zip(*make())
            output = Dense(last, 1, lambda sums: sums)
            every = [*layers, output]
            over_rows = max(index for index, layer in enumerate(layers) if not isinstance(layer, Dense))

            def predict(window):
                rows = window.unsqueeze(0)
                for layer in layers[: over_rows + 1]:
                    rows = layer(rows)
                rows = rows[:, -1]
                for layer in [*layers[over_rows + 1 :], output]:
                    rows = layer(rows)
                return rows[0, 0]

            before = flat(every)
            parameters = [parameter for layer in every for parameter in layer.parameters() if parameter.requires_grad]
            if optimizer is ADAM:
                steps = torch.optim.Adam(parameters, lr=0.01)
            else:
                steps = torch.optim.SGD(parameters, lr=0.1, momentum=0.5)
            for start in range(0, len(windows), BATCH_ROWS):
                steps.zero_grad()
                off = [predict(windows[index]) - targets[index] for index in range(start, start + BATCH_ROWS)]
                (torch.stack(off) ** 2 / 2).mean().backward()
                steps.step()
            settings = {"layers": described, "sequence": {"rows": ROWS}, "optimizer": optimizer, "batch_rows": BATCH_ROWS}
            with torch.no_grad():
                predicted = [float(predict(window)) for window in windows]
            lines.append({"settings": settings, "before": before, "after": flat(every), "predicted": predicted})
    data = {"windows": [window.tolist() for window in windows], "targets": targets}
    with open("sequence.ndjson", "w") as file:
        for line in [data, *lines]:
            file.write(json.dumps(line) + "\n")


main()
