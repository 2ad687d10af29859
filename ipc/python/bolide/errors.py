"""What can go wrong: each error has a code, a message and a hint."""

from __future__ import annotations

from typing import Any, Dict, Optional


class BolideError(Exception):
    """`code` is a stable name in kebab-case, `message` one sentence, `hint` what to do next or None."""

    def __init__(self, code: str, message: str, hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"

    def _again(self) -> "BolideError":
        """The same without where it was raised, which would keep everything alive that was in use there."""
        return type(self)(self.code, self.message, self.hint)


class Timeout(BolideError, TimeoutError):
    """Nothing came until the deadline."""


class Full(BolideError):
    """The lane is full."""


class Ended(BolideError):
    """The link, topic or router is gone: `closed`, `peer-gone`, `revoked`, `router-gone` or `quarantined`."""


class Refused(BolideError):
    """The router refused; `code` is its own, such as `no-such-target` or `unauthorized`."""


class ToolError(BolideError):
    """The tool that was called refused or failed; or, raised by a tool of this program, what its caller is told."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: Optional[str] = None,
        exit_code: int = 1,
        retry: bool = False,
    ) -> None:
        super().__init__(code, message, hint)
        self.exit_code = exit_code
        self.retry = retry

    @classmethod
    def from_payload(cls, payload: Any) -> "ToolError":
        """Reads what a tool said. One that said nothing readable has failed all the same."""
        from . import cbor

        told: Dict[str, Any] = {}
        try:
            value = cbor.loads(payload)
            told = value if isinstance(value, dict) else {}
        except cbor.CborError:
            pass
        hint, exit_code = told.get("hint"), told.get("exit_code")
        return cls(
            str(told.get("code", "failed")),
            str(told.get("message", "the tool failed and did not say why")),
            None if hint is None else str(hint),
            exit_code if isinstance(exit_code, int) else 1,
            told.get("retry") is True,
        )
