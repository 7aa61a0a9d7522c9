"""A daemon, or a server of models: what its API does, as methods."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from .errors import FlowDoesNotCheck, MillstreamError, OperationFailed
from .rows import AnyRows, Rows, encoded, like, records
from .transport import Answer, Transport

if TYPE_CHECKING:
    from .types import ChangeView, FlowView, ModelView, Operation, VersionView

#: How long an operation is waited for at a time, in seconds.
_WAIT = 30


class Client:
    """A daemon, or a server of models.

    ``url`` is ``http://HOST:PORT``, ``https://HOST:PORT`` or ``unix:PATH``; by default the Unix socket of the daemon of this machine. ``token`` is one of ``millstream
    token create``, by default that of the variable ``MILLSTREAM_TOKEN``. ``ca`` is a file with the authorities that vouch for the server, if the system does not know
    them. Any number of threads may use it.
    """

    def __init__(self, url: str | None = None, *, token: str | None = None, timeout: float = 60.0, ca: str | None = None):
        self._transport = Transport(url, token or os.environ.get("MILLSTREAM_TOKEN"), timeout, ca)

    # Predictions.

    def predict(self, model: str, rows: AnyRows, *, version: str | int | None = None, ids: bool = False) -> Any:
        """Predicts rows by a model that is served: a prediction a row, as what the rows were sent as. ``version`` is a number or an alias. With ``ids`` each prediction
        has the ``id`` by which :meth:`learn` knows it; the server has to keep a log of requests."""
        path = _path("models", model, "predict", query={"version": version})
        # It changes nothing, and may be asked for twice.
        said = self._json("POST", path, {"rows": records(rows)}, again=True)
        predictions = said["predictions"]
        if ids and predictions:
            if "ids" not in said:
                raise MillstreamError("predictions have no ids: the server keeps no log of requests (`[serve.log]`), or it is full", 200, body=said)
            predictions = [{"id": known_by, **prediction} for known_by, prediction in zip(said["ids"], predictions)]
        return like(rows, predictions)

    def learn(self, model: str, labels: AnyRows) -> int:
        """Says what became of rows that were predicted: rows with the ``id`` of a prediction and its ``label``. When it returns, they are durable, and flows will learn
        them. Returns how many had no label before."""
        # The same label again counts once.
        return int(self._json("POST", _path("models", model, "learn"), {"rows": records(labels)}, again=True)["rows"])

    def inputs(self, model: str, *, version: str | int | None = None) -> Rows:
        """How what a version was asked of late differs from what it has learned: drift, missing and unseen values, a row for each feature."""
        return Rows(self._json("GET", _path("models", model, "inputs", query={"version": version}))["inputs"])

    # Flows.

    def flows(self) -> Rows:
        """All flows."""
        return self._list(_path("flows"))

    def flow(self, name: str) -> FlowView:
        """A flow: what it does, and what is wrong with it."""
        return self._json("GET", _path("flows", name))

    def source(self, name: str) -> str:
        """The text of a flow."""
        return self._ask("GET", _path("flows", name, "source")).bytes.decode()

    def check(self, text: str) -> list[Mapping[str, Any]]:
        """All that is wrong with the text of a flow; nothing is changed."""
        try:
            self._ask("POST", _path("check"), text.encode(), {"content-type": "application/toml"})
        except FlowDoesNotCheck as wrong:
            return wrong.errors
        return []

    def apply(
        self, text: str, name: str | None = None, *, message: str | None = None, start: bool = True, reset: Iterable[str] = (), wait: bool = True
    ) -> ChangeView:
        """Lets a flow be as a text says, new or in place of the one there is, and waits until it is. Raises :class:`FlowDoesNotCheck` if it is wrong.

        ``reset`` names nodes that start from scratch. ``name`` is needed where the text does not say it, or Python is older than 3.11."""
        name = name or _name(text)
        reset = [reset] if isinstance(reset, str) else reset
        query = {"message": message, "start": str(start).lower(), "reset": ",".join(reset)}
        headers = {"content-type": "application/toml", **self._seen(name)}
        change = self._ask("PUT", _path("flows", name, query=query), text.encode(), headers).json()
        if wait and change.get("operation") is not None:
            self.wait(change["operation"])
        return change

    def start(self, name: str) -> Operation:
        """Starts a flow, and waits until it runs."""
        return self._operate("POST", _path("flows", name, "start"))

    def stop(self, name: str, *, force: bool = False) -> Operation:
        """Stops a flow at a checkpoint, or at once, and waits until it has stopped."""
        return self._operate("POST", _path("flows", name, "stop"), {"force": force})

    def drain(self, name: str) -> Operation:
        """Stops a flow when all that it has read is out and visible."""
        return self._operate("POST", _path("flows", name, "drain"))

    def checkpoint(self, name: str) -> Operation:
        """Lets a flow take a checkpoint."""
        return self._operate("POST", _path("flows", name, "checkpoint"))

    def rollback(self, name: str, to: int) -> Operation:
        """Lets a flow be as it was in a revision."""
        return self._operate("POST", _path("flows", name, "rollback"), {"to": to})

    def delete(self, name: str) -> Operation:
        """Takes a flow away when it has stopped. Its state stays."""
        return self._operate("DELETE", _path("flows", name))

    def pause(self, name: str) -> FlowView:
        """Holds the inputs of a flow."""
        return self._json("POST", _path("flows", name, "pause"), {})

    def resume(self, name: str) -> FlowView:
        """Lets the inputs of a flow go on."""
        return self._json("POST", _path("flows", name, "resume"), {})

    def stats(self, name: str) -> Mapping[str, Any]:
        """What the nodes and edges of a flow have done."""
        return self._json("GET", _path("flows", name, "stats"))

    def logs(self, name: str) -> Rows:
        """What was logged of a flow lately."""
        return self._list(_path("flows", name, "logs"))

    def dead_letters(self, name: str) -> Rows:
        """Rows that nodes of a flow have refused."""
        return self._list(_path("flows", name, "dead_letters"))

    def tap(self, name: str, node: str, port: str | None = None) -> Iterator[Rows]:
        """Rows that leave a node, as they pass: some of them, whenever there are any. It has no end, and costs the flow next to nothing."""
        for line in self._transport.stream(_path("flows", name, "tap", query={"node": node, "port": port})):
            if line.startswith(b"data: "):
                yield Rows(json.loads(line[len(b"data: ") :])["rows"])

    def wait(self, operation: int) -> Operation:
        """Waits for the end of an operation. Raises :class:`OperationFailed` if it is no good one."""
        while True:
            wait = max(1, min(_WAIT, int(self._transport.timeout / 2)))
            said = self._json("GET", _path("operations", operation), headers={"prefer": f"wait={wait}"})
            if said["state"] == "done":
                return said
            if said["state"] != "running":
                raise OperationFailed(said.get("problem") or f"operation {operation} is {said['state']}", code=said["state"], body=said)

    # Models.

    def models(self) -> Rows:
        """The models of the registry."""
        return self._list(_path("models"))

    def model(self, name: str) -> ModelView:
        """A model."""
        return self._json("GET", _path("models", name))

    def versions(self, model: str) -> Rows:
        """The versions of a model, the newest first."""
        return self._list(_path("models", model, "versions"))

    def card(self, model: str, version: int) -> Mapping[str, Any]:
        """What is known of a version, also which rows it has learned from."""
        return self._json("GET", _path("models", model, "versions", version))

    def learning_curve(self, model: str) -> Rows:
        """How a model has learned, version by version."""
        return Rows(self._json("GET", _path("models", model, "series"))["points"])

    def promote(self, model: str, version: int) -> ModelView:
        """Lets a version be the champion, which answers from now on."""
        return self.set_alias(model, "champion", version)

    def set_alias(self, model: str, alias: str, version: int) -> ModelView:
        """Points an alias at a version."""
        return self._json("PUT", _path("models", model, "aliases", alias), {"version": version})

    def delete_alias(self, model: str, alias: str) -> None:
        """Takes an alias away."""
        self._json("DELETE", _path("models", model, "aliases", alias), {})

    def note(
        self, model: str, version: int | None = None, *, description: str | None = None, tags: Mapping[str, str | None] | None = None
    ) -> ModelView | VersionView:
        """Describes and tags a model, or a version of it. A tag that is None is taken away; what is left out stays as it is."""
        parts: list[Any] = ["models", model] if version is None else ["models", model, "versions", version]
        said: dict[str, Any] = {"tags": dict(tags or {})}
        if description is not None:
            said["description"] = description
        return self._json("PATCH", _path(*parts), said)

    # What all of them do.

    def _ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, *, again: bool = False) -> Answer:
        return self._transport.ask(method, path, body, headers, again=again)

    def _json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, *, again: bool = False) -> Any:
        headers = dict(headers or {})
        if body is not None:
            headers["content-type"] = "application/json"
        return self._ask(method, path, None if body is None else encoded(body), headers, again=again).json()

    def _list(self, path: str) -> Rows:
        """A list, page by page."""
        rows, cursor = Rows(), None
        while True:
            page = self._json("GET", path if cursor is None else f"{path}?{urlencode({'cursor': cursor})}")
            rows.extend(page["items"])
            cursor = page.get("next")
            if cursor is None:
                return rows

    def _operate(self, method: str, path: str, details: Mapping[str, Any] | None = None) -> Operation:
        return self.wait(self._json(method, path, details or {})["id"])

    def _seen(self, name: str) -> dict[str, str]:
        """What says which revision of a flow is changed: the one there is now, or none."""
        try:
            return {"if-match": self._ask("GET", _path("flows", name)).headers["etag"]}
        except MillstreamError as error:
            if error.status != 404:
                raise
            return {"if-none-match": "*"}


def _path(*parts: Any, query: Mapping[str, Any] | None = None) -> str:
    path = "/".join(["/api/v1", *(quote(str(part), safe="") for part in parts)])
    said = {name: value for name, value in (query or {}).items() if value not in (None, "")}
    return f"{path}?{urlencode(said)}" if said else path


def _name(text: str) -> str:
    """The name that the text of a flow says."""
    try:
        import tomllib
    except ImportError:
        raise ValueError("say the `name` of the flow: Python reads TOML from version 3.11 on") from None
    name = tomllib.loads(text).get("flow", {}).get("name")
    if not name:
        raise ValueError("the text does not say what the flow is called: `[flow] name = …`, or say its `name`")
    return name
