"""What goes wrong, with what the server says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MillstreamError(Exception):
    """An answer that is no good one, or none: ``status`` is 0 where nobody has answered."""

    def __init__(self, message: str, status: int = 0, code: str | None = None, body: Any = None, retry_after: float | None = None):
        super().__init__(message)
        self.status = status
        #: By which programs know it, such as ``not-found``.
        self.code = code
        #: All that was answered.
        self.body = body
        #: After how many seconds the server would be asked again, if it says so.
        self.retry_after = retry_after


class FlowDoesNotCheck(MillstreamError):
    """A flow that is wrong: ``errors`` has all that is, each with its place."""

    @property
    def errors(self) -> list[Mapping[str, Any]]:
        return self.body["errors"]

    def __str__(self) -> str:
        def shown(error: Mapping[str, Any]) -> str:
            place = f"{error['line']}:{error['column']}: " if error.get("line") else ""
            return f"{place}{error['message']}"

        return "\n".join([super().__str__(), *map(shown, self.errors)])


class OperationFailed(MillstreamError):
    """What was asked of a flow has not come to a good end."""


def of_answer(status: int, body: Any, headers: Mapping[str, str]) -> MillstreamError:
    """What a refusal says, in whichever of the forms of the protocols."""
    said = body if isinstance(body, dict) else {}
    message = said.get("detail") or said.get("message") or said.get("error") or f"the answer has the status {status}"
    code = said.get("code") or said.get("error_code")
    kind = FlowDoesNotCheck if code == "flow-does-not-check" else MillstreamError
    wait = headers.get("retry-after", "")
    return kind(message, status, code, body, float(wait) if wait.isdigit() else None)
