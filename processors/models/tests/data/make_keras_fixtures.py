"""Writes weights as Keras 3.15.1 and as modules of PyTorch have them, and what that model predicts: keras.h5, keras.weights.h5, torch.safetensors, keras.json.

    pip install keras==3.15.1 jax h5py safetensors && python make_keras_fixtures.py
"""

import json
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
import keras
import numpy as np
from keras import layers
from safetensors.numpy import save_file

HERE = Path(__file__).parent

keras.utils.set_random_seed(7)
random = np.random.default_rng(7)
rows = random.normal(size=(20, 3)).astype(np.float32) * [1, 10, 100] + [0, 5, -50]
model = keras.Sequential([
    layers.Input((3,)),
    layers.Normalization(),
    layers.Dense(5, activation="tanh"),
    layers.Dropout(0.1),
    layers.LayerNormalization(epsilon=1e-5),
    layers.Dense(3, activation="softmax"),
])
model.layers[0].adapt(rows)
for weights in model.trainable_weights:
    weights.assign(random.normal(size=weights.shape))
model.save(HERE / "keras.h5")
model.save_weights(HERE / "keras.weights.h5")
expected = model.predict(rows, verbose=0)

# Without the first layer, rows are as they come out of it.
_, first, _, between, last = model.layers
state = {"0.weight": first.get_weights()[0].T, "0.bias": first.bias, "3.weight": between.gamma, "3.bias": between.beta}
state |= {"10.weight": last.get_weights()[0].T, "10.bias": last.bias}
save_file({name: np.ascontiguousarray(values) for name, values in state.items()}, HERE / "torch.safetensors")
normalised = model.layers[0](rows)
known = {"rows": rows.tolist(), "normalised": np.asarray(normalised).tolist(), "probabilities": expected.tolist()}
(HERE / "keras.json").write_text(json.dumps(known) + "\n")
