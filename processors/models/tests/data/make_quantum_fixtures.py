"""Writes quantum.ndjson, for src/estimator/quantum/tests.rs: what Qiskit computes for the kernels of random rows, exactly by state vectors.

Made with Qiskit 2.6.2 and qiskit-machine-learning 0.9.1 on Python 3.11: `pip install qiskit==2.6.2 qiskit-machine-learning==0.9.1 &&
python make_quantum_fixtures.py`, in this folder.
"""

import itertools
import json

import numpy as np
import qiskit
import qiskit_machine_learning
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.circuit.library import z_feature_map, zz_feature_map
from qiskit_machine_learning.kernels import FidelityStatevectorKernel

assert (qiskit.__version__, qiskit_machine_learning.__version__) == ("2.6.2", "0.9.1")


def angles(qubits):
    circuit, parameters = QuantumCircuit(qubits), ParameterVector("x", qubits)
    for qubit in range(qubits):
        circuit.ry(parameters[qubit], qubit)
    return circuit


random = np.random.default_rng(42)
with open("quantum.ndjson", "w") as file:
    for name, qubits, reps in itertools.product(["z", "zz", "angle"], [1, 2, 3, 5], [1, 2, 3]):
        if (name == "angle" and reps > 1) or (name == "zz" and qubits == 1):
            continue
        maps = {"z": z_feature_map, "zz": zz_feature_map}
        circuit = maps[name](qubits, reps=reps) if name in maps else angles(qubits)
        rows = random.uniform(-3, 3, (4, qubits))
        kernel = FidelityStatevectorKernel(feature_map=circuit, enforce_psd=False).evaluate(rows)
        line = {"map": name, "reps": reps, "rows": rows.tolist(), "kernel": kernel.tolist()}
        print(json.dumps(line), file=file)
