"""Rows: lists of dictionaries, and data frames of pandas and tables of Arrow where these are installed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
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

        # Columns that the first row lacks are columns all the same.
        names = dict.fromkeys(name for row in self for name in row)
        return pyarrow.table({name: [row.get(name) for row in self] for name in names})


def records(rows: AnyRows) -> list[dict[str, Any]]:
    """The rows as dictionaries whose values JSON knows: what is no number is null.

    Raises :class:`TypeError` for what is neither rows nor a row, and for values that JSON does not know."""
    if isinstance(rows, Mapping):
        plain: Iterable[Mapping[str, Any]] = [rows]
    elif hasattr(rows, "to_pylist"):
        plain = rows.to_pylist()
    elif hasattr(rows, "to_dict"):
        plain = rows.to_dict("records")
    else:
        plain = rows
    plain = list(plain)
    if not all(isinstance(row, Mapping) for row in plain):
        raise TypeError("rows are dictionaries in a list, a data frame of pandas or a table of Arrow")
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
    if isinstance(value, Decimal):
        return str(value)
    if not hasattr(value, "isoformat"):
        raise TypeError(f"{value!r} is a value of the type `{type(value).__name__}`, which JSON does not know")
    return value.isoformat()
