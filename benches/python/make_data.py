"""Makes the data of the benchmarks, once: `make_data.py FLIGHTS FOLDER`.

Everything comes from a fixed seed, from PyPI, or from `flows/data`; nothing else is downloaded.
"""

import hashlib
import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import river.datasets
from sklearn.datasets import make_classification

FLIGHTS, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
PAYMENT_ROWS, PAYMENT_JSON_ROWS = 5_000_000, 1_000_000


def write(name, columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), FOLDER / name, compression="zstd", row_group_size=131_072)


def write_numbers(name, numbers, label):
    """A table of numbers `x0`, `x1`, … and a `label`."""
    columns = {f"x{index}": column for index, column in enumerate(numbers)}
    write(name, columns | {"label": label})


def synth28():
    x, y = make_classification(
        n_samples=200_000, n_features=28, n_informative=14, n_redundant=7, n_repeated=0, n_classes=2,
        n_clusters_per_class=2, weights=None, flip_y=0.01, class_sep=1.0, hypercube=True, shift=0.0, scale=1.0,
        shuffle=True, random_state=42,
    )
    digest = hashlib.sha256(x.tobytes()).hexdigest()
    assert digest.startswith("1615c40d7338"), "this scikit-learn makes other numbers from the same seed"
    write_numbers("synth28.parquet", x.T, y == 1)
    with open(FOLDER / "synth28.vw", "w") as text:
        for row, label in zip(x, y):
            features = " ".join(f"{index}:{value:.17g}" for index, value in enumerate(row))
            text.write(f"{1 if label else -1} | {features}\n")


def elec2_and_covtype():
    """Both are in the wheel of scikit-multiflow 0.4.1 (BSD-3), which needs no installation."""
    command = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version", "3.7", "--implementation",
               "cp", "--abi", "cp37m", "--platform", "manylinux1_x86_64", "--dest", FOLDER, "scikit-multiflow==0.4.1"]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True)
    with zipfile.ZipFile(next(FOLDER.glob("scikit_multiflow-*.whl"))) as wheel:
        for name, file, positive in [("elec2", "elec", 1), ("covtype", "covtype", 2)]:
            with wheel.open(f"skmultiflow/data/datasets/{file}.csv") as csv:
                *numbers, target = pyarrow.csv.read_csv(csv).columns
            label = pyarrow.compute.equal(target, positive).combine_chunks()
            write_numbers(f"{name}.parquet", numbers, label)
            if name == "covtype":
                few = [column.slice(0, 100_000) for column in [*numbers, target]]
                write_numbers("covtype7.parquet", few[:-1], few[-1])


def shuttle():
    rows = list(river.datasets.Shuttle())
    numbers = [[x[f"f{index}"] for x, _ in rows] for index in range(1, 10)]
    write_numbers("shuttle.parquet", numbers, [y == 1 for _, y in rows])


def flights():
    """What River learns of the flights; and their first 20,000, to be read in batches of one row."""
    table = pyarrow.parquet.read_table(FLIGHTS)
    pyarrow.parquet.write_table(table.slice(0, 20_000), FOLDER / "flights_20000.parquet")
    table = table.filter(pyarrow.compute.field("arr_delay").is_valid())
    names = ["month", "day", "hour", "minute", "distance", "carrier", "origin", "dest"]
    late = pyarrow.compute.greater(table["arr_delay"], 15)
    write("flights.parquet", {name: table[name] for name in names} | {"label": late})


def payments():
    """Six columns, as they come from a shop: for what the engine costs over the work itself."""
    random = numpy.random.default_rng(42)
    rows = PAYMENT_ROWS
    countries = numpy.array(["AT", "BE", "CH", "DE", "DK", "ES", "FR", "GB", "IT", "NL", "NO", "PL", "PT", "SE", "US"])
    start = numpy.datetime64("2026-01-01T00:00:00", "us")
    columns = {
        "id": numpy.arange(rows),
        "quantity": random.integers(0, 100, rows),
        "price": random.lognormal(3.0, 1.0, rows).round(2),
        "discount": random.integers(0, 30, rows) / 100.0,
        "country": countries[random.integers(0, len(countries), rows)],
        "at": pyarrow.array(start + numpy.arange(rows) * 250_000, pyarrow.timestamp("us", "UTC")),
    }
    write("payments.parquet", columns)
    few = pyarrow.table(columns).slice(0, PAYMENT_JSON_ROWS).to_pydict()
    with open(FOLDER / "payments.ndjson", "w") as text, open(FOLDER / "payments.csv", "w") as csv:
        csv.write("id,quantity,price,discount,country,at\n")
        for id, quantity, price, discount, country, at in zip(*few.values()):
            at = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            text.write(f'{{"id":{id},"quantity":{quantity},"price":{price},"discount":{discount},'
                       f'"country":"{country}","at":"{at}"}}\n')
            csv.write(f"{id},{quantity},{price},{discount},{country},{at}\n")


def small():
    lines = "".join(f"{number},{number % 7},{number / 8}\n" for number in range(1_000))
    (FOLDER / "small.csv").write_text("id,kind,amount\n" + lines)


FOLDER.mkdir(parents=True, exist_ok=True)
for make in [synth28, elec2_and_covtype, shuttle, flights, payments, small]:
    # What was made by this text of the program is there.
    done = FOLDER / f".{make.__name__}-{hashlib.sha256(inspect.getsource(make).encode()).hexdigest()[:8]}"
    if not done.exists():
        print(f"making data: {make.__name__}", file=sys.stderr)
        make()
        done.touch()
