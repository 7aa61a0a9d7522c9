"""The way to a server: HTTP over TCP, with TLS or without, or over a Unix socket. Connections are kept, one for each thread."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import errors

#: Where the package has the daemon listen, and where it does in its own folder.
SOCKETS = ("/run/millstream/admin.sock", "admin.sock")

#: How long a connection is kept that nobody uses, in seconds: less than servers wait for the next request.
_IDLE = 5.0

#: What happens where nobody answers, or not as HTTP has it.
_BROKEN = (OSError, http.client.HTTPException)


@dataclass
class Answer:
    """A good answer."""

    status: int
    headers: Mapping[str, str]
    bytes: bytes

    def json(self) -> Any:
        """What is in it. Raises :class:`MillstreamError` if that is no JSON."""
        try:
            return json.loads(self.bytes) if self.bytes else None
        except ValueError:
            raise errors.MillstreamError(f"the answer is no JSON: {self.bytes[:200]!r}", self.status) from None


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str, timeout: float | None):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class _Kept:
    """A connection between two requests."""

    connection: http.client.HTTPConnection
    #: A process that was forked has one of its own.
    process: int
    since: float

    def is_good(self) -> bool:
        return self.process == os.getpid() and time.monotonic() - self.since < _IDLE


class Transport:
    """The way to a server."""

    def __init__(self, url: str | None, token: str | None, timeout: float, ca: str | None):
        self.url = url or _socket()
        self.timeout = timeout
        token = token and token.strip()
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._ca = ca
        parts = urllib.parse.urlsplit(self.url)
        is_good = parts.path.strip("/") if parts.scheme == "unix" else parts.scheme in ("http", "https") and parts.hostname
        if not is_good or parts.scheme == "unix" and parts.netloc:
            raise ValueError(f"`{self.url}` should be `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`")
        self._parts = parts
        self._local = threading.local()

    def __getstate__(self) -> tuple[str, str | None, float, str | None]:
        token = self._headers.get("authorization", "").removeprefix("Bearer ") or None
        return self.url, token, self.timeout, self._ca

    def __setstate__(self, state: tuple[str, str | None, float, str | None]) -> None:
        Transport.__init__(self, *state)

    @property
    def path(self) -> str:
        """The path of the URL."""
        return self._parts.path or "/"

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, *, again: bool = False) -> Answer:
        """Asks, and returns a good answer. Raises :class:`MillstreamError` for any other one, or none. A request that may be made ``again`` is, once, where a
        connection that was kept turns out to be gone."""
        connection = self._take()
        try:
            if connection is not None:
                try:
                    answer = self._exchange(connection, method, path, body, headers)
                except _BROKEN:
                    connection.close()
                    connection = None
                    if not again and method not in ("GET", "HEAD"):
                        raise
            if connection is None:
                connection = self._connect(self.timeout)
                answer = self._exchange(connection, method, path, body, headers)
        except BaseException as error:
            # Whatever has happened, it is not known what comes next on it.
            if connection is not None:
                connection.close()
            if isinstance(error, _BROKEN):
                raise errors.MillstreamError(f"{self.url}: {error or type(error).__name__}") from error
            raise
        self._local.kept = _Kept(connection, os.getpid(), time.monotonic())
        if answer.status >= 400:
            raise errors.of_answer(answer.status, _said(answer), answer.headers)
        if answer.status >= 300:
            raise errors.MillstreamError(f"{self.url}: the answer is to be found elsewhere", answer.status)
        return answer

    def stream(self, path: str) -> Iterator[bytes]:
        """The lines of an answer that may have no end."""
        connection = self._connect(None)
        try:
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise errors.of_answer(response.status, _said(Answer(response.status, {}, response.read())), {})
            yield from response
        except _BROKEN as error:
            raise errors.MillstreamError(f"{self.url}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _take(self) -> http.client.HTTPConnection | None:
        """The connection that was kept, if it is any good."""
        kept: _Kept | None = getattr(self._local, "kept", None)
        self._local.kept = None
        if kept is None:
            return None
        if kept.is_good():
            return kept.connection
        # That of another process goes on there; here it is only let go.
        kept.connection.close()
        return None

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> Answer:
        connection.request(method, path, body, {**self._headers, **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())

    def _connect(self, timeout: float | None) -> http.client.HTTPConnection:
        if self._parts.scheme == "unix":
            return _UnixConnection(self._parts.path, timeout)
        host, port = self._parts.hostname or "localhost", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context(cafile=self._ca))
        return http.client.HTTPConnection(host, port, timeout=timeout)


def _said(answer: Answer) -> Any:
    try:
        return json.loads(answer.bytes)
    except ValueError:
        return {"message": answer.bytes.decode(errors="replace").strip()}


def _socket() -> str:
    """The Unix socket of a daemon of this machine."""
    for path in SOCKETS:
        if os.path.exists(path):
            return f"unix:{os.path.abspath(path)}"
    raise ValueError(f"no daemon listens at `{SOCKETS[0]}` or `./{SOCKETS[1]}`; say its URL: `Client('http://127.0.0.1:8181')`")
