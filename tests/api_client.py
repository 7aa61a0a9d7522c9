"""Steers a daemon by a client that was generated from what the daemon says of its API: `api_client.py URL TOKEN`."""

import json
import sys
from types import SimpleNamespace

from generated_client import AuthenticatedClient
from generated_client.api.default import (
    delete_flow,
    get_flow,
    get_flow_source,
    get_operation,
    list_flows,
    put_flow,
    start_flow,
    stop_flow,
    tap_flow,
)
from generated_client.models import OperationRequest, StopRequest

FLOW = """
[input.numbers]
type = "generate"
rate = "100/s"
columns = { n = "row" }

[processor.doubled]
type = "sql"
from = "numbers"
query = "SELECT 2 * n AS n FROM numbers"

[output.gone]
type = "drop"
from = "doubled"
"""

url, token = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True)
waits = client.with_headers({"prefer": "wait=60"})


def text(flow):
    return SimpleNamespace(payload=flow.encode())


def good(answer, status=200):
    assert answer.status_code == status, answer
    return answer.parsed


# What is there.
flows = good(list_flows.sync_detailed(client=client))
assert [flow.name for flow in flows.items] == ["steady"], flows

# What is wrong with a flow is said at its place.
wrong = put_flow.sync_detailed("made", client=client.with_headers({"if-none-match": "*"}), body=text(FLOW.replace("2 * n", "2 * m")))
assert wrong.status_code == 422 and wrong.parsed.code == "flow-does-not-check", wrong
assert wrong.parsed.errors[0].line == 10, wrong.parsed

# A flow is made, and the operation that does it comes to its end.
change = good(put_flow.sync_detailed("made", client=client.with_headers({"if-none-match": "*"}), body=text(FLOW), message="by a program"), 201)
assert change.revision == 1 and [node.effect for node in change.nodes] == ["added"] * 3, change
operation = good(get_operation.sync_detailed(change.operation, client=waits))
assert operation.state == "done" and operation.kind == "apply", operation
flow = good(get_flow.sync_detailed("made", client=client))
assert flow.state == "running" and flow.desired == "running" and flow.source.kind == "api", flow
source = get_flow_source.sync_detailed("made", client=client)
assert source.content.decode() == FLOW, source

# Rows that pass, of which the stream has no end.
request = tap_flow._get_kwargs("made", node="doubled")
with client.get_httpx_client().stream(**request) as stream:
    assert stream.headers["content-type"] == "text/event-stream", stream
    told = next(line for line in stream.iter_lines() if line.startswith("data: "))
rows = json.loads(told.removeprefix("data: "))["rows"]
assert rows and all(row["n"] % 2 == 0 for row in rows), rows

# It stops, starts and goes.
for done in (
    stop_flow.sync_detailed("made", client=waits, body=StopRequest()),
    start_flow.sync_detailed("made", client=waits, body=OperationRequest()),
    delete_flow.sync_detailed("made", client=waits, body=OperationRequest()),
):
    assert good(done).state == "done", done
assert get_flow.sync_detailed("made", client=client).status_code == 404
print("the generated client does what it should")
