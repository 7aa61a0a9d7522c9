"""Rows: lists of dictionaries, and data frames of pandas and tables of Arrow where these are installed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    import pandas
    import pyarrow

    #: What is taken as rows.
    AnyRows = Union[Iterable[Mapping[str, Any]], Mapping[str, Any], pandas.DataFrame, pyarrow.Table]
else:
    AnyRows = Any


class Rows(list[dict[str, Any]]):
    """A list of dictionaries, which can also be had as a data frame or a table."""

    def to_pandas(self) -> pandas.DataFrame:
        import pandas

        return pandas.DataFrame(list(self))

    def to_arrow(self) -> pyarrow.Table:
        import pyarrow

        return pyarrow.Table.from_pylist(list(self))


def records(rows: AnyRows) -> list[dict[str, Any]]:
    """The rows as dictionaries whose values JSON knows: what is no number is null."""
    if isinstance(rows, Mapping):
        plain: Iterable[Mapping[str, Any]] = [rows]
    elif hasattr(rows, "to_pylist"):
        plain = rows.to_pylist()
    elif hasattr(rows, "to_dict"):
        plain = rows.to_dict("records")
    else:
        plain = rows
    return [{name: _value(value) for name, value in row.items()} for row in plain]


def like(rows: AnyRows, answers: list[dict[str, Any]]) -> Any:
    """Answers to rows, as what the rows were sent as: rows of a data frame keep their index."""
    if hasattr(rows, "to_pylist"):
        return Rows(answers).to_arrow()
    if hasattr(rows, "to_dict") and not isinstance(rows, Mapping):
        frame = Rows(answers).to_pandas()
        frame.index = getattr(rows, "index")
        return frame
    return Rows(answers)


def encoded(what: Any) -> bytes:
    """JSON."""
    return json.dumps(what, allow_nan=False).encode()


def _value(value: Any) -> Any:
    # Numbers of numpy.
    if hasattr(value, "item") and not isinstance(value, (bytes, str)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {name: _value(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(inner) for inner in value]
    # Times of pandas that are none, which equal nothing.
    if value != value:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
