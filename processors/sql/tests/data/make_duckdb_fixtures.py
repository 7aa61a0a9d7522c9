"""Writes duckdb.ndjson, the fixture of tests/duckdb.rs: what DuckDB computes for the expressions of expressions.py, row by row.

Made with DuckDB 2.0.1 on Python 3.11: `pip install duckdb==2.0.1 && python make_duckdb_fixtures.py`, in this folder.
The first line has the rows themselves. A value is null, a text, or {"error": true} where DuckDB refuses the row.
"""

import datetime
import decimal
import json
import math

import duckdb

from expressions import COLUMNS, EXPRESSIONS, ROWS

assert duckdb.__version__ == "2.0.1"


def connect():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET threads = 1")
    return connection


def literal(text, sql_type):
    return f"CAST({text or 'NULL'} AS {sql_type})"


def text(value):
    """A value as the test expects it: numbers without trailing zeros, times as RFC 3339."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else repr(value)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, list):
        return "[" + ", ".join("" if item is None else text(item) for item in value) + "]"
    return str(value)


def computed_over(connection, expression, row, types):
    columns = ", ".join(f"{literal(value, sql_type)} AS {name}" for value, (name, sql_type) in zip(row, types.items()))
    try:
        (value,) = connection.execute(f"SELECT {expression} FROM (SELECT {columns})").fetchone()
        return text(value)
    except (duckdb.Error, OverflowError, ValueError):
        return {"error": True}


def main():
    connection = connect()
    with open("duckdb.ndjson", "w") as file:
        rows = [[None if value is None else value.strip("'") if value.startswith("'") else value for value in row] for row in ROWS]
        print(json.dumps({"columns": COLUMNS, "rows": rows}, ensure_ascii=False), file=file)
        for expression in EXPRESSIONS:
            ours, theirs = expression if isinstance(expression, tuple) else (expression, expression)
            values = [computed_over(connection, theirs, row, COLUMNS) for row in ROWS]
            line = {"sql": ours} | ({"duckdb": theirs} if theirs != ours else {}) | {"values": values}
            print(json.dumps(line, ensure_ascii=False), file=file)


if __name__ == "__main__":
    main()
