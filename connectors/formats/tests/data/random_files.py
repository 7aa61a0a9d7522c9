"""Compares random files value by value, from pyarrow to Millstream and back: `python random_files.py MILLSTREAM SEED`.

Each case is a table that is written in one format, read by a flow, written by it in another, and read again. What formats can't
hold is left out: CSV has no lists, no structs, and no empty texts beside nulls; JSON has no NaN, which becomes null.
"""

import datetime
import decimal
import json
import math
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

CASES = 200
SOURCES = ["csv", "ndjson", "json", "parquet", "arrow", "avro"]
TARGETS = ["csv", "ndjson", "json", "parquet", "arrow", "avro"]
# What Avro has no type for becomes a larger one.
AVRO = {
    pa.bool_(): "boolean", pa.int32(): "int", pa.int64(): "long", pa.float32(): "float", pa.float64(): "double", pa.string(): "string",
    pa.binary(): "bytes", pa.date32(): {"type": "int", "logicalType": "date"}, pa.time64("us"): {"type": "long", "logicalType": "time-micros"},
    pa.timestamp("us", "UTC"): {"type": "long", "logicalType": "timestamp-micros"},
    pa.int8(): "int", pa.int16(): "int", pa.uint8(): "int", pa.uint16(): "int", pa.uint32(): "long",
    pa.uint64(): {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 0},
}
SCALARS = {
    "boolean": pa.bool_(), "int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(),
    "uint8": pa.uint8(), "uint16": pa.uint16(), "uint32": pa.uint32(), "uint64": pa.uint64(), "float32": pa.float32(),
    "float64": pa.float64(), "utf8": pa.string(), "binary": pa.binary(), "date": pa.date32(), "time": pa.time64("us"),
    "timestamp": pa.timestamp("us", "UTC"), "decimal(5,2)": pa.decimal128(5, 2), "decimal(38,10)": pa.decimal128(38, 10),
}
CODECS = ["deflate", "null", "zstandard", "snappy", "bzip2"]
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
PIECES = ["a", "Ä", "x, y", '"', "'", "\\", "\n", "\r\n", " ", "\t", "\u2028", "\U0001f600", "null", "0", "{", "]", ";", "longer than eight bytes"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def kind(self, depth):
        """The name of a type, and the type as pyarrow has it."""
        if depth > 0 and self.random.random() < 0.3:
            if self.random.random() < 0.5:
                name, kind = self.kind(depth - 1)
                return f"list<{name}?>", pa.list_(kind)
            fields = [(name, self.kind(depth - 1)) for name in self.random.sample(["x", "y", "long_name"], self.random.randint(1, 3))]
            names = ", ".join(f"{name} = {kind}?" for name, (kind, _) in fields)
            return f"{{ {names} }}", pa.struct([(name, kind) for name, (_, kind) in fields])
        return self.random.choice(list(SCALARS.items()))

    def value(self, kind):
        if self.random.random() < 0.15:
            return None
        if pa.types.is_list(kind):
            return [self.value(kind.value_type) for _ in range(self.random.randint(0, 3))]
        if pa.types.is_struct(kind):
            return {field.name: self.value(field.type) for field in kind}
        return self.scalar(kind)

    def scalar(self, kind):
        pick = self.random
        if pa.types.is_boolean(kind):
            return pick.random() < 0.5
        if pa.types.is_integer(kind):
            least, most = (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1) if pa.types.is_signed_integer(kind) else (0, 2**kind.bit_width - 1)
            return pick.choice([least, most, 0, pick.randint(least, most), min(most, pick.randint(0, 300))])
        if pa.types.is_floating(kind):
            bits = 32 if kind == pa.float32() else 64
            anything = struct.unpack("<f" if bits == 32 else "<d", pick.randbytes(bits // 8))[0]
            value = pick.choice([0.0, -0.0, 0.1, 1e-7, 123456789.25, math.nan, math.inf, -math.inf, anything, pick.random(), float(pick.randint(-(2**60), 2**60))])
            return struct.unpack("<f", struct.pack("<f", value))[0] if bits == 32 else value
        if pa.types.is_decimal(kind):
            digits = pick.randint(0, 10 ** pick.randint(1, kind.precision) - 1)
            return decimal.Decimal((pick.randint(0, 1), tuple(map(int, str(digits))), -kind.scale))
        if kind == pa.string():
            return "".join(pick.choices(PIECES, k=pick.randint(0, 4)))
        if kind == pa.binary():
            return pick.randbytes(pick.randint(0, 5))
        if kind == pa.date32():
            return datetime.date(1, 1, 1) + datetime.timedelta(days=pick.randint(0, 3_652_058))
        if pa.types.is_time(kind):
            return (datetime.datetime.min + datetime.timedelta(microseconds=self.micros(86_400_000_000 - 1))).time()
        return EPOCH + datetime.timedelta(microseconds=self.micros(253_402_300_799_999_999) * pick.choice([1, 1, -1]) % 253_402_300_799_999_999 - pick.choice([0, 62_135_596_800_000_000]))

    def micros(self, most):
        step = self.random.choice([1, 1000, 1_000_000])
        return self.random.randint(0, most) // step * step


def text(value, kind):
    """How a value is written in JSON."""
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [text(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {field.name: text(value[field.name], field.type) for field in kind}
    if pa.types.is_floating(kind) and not math.isfinite(value):
        return str(value)
    if kind == pa.binary():
        return value.hex()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, decimal.Decimal) else value


def value_of(read, kind):
    """The value that was written in JSON or CSV like this."""
    if read is None:
        return None
    if pa.types.is_list(kind):
        return [value_of(item, kind.value_type) for item in read]
    if pa.types.is_struct(kind):
        return {field.name: value_of(read.get(field.name), field.type) for field in kind}
    if pa.types.is_floating(kind):
        return struct.unpack("<f", struct.pack("<f", float(read)))[0] if kind == pa.float32() else float(read)
    if pa.types.is_decimal(kind):
        return decimal.Decimal(read)
    if kind == pa.binary():
        return bytes.fromhex(read)
    if kind == pa.date32():
        return datetime.date.fromisoformat(read)
    if pa.types.is_time(kind):
        return datetime.time.fromisoformat(read)
    return datetime.datetime.fromisoformat(read) if pa.types.is_timestamp(kind) else read


def write(table, path):
    match path.suffix:
        case ".parquet":
            pa.parquet.write_table(table, path, row_group_size=7)
        case ".arrow":
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table, max_chunksize=5)
        case ".csv":
            columns = [pa.array([text(value, column.type) for value in column.to_pylist()], pa.string()) if column.type == pa.binary() else column for column in table.columns]
            pa.csv.write_csv(pa.table(columns, names=table.column_names), path)
        case ".avro":
            rows = [avro_value(row, pa.struct(table.schema)) for row in table.to_pylist()]
            with path.open("wb") as file:
                fastavro.writer(file, fastavro.parse_schema(avro_record(table.schema)), rows, codec=CODECS[len(rows) % len(CODECS)], sync_interval=200)
        case ".ndjson":
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects(table)))
        case ".json":
            path.write_text(json.dumps(objects(table), indent=2))


def avro_type(kind, path="row"):
    """The type of Avro that stands for another, or null."""
    if pa.types.is_list(kind):
        return ["null", {"type": "array", "items": avro_type(kind.value_type, f"{path}_item")}]
    if pa.types.is_struct(kind):
        return ["null", avro_record(kind, path)]
    if pa.types.is_decimal(kind):
        return ["null", {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}]
    return ["null", AVRO[kind]]


def avro_record(fields, path="row"):
    return {"type": "record", "name": path, "fields": [{"name": field.name, "type": avro_type(field.type, f"{path}_{field.name}")} for field in fields]}


def avro_value(value, kind):
    """What fastavro writes and reads for a value: an integer of 64 bits without a sign is a decimal."""
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [avro_value(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {field.name: avro_value(value[field.name], field.type) for field in kind}
    return decimal.Decimal(value) if kind == pa.uint64() else value


def avro_read(value, kind):
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [avro_read(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {field.name: avro_read(value[field.name], field.type) for field in kind}
    return int(value) if kind == pa.uint64() else value


def objects(table):
    return [text(row, pa.struct(table.schema)) for row in table.to_pylist()]


def read(path, schema):
    match path.suffix:
        case ".parquet":
            return pa.parquet.read_table(path).to_pylist()
        case ".arrow":
            return pa.ipc.open_file(path).read_all().to_pylist()
        case ".csv":
            kinds = {field.name: pa.string() if field.type == pa.binary() else field.type for field in schema}
            options = pa.csv.ConvertOptions(column_types=kinds, null_values=[""], strings_can_be_null=True)
            rows = pa.csv.read_csv(path, parse_options=pa.csv.ParseOptions(newlines_in_values=True), convert_options=options)
            return [{field.name: value_of(row[field.name], pa.binary()) if field.type == pa.binary() else row[field.name] for field in schema} for row in rows.to_pylist()]
        case ".avro":
            with path.open("rb") as file:
                return [avro_read(row, pa.struct(schema)) for row in fastavro.reader(file)]
        case ".ndjson":
            rows = [json.loads(line, parse_float=decimal.Decimal) for line in path.read_text().split("\n") if line]
        case ".json":
            rows = json.loads(path.read_text(), parse_float=decimal.Decimal)
    return [value_of(row, pa.struct(schema)) for row in rows]


def shown(value, forgets_nan, forgets_empty):
    """What is compared: every bit, but for what the target format can't hold."""
    if isinstance(value, float):
        return None if forgets_nan and not math.isfinite(value) else repr(value)
    if isinstance(value, dict):
        return {name: shown(item, forgets_nan, forgets_empty) for name, item in value.items()}
    if isinstance(value, list):
        return [shown(item, forgets_nan, forgets_empty) for item in value]
    if forgets_empty and value in ("", b""):
        return None
    return value


def compare(generator, millstream, folder, number):
    source, target = generator.random.choice(SOURCES), generator.random.choice(TARGETS)
    flat = "csv" in (source, target)
    kinds = {f"c{index}": generator.kind(0 if flat else 2) for index in range(generator.random.randint(1, 6))}
    # A record of CSV with one null would be a blank line, which pyarrow passes over.
    kinds = {"row": ("int64", pa.int64()), **kinds}
    schema = pa.schema([(name, kind) for name, (_, kind) in kinds.items()])
    rows = [{name: number if name == "row" else generator.value(kind) for name, (_, kind) in kinds.items()} for number in range(generator.random.choice([0, 1, 40]))]
    table = pa.Table.from_pylist(rows, schema)
    before, after = folder / f"{number}.{source}", folder / f"{number}-out.{target}"
    write(table, before)
    types = ", ".join(f"{name} = {json.dumps(kind + '?')}" for name, (kind, _) in kinds.items())
    declared = "" if source in ("parquet", "arrow", "avro") else f"schema = {{ {types} }}\n"
    batch_rows = generator.random.choice([1, 7, 8192])
    flow = folder / f"case_{number}.toml"
    flow.write_text(
        f'[input.rows]\ntype = "file"\npath = "{before}"\nbatch_rows = {batch_rows}\n{declared}\n'
        f'[output.out]\ntype = "file"\nfrom = "rows"\npath = "{after}"\n'
    )
    ran = subprocess.run([millstream, "run", flow], cwd=folder, capture_output=True, text=True)
    if ran.returncode != 0:
        return f"{flow}: {source} to {target}: {ran.stderr}"
    forgets_nan, forgets_empty = target in ("ndjson", "json"), flat
    expected = [shown(row, forgets_nan, forgets_empty) for row in table.to_pylist()]
    got = [shown(row, forgets_nan, forgets_empty) for row in read(after, schema)]
    for one, two in zip(expected, got):
        if one != two:
            return f"{flow}: {source} to {target} {types}:\n  {one}\n  {two}"
    return None if len(expected) == len(got) else f"{flow}: {source} to {target}: {len(got)} rows of {len(expected)}"


def main():
    millstream, seed = sys.argv[1], int(sys.argv[2])
    generator = Generator(seed)
    folder = Path(tempfile.mkdtemp())
    problems = [problem for number in range(CASES) if (problem := compare(generator, millstream, folder, number))]
    if problems:
        print("\n".join(problems[:20]))
        sys.exit(f"{len(problems)} of {CASES} files differ; they are in {folder}")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    print(f"{CASES} files are the same")


main()
