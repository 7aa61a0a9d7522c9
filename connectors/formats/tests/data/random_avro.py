"""Random records of random schemas as fastavro writes them: `python random_avro.py SEED COUNT`, a line of JSON for each.

`schema` is the schema, `fingerprint` its CRC-64-AVRO as bytes in hexadecimal, `message` the record in the binary encoding in
hexadecimal, and `row` the record as Millstream writes it in NDJSON, without nulls.
"""

import datetime
import decimal
import io
import json
import random
import sys
import uuid

import fastavro
import fastavro.schema

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.names = 0

    def name(self, kind):
        self.names += 1
        return f"{kind}_{self.names}"

    def schema(self, depth):
        """A type, and what makes a value of it: the value for fastavro, and how Millstream writes it."""
        kinds = [self.scalar] * 4 + [self.enum, self.fixed]
        if depth > 0:
            kinds += [self.array, self.map, self.record, self.nullable]
        return self.random.choice(kinds)(depth)

    def scalar(self, _):
        pick = self.random
        text = lambda: "".join(pick.choices(["a", "Ä", '"', "\\", "\n", "\U0001f600", "longer than eight bytes"], k=pick.randint(0, 4)))
        both = lambda make: lambda: (lambda value: (value, value))(make())
        int_, long_ = lambda: pick.choice([-(2**31), 2**31 - 1, 0, pick.randint(-300, 300)]), lambda: pick.choice([-(2**63), 2**63 - 1, 0, pick.randint(-300, 300)])

        def decimal_():
            value = decimal.Decimal(pick.randint(-(10**9), 10**9)).scaleb(-2)
            return value, float(value)

        def bytes_():
            value = pick.randbytes(pick.randint(0, 5))
            return value, value.hex()

        def date():
            value = datetime.date(1, 1, 1) + datetime.timedelta(days=pick.randint(0, 3_652_058))
            return value, value.isoformat()

        def time(unit):
            value = pick.randint(0, 86_399) * 1_000_000 + pick.choice([0, pick.randint(0, 999_999) // unit * unit])
            moment = (datetime.datetime.min + datetime.timedelta(microseconds=value)).time()
            return moment, written(moment)

        def timestamp(unit):
            value = pick.randint(-62_135_596_800, 253_402_300_799) * 1_000_000 + pick.choice([0, pick.randint(0, 999_999) // unit * unit])
            moment = EPOCH + datetime.timedelta(microseconds=value)
            return moment, moment.strftime("%Y").zfill(4) + moment.strftime("-%m-%dT") + written(moment.time()) + "Z"

        def uuid_():
            value = uuid.UUID(int=pick.getrandbits(128))
            return value, str(value)

        return pick.choice([
            ("boolean", both(lambda: pick.random() < 0.5)),
            ("int", both(int_)),
            ("long", both(long_)),
            ("float", both(lambda: pick.choice([0.0, 1.5, -0.25, 1024.0]))),
            ("double", both(lambda: pick.choice([0.0, 0.1, -1e300, 1e-7, pick.random()]))),
            ("string", both(text)),
            ("bytes", bytes_),
            ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}, decimal_),
            ({"type": "fixed", "name": self.name("decimal"), "size": 9, "logicalType": "decimal", "precision": 12, "scale": 2}, decimal_),
            ({"type": "int", "logicalType": "date"}, date),
            ({"type": "int", "logicalType": "time-millis"}, lambda: time(1000)),
            ({"type": "long", "logicalType": "time-micros"}, lambda: time(1)),
            ({"type": "long", "logicalType": "timestamp-millis"}, lambda: timestamp(1000)),
            ({"type": "long", "logicalType": "timestamp-micros"}, lambda: timestamp(1)),
            ({"type": "string", "logicalType": "uuid"}, uuid_),
        ])

    def enum(self, _):
        symbols = ["RED", "GREEN", "BLUE"]
        return {"type": "enum", "name": self.name("enum"), "symbols": symbols}, lambda: (lambda value: (value, value))(self.random.choice(symbols))

    def fixed(self, _):
        def make():
            value = self.random.randbytes(3)
            return value, value.hex()

        return {"type": "fixed", "name": self.name("fixed"), "size": 3}, make

    def array(self, depth):
        item, make = self.schema(depth - 1)

        def values():
            items = [make() for _ in range(self.random.randint(0, 3))]
            return [value for value, _ in items], [text for _, text in items]

        return {"type": "array", "items": item}, values

    def map(self, depth):
        value, make = self.schema(depth - 1)

        def values():
            items = {key: make() for key in self.random.sample(["a", "Ä", "key"], self.random.randint(0, 3))}
            entries = [{"key": key} if text is None else {"key": key, "value": text} for key, (_, text) in items.items()]
            return {key: value for key, (value, _) in items.items()}, entries

        return {"type": "map", "values": value}, values

    def record(self, depth):
        fields = {f"f{index}": self.schema(depth - 1) for index in range(self.random.randint(1, 4))}

        def values():
            made = {name: make() for name, (_, make) in fields.items()}
            row = {name: text for name, (_, text) in made.items() if text is not None}
            return {name: value for name, (value, _) in made.items()}, row

        schema = {"type": "record", "name": self.name("record"), "fields": [{"name": name, "type": kind} for name, (kind, _) in fields.items()]}
        return schema, values

    def nullable(self, _):
        kind, make = self.schema(0)
        branches = self.random.choice([["null", kind], [kind, "null"]])
        return branches, lambda: (None, None) if self.random.random() < 0.3 else make()


def written(time):
    """A time of day with as many digits of its fraction as it needs, in groups of three."""
    micros = f".{time.microsecond:06}" if time.microsecond % 1000 else f".{time.microsecond // 1000:03}" if time.microsecond else ""
    return time.strftime("%H:%M:%S") + micros


def main():
    generator = Generator(int(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        schema, make = generator.record(2)
        value, row = make()
        parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, value)
        canonical = fastavro.schema.to_parsing_canonical_form(parsed)
        print(json.dumps({
            "schema": schema,
            "fingerprint": fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"),
            "message": out.getvalue().hex(),
            "row": row,
        }))


main()
