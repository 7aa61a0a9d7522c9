"""Turns the lines of `benches` into a Markdown table."""

import json
import sys

print("| measurement | measured | reference | ratio | goal | ok |")
print("|---|---:|---:|---:|---:|---|")
for line in sys.stdin:
    row = json.loads(line)
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}" if row["ratio"] >= 10 else f"{row['ratio']:.4f}"
    ok = {True: "yes", False: "**no**", None: ""}[row["ok"]]
    print(f"| {row['name']} | {row['measured']} | {row['reference'] or ''} | {ratio} | {row['goal']} | {ok} |", flush=True)
