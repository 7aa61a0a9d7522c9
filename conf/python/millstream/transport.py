"""The way to a server: HTTP over TCP, with TLS or without, or over a Unix socket. Connections are kept, one for each thread."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import errors

#: Where the package has the daemon listen, and where it does in its own folder.
SOCKETS = ("/run/millstream/admin.sock", "admin.sock")

#: What happens to a connection that was kept and whose other end has gone meanwhile.
_GONE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


@dataclass
class Answer:
    """A good answer."""

    status: int
    headers: Mapping[str, str]
    bytes: bytes

    def json(self) -> Any:
        return json.loads(self.bytes) if self.bytes else None


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str, timeout: float | None):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Transport:
    """The way to a server."""

    def __init__(self, url: str | None, token: str | None, timeout: float, ca: str | None):
        self.url = url or _socket()
        self.timeout = timeout
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._parts = urllib.parse.urlsplit(self.url)
        if self._parts.scheme not in ("http", "https", "unix"):
            raise ValueError(f"`{self.url}` should be `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`")
        self._tls = ssl.create_default_context(cafile=ca) if self._parts.scheme == "https" else None
        self._kept = threading.local()

    @property
    def path(self) -> str:
        """The path of the URL."""
        return self._parts.path or "/"

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Asks, and returns a good answer. Raises :class:`MillstreamError` for any other one."""
        kept = getattr(self._kept, "connection", None)
        connection = kept or self._connect(self.timeout)
        try:
            answer = self._exchange(connection, method, path, body, headers)
        except _GONE as gone:
            connection.close()
            # One that is new was closed for another reason; and what changes something is not asked for twice.
            if not kept or method not in ("GET", "HEAD"):
                self._kept.connection = None
                raise errors.MillstreamError(f"{self.url}: the connection was closed without an answer") from gone
            connection = self._connect(self.timeout)
            answer = self._exchange(connection, method, path, body, headers)
        except OSError as error:
            connection.close()
            self._kept.connection = None
            raise errors.MillstreamError(f"{self.url}: {error}") from error
        self._kept.connection = connection
        if answer.status >= 400:
            raise errors.of_answer(answer.status, _said(answer))
        return answer

    def stream(self, path: str) -> Iterator[bytes]:
        """The lines of an answer that may have no end."""
        connection = self._connect(None)
        try:
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise errors.of_answer(response.status, _said(Answer(response.status, {}, response.read())))
            yield from response
        finally:
            connection.close()

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
        if self._tls:
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=timeout)


def _said(answer: Answer) -> Any:
    try:
        return answer.json()
    except ValueError:
        return {"message": answer.bytes.decode(errors="replace").strip()}


def _socket() -> str:
    """The Unix socket of a daemon of this machine."""
    for path in SOCKETS:
        if os.path.exists(path):
            return f"unix:{os.path.abspath(path)}"
    raise ValueError(f"no daemon listens at `{SOCKETS[0]}` or `./{SOCKETS[1]}`; say its URL: `Client('http://127.0.0.1:8181')`")
