"""One pass of Vowpal Wabbit over its own binary cache: `vw_cached.py TEXT`, JSON to stdout.

The first run makes the cache from the text and is not measured. Vowpal Wabbit's default updates are normalised, which
is its way to standardise.
"""

import json
import sys
import time
from pathlib import Path

from vowpalwabbit import Workspace

text = Path(sys.argv[1])
cache = text.with_suffix(".cache")
options = f"--loss_function logistic --holdout_off --quiet --data {text} --cache_file {cache}"

if not cache.exists():
    Workspace(options + " --kill_cache").finish()

start = time.perf_counter()
workspace = Workspace(options)
seconds = time.perf_counter() - start
print(json.dumps({"rows": int(workspace.get_weighted_examples()), "seconds": seconds,
                  "log_loss": workspace.get_sum_loss() / workspace.get_weighted_examples()}))
