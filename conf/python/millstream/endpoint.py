"""Rows for a flow: what its input `http_listen` takes, and what the flow answers."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from .errors import MillstreamError
from .rows import AnyRows, encoded, like, records
from .transport import Transport

#: Answers after which the same rows may be sent again.
_AGAIN = (0, 409, 429, 502, 503, 504, 507)

#: How long it is waited before that, where the server does not say, in seconds.
_PAUSE = 0.2


@dataclass
class Taken:
    """Rows that a flow has taken: they are durable, and count once."""

    #: The position of the first row, by which a label can name it; the next ones follow.
    first: int
    #: How many there are.
    rows: int
    #: What the flow has answered, if it does; None for a row that got no answer.
    answers: Any = None


class Endpoint:
    """Where a flow takes rows by HTTP.

    ``url`` is the address and the path of its input: ``http://127.0.0.1:8400/payments``. Rows that were not answered, or refused for a while, are sent again
    for up to ``patience`` seconds, with the same key, so that they count once however often that is.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 60.0, patience: float = 60.0, ca: str | None = None):
        self._transport = Transport(url, token, timeout, ca)
        self._patience = patience

    def send(self, rows: AnyRows, *, key: str | None = None) -> Taken:
        """Sends rows, and returns when they are durable: such as labels that became known."""
        body = encoded(records(rows))
        key = key or uuid.uuid4().hex
        if not (key.isascii() and key.isprintable()):
            raise ValueError(f"{key!r} is no key: keys are printable ASCII")
        headers = {"content-type": "application/json", "idempotency-key": key}
        end = time.monotonic() + self._patience
        while True:
            try:
                said = self._transport.ask("POST", self._transport.path, body, headers, again=True).json()
                if not isinstance(said, dict) or "first" not in said:
                    raise MillstreamError(f"{self._transport.url}: no input of a flow answers there", 200, body=said)
                return Taken(said["first"], said["rows"], said.get("answers"))
            except MillstreamError as error:
                pause = error.retry_after or _PAUSE
                if error.status not in _AGAIN or time.monotonic() + pause > end:
                    raise
            time.sleep(pause)

    def ask(self, rows: AnyRows, *, key: str | None = None) -> Any:
        """Sends rows, and returns what the flow answers, an answer a row, as what the rows were sent as."""
        taken = self.send(rows, key=key)
        if taken.answers is None:
            raise MillstreamError("the input answers nothing: it has no `respond`")
        return like(rows, [answer or {} for answer in taken.answers])
