"""Millstream from Python: predict and learn, apply and watch flows, read registries of models.

Needs nothing but Python. Rows are lists of dictionaries, data frames of pandas or tables of Arrow, and come back as what they were sent as.
"""

from .client import Client
from .endpoint import Endpoint, Taken
from .errors import FlowDoesNotCheck, MillstreamError, OperationFailed
from .registry import Registry
from .rows import Rows

__all__ = ["Client", "Endpoint", "FlowDoesNotCheck", "MillstreamError", "OperationFailed", "Registry", "Rows", "Taken"]
