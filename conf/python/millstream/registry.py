"""A registry of models that is a folder or in an object store, without a server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from typing import Any

from .errors import MillstreamError
from .rows import Rows


class Registry:
    """A registry: a folder, or ``s3://BUCKET/PREFIX``, ``gs://…``, ``az://…``. It is read by the program that this package brings."""

    def __init__(self, location: str = "models"):
        is_folder = "://" not in location
        self.location = os.path.expanduser(location) if is_folder else location
        if is_folder and not os.path.isdir(self.location):
            raise ValueError(f"there is no folder `{self.location}`")

    def versions(self, model: str | None = None) -> Rows:
        """The versions of a model, or of all, the newest first."""
        command = ["list"] if model is None else ["versions", model]
        return Rows(json.loads(line) for line in self._run(*command).splitlines())

    def card(self, reference: str) -> dict[str, Any]:
        """The card of a version: ``fraud`` (its champion), ``fraud@latest``, ``fraud/3``."""
        return json.loads(self._run("show", reference))

    def notes(self, reference: str) -> dict[str, Any]:
        """Description and tags of a model, ``fraud``, or of a version, ``fraud/3``."""
        return json.loads(self._run("notes", reference))

    def _run(self, *arguments: str) -> str:
        verb, *what = arguments
        command = [_program(), "models", verb, "--registry", self.location, "--json", "--", *what]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise MillstreamError(ran.stderr.strip().removeprefix("error: "))
        return ran.stdout


def _program() -> str:
    """The program beside this Python, or else the one that a shell would find."""
    own = os.path.join(sysconfig.get_path("scripts"), "millstream")
    found = own if os.path.exists(own) else shutil.which("millstream")
    if not found:
        raise MillstreamError("there is no program `millstream` here; `pip install millstream` brings it")
    return found
