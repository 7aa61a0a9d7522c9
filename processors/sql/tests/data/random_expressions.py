"""Prints random expressions and what DuckDB computes for them, as duckdb.ndjson has it: `python random_expressions.py SEED`.

What is known to differ (flows/SQL.md) is left out: integers are not divided, casts to integers have whole numbers, letters are
ASCII, and integers and decimals stay small enough for both.
"""

import json
import random
import sys

from make_duckdb_fixtures import computed_over, connect

COLUMNS = {
    "i": "bigint", "j": "integer", "x": "double", "y": "double", "d": "decimal(8,2)", "e": "decimal(6,3)",
    "t": "varchar", "u": "varchar", "b": "boolean", "ts": "timestamp", "day": "date",
}
EXPRESSIONS = 1000
ROWS = 12


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def one_of(self, *values):
        return self.random.choice(values)

    def expression(self, depth):
        kind = self.one_of(self.float, self.integer, self.decimal, self.boolean, self.boolean, self.text, self.time)
        return kind(depth)

    def float(self, depth):
        if depth == 0:
            return self.one_of("x", "y", "x", "y", "0.5", "CAST(d AS double)", "CAST(i AS double)", "1e2", "CAST('nan' AS double)")
        a, b = self.float(depth - 1), self.float(depth - 1)
        return self.one_of(
            f"({a} {self.one_of('+', '-', '*')} {self.one_of('x', 'y')})", f"abs({a})", f"round(x, {self.random.randint(-3, 3)})",
            f"greatest({a}, {b})", f"least({a}, {b})", f"coalesce({a}, {b})", f"nullif({a}, {b})",
            f"CASE WHEN {self.boolean(depth - 1)} THEN {a} ELSE CAST({b} AS double) END", f"sqrt(abs({a}))", f"(x / {self.one_of('y', '2.0', '7')})",
            f"floor({a})", f"ceil({a})", f"CASE {a} WHEN {b} THEN x ELSE y END", f"({a} % y)", f"CAST({self.decimal(0)} * 1.5 AS double)",
        )

    def integer(self, depth):
        if depth == 0:
            return self.one_of("i", "j", "7", "-3", "length(t)")
        a, b = self.integer(depth - 1), self.integer(depth - 1)
        return self.one_of(
            f"({a} {self.one_of('+', '-')} {b})", f"({a} * {self.one_of('2', '-3', 'j')})", f"({a} % 5)", f"abs({a})", f"coalesce({a}, {b})",
            f"greatest({a}, {b})", f"CASE WHEN {self.boolean(depth - 1)} THEN {a} ELSE {b} END", f"strpos({self.text(0)}, u)",
            "CAST(round(d) AS bigint)", f"extract({self.one_of('year', 'month', 'day', 'hour', 'minute', 'dow', 'doy', 'quarter')} FROM ts)", f"nullif({a}, {b})",
        )

    def decimal(self, depth):
        if depth == 0:
            return self.one_of("d", "e", "1.19", "0.05", "-2.5", "100.00")
        a, b = self.decimal(depth - 1), self.decimal(0)
        return self.one_of(
            f"({a} {self.one_of('+', '-')} {b})", f"(d * {self.one_of('e', '1.19', '0.5', 'j')})", f"abs({a})", f"coalesce({a}, {b})",
            f"CAST({self.decimal(0)} AS decimal(14,{self.random.randint(0, 3)}))", f"round({self.one_of('d', 'e')}, 1)", f"greatest({a}, {b})",
            f"CASE WHEN {self.boolean(depth - 1)} THEN {a} ELSE {b} END", f"-({a})",
        )

    def boolean(self, depth):
        if depth == 0:
            return self.one_of("b", "x > 0.1", "i < 3", "d >= 1.5", "t = u", "x IS NULL", "ts > timestamp '2024-01-01'", "day = date '2024-02-29'")
        kind = self.one_of(self.float, self.integer, self.decimal, self.text, self.time)
        a, b, c = kind(depth - 1), kind(depth - 1), kind(0)
        p, q = self.boolean(depth - 1), self.boolean(depth - 1)
        return self.one_of(
            f"({a} {self.one_of('=', '<>', '<', '<=', '>', '>=', 'IS DISTINCT FROM', 'IS NOT DISTINCT FROM')} {b})", f"({p} AND {q})", f"({p} OR {q})",
            f"(NOT {p})", f"({a} IS {self.one_of('', 'NOT ')}NULL)", f"({a} {self.one_of('', 'NOT ')}IN ({b}, {c}))", f"({a} BETWEEN {b} AND {c})",
            f"({self.text(0)} {self.one_of('', 'NOT ')}LIKE '{self.one_of('%a%', 'b_%', '%', 'c')}')", f"(x {self.one_of('<', '=', '>')} {self.decimal(0)})",
            f"({p} IS {self.one_of('', 'NOT ')}{self.one_of('TRUE', 'FALSE')})", f"starts_with({self.text(0)}, u)", f"(x IN (0, 0.5, 1.5, 2))",
        )

    def text(self, depth):
        if depth == 0:
            return self.one_of("t", "u", "'ab'", "''")
        a, b = self.text(depth - 1), self.text(0)
        return self.one_of(
            f"({a} || {b})", f"upper({a})", f"lower({a})", f"substr({a}, {self.random.randint(1, 4)}, {self.random.randint(0, 4)})", f"replace({a}, 'a', {b})",
            f"left({a}, {self.random.randint(-2, 4)})", f"right({a}, {self.random.randint(-2, 4)})", f"trim({a})", f"lpad({a}, {self.random.randint(0, 8)}, '*')",
            f"reverse({a})", f"coalesce({a}, {b})", f"CAST({self.integer(depth - 1)} AS varchar)", f"concat({a}, {b})", f"repeat({b}, {self.random.randint(0, 3)})",
            f"CASE WHEN {self.boolean(depth - 1)} THEN {a} ELSE {b} END", f"nullif({a}, {b})", f"greatest({a}, {b})", f"split_part({a}, 'a', {self.random.randint(1, 3)})",
        )

    def time(self, depth):
        if depth == 0:
            return self.one_of("ts", "timestamp '2023-06-30 23:59:59.5'", "CAST(day AS timestamp)")
        a, b = self.time(depth - 1), self.time(0)
        return self.one_of(
            f"date_trunc('{self.one_of('millisecond', 'second', 'minute', 'hour', 'day', 'week', 'month', 'quarter', 'year')}', {a})",
            f"({a} {self.one_of('+', '-')} interval '{self.one_of('1 day', '1 month', '90 minutes', '1 year 2 months', '1.5 seconds')}')",
            f"coalesce({a}, {b})", f"greatest({a}, {b})", f"CASE WHEN {self.boolean(depth - 1)} THEN {a} ELSE {b} END",
        )

    def row(self):
        values = [
            str(self.random.randint(-9, 9)), str(self.random.randint(-5, 5)), self.number(), self.number(),
            f"{self.random.randint(-99999, 99999) / 100:.2f}", f"{self.random.randint(-9999, 9999) / 1000:.3f}", self.letters(), self.letters(),
            self.one_of("true", "false"), f"'{self.day()} {self.random.randint(0, 23):02}:{self.random.randint(0, 59):02}:{self.random.randint(0, 59):02}.{self.random.randint(0, 999999):06}'",
            f"'{self.day()}'",
        ]
        return [None if self.random.random() < 0.15 else value for value in values]

    def number(self):
        return self.one_of("0", "'-0.0'", "'nan'", "'inf'", "0.1", "0.5", "1.5", "-2.5", str(self.random.uniform(-100, 100)), str(self.random.gauss(0, 1e6)))

    def letters(self):
        return "'" + "".join(self.random.choice("abcAB ") for _ in range(self.random.randint(0, 6))) + "'"

    def day(self):
        return self.one_of("2024-02-29", "1970-01-01", "1600-03-01", "2500-12-31", f"{self.random.randint(1900, 2100)}-{self.random.randint(1, 12):02}-{self.random.randint(1, 28):02}")


def main(seed):
    generator = Generator(seed)
    rows = [generator.row() for _ in range(ROWS)]
    shown = [[value and value.strip("'") if value is None or value.startswith("'") else value for value in row] for row in rows]
    print(json.dumps({"columns": COLUMNS, "rows": shown}))
    connection = connect()
    for _ in range(EXPRESSIONS):
        expression = generator.expression(generator.random.randint(1, 3))
        values = [computed_over(connection, expression, row, COLUMNS) for row in rows]
        print(json.dumps({"sql": expression, "values": values}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
