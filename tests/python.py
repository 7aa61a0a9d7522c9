"""Runs the examples of the Python module, and looks at what they leave out: `python.py README URL TOKEN`, in the folder of a daemon. `tests/python` starts it."""

import doctest
import multiprocessing
import pickle
import signal
import sys
import threading
import time

import pandas
import pyarrow
from millstream import Client, Endpoint, FlowDoesNotCheck, MillstreamError, Registry, Rows

readme, url, token = sys.argv[1:]

failed, tried = doctest.testfile(
    readme, module_relative=False, globs={"token": token}, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, encoding="utf-8"
)
assert tried > 10 and not failed, (failed, tried)


def refused(ask, *words, kind=MillstreamError):
    """What is wrong with what was asked."""
    try:
        ask()
    except kind as error:
        assert all(word in str(error) for word in words), error
        return error
    raise AssertionError(f"it should say {words}")


def answers_of(count):
    """How many rows are answered of so many."""
    return len(models.predict("fraud", frame.head(1).to_dict("records") * count))


# Rows come back as what they were sent as.
models, daemon = Client(url, token=token), Client()
rows = {"amount": [20.0, 880.0], "items": [1, 2], "country": ["DE", "FR"]}
frame, table = pandas.DataFrame(rows, index=[7, 9]), pyarrow.table(rows)
assert models.predict("fraud", frame)["prediction"].to_dict() == {7: False, 9: True}
assert models.predict("fraud", table)["prediction"].to_pylist() == [False, True]
assert [row["prediction"] for row in models.predict("fraud", frame.to_dict("records"))] == [False, True]
assert models.predict("fraud", []) == []

# Every process has a connection of its own, and one that was idle for long, or left in the middle, is not used again.
pool = multiprocessing.get_context("fork").Pool(3)
counts = [1, 4, 7] * 20
assert pool.map(answers_of, counts) == counts
time.sleep(11)
assert models.predict("fraud", frame)["prediction"].tolist() == [False, True]


class Stop(Exception):
    """Somebody has lost patience."""


def stop(*_):
    raise Stop


signal.signal(signal.SIGALRM, stop)
for seconds in (0.0002, 0.001, 0.002):
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        models.predict("fraud", frame)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Stop:
        pass
    assert models.predict("fraud", frame)["prediction"].tolist() == [False, True]
assert pickle.loads(pickle.dumps(models)).predict("fraud", frame)["prediction"].tolist() == [False, True]
assert Rows([{"a": 1}, {"b": 2}]).to_arrow().column_names == ["a", "b"]
refused(lambda: models.predict("fraud", [[1, 2]]), "dictionaries", kind=TypeError)
refused(lambda: models.predict("fraud", [{"amount": b"1"}]), "bytes", kind=TypeError)

# A row has one label, however often that is sent.
asked = models.predict("fraud", frame.to_dict("records"), ids=True)
labels = [{"id": row["id"], "label": bool(row["prediction"])} for row in asked]
assert [models.learn("fraud", labels), models.learn("fraud", labels), models.learn("fraud", [])] == [2, 0, 0]
assert refused(lambda: models.learn("fraud", [{"id": labels[0]["id"], "label": True}]), "rows[0]").status == 409
assert refused(lambda: models.learn("fraud", [{"id": "none", "label": True}]), "rows[0].id").status == 404
assert models.predict("fraud", [], ids=True) == []

# What is wrong is said as the server says it, whichever protocol it is of.
assert refused(lambda: models.predict("none", frame), "`none` is not served").status == 404
assert refused(lambda: models.predict("fraud", frame.assign(amount=float("nan"))), "feature `amount` is null").status == 400
assert refused(lambda: Client(url, token="ms_wrong").predict("fraud", frame), "").status == 401
assert refused(lambda: Client("http://127.0.0.1:1").flows(), "127.0.0.1:1").status == 0
refused(lambda: Client("ftp://x"), "`ftp://x`", kind=ValueError)
wrong = refused(lambda: daemon.apply('[input.a]\ntype = "generat"\n', "wrong"), "2:", "generat", kind=FlowDoesNotCheck)
assert wrong.errors[0]["line"] == 2 and wrong.code == "flow-does-not-check"
assert daemon.check('[input.a]\ntype = "generate"\ncolumns = { n = "row" }\nrows = 1\n[output.b]\ntype = "drop"\nfrom = "a"\n') == []
assert refused(lambda: daemon.flow("none"), "none").code == "not-found"
assert refused(lambda: Registry("models").card("none"), "there is no model `none`").status == 0

# A flow that is there is changed, and goes.
text = daemon.source("numbers")
assert daemon.apply(text.replace("100/s", "50/s"))["revision"] == 2
daemon.start("numbers")
assert daemon.checkpoint("numbers")["state"] == "done" and daemon.pause("numbers")["name"] == "numbers"
while not daemon.flow("numbers")["paused"]:
    pass
daemon.resume("numbers")
while daemon.flow("numbers")["paused"]:
    pass
daemon.delete("numbers")
assert [flow["name"] for flow in daemon.flows()] == ["ask_and_learn"]

# Models by the API and where they are kept.
assert daemon.model("fraud")["aliases"]["challenger"] == 2 and daemon.promote("fraud", 3)["aliases"]["champion"] == 3
assert Registry("models").versions("fraud")[0]["version"] == daemon.versions("fraud")[0]["version"] == 3
assert Registry("models").notes("fraud/2")["tags"] == {"reviewed": "yes"} and daemon.note("fraud", 2, tags={"reviewed": None})["tags"] == {}
assert daemon.card("fraud", 2)["rows"] == 304 and len(daemon.learning_curve("fraud")) == 3

# Sent again under its key, a request counts once. Many threads may share a client.
payments = Endpoint(next(line for line in open(readme) if "/payments" in line).split('"')[1])
row = {"at": "2026-01-31T12:00:00Z", "card": "once", "amount": 1.0}
first = payments.send(row, key="the same")
assert payments.send(row, key="the same") == first and payments.ask([row])[0]["payments_in_an_hour"] == 2
assert refused(lambda: payments.send({"at": "never"}), "row").status == 400
answers = []
threads = [threading.Thread(target=lambda: answers.extend(models.predict("fraud", frame.to_dict("records")))) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert [row["prediction"] for row in answers] == [False, True] * 8
print(f"{tried} examples of the Python module are as they are written")
