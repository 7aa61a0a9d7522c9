"""DuckDB's pass over a text file, on one thread: `duckdb_text.py FILE QUERY`, JSON to stdout.

The query reads from `payments`. The seconds are CPU seconds of the query alone, whose rows are fetched as Arrow batches and dropped;
starting Python and DuckDB is not counted.
"""

import json
import sys
import time

import duckdb

TYPES = {"id": "BIGINT", "quantity": "BIGINT", "price": "DOUBLE", "discount": "DOUBLE", "country": "VARCHAR",
         "at": "TIMESTAMPTZ"}
READERS = {"csv": "read_csv('{}', columns = {}, header = true, auto_detect = false)",
           "ndjson": "read_json('{}', columns = {}, format = 'newline_delimited')"}


def main(path, query):
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"CREATE VIEW payments AS FROM {READERS[path.rsplit('.', 1)[-1]].format(path, TYPES)}")
    begun = time.process_time()
    rows = sum(batch.num_rows for batch in connection.sql(query).to_arrow_reader(8192))
    print(json.dumps({"rows": rows, "seconds": time.process_time() - begun}))


main(sys.argv[1], sys.argv[2])
