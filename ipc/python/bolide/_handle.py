"""What links, publishers and subscribers share: a handle of the library that is closed once, and views of its memory."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any, Callable, Optional

from . import _library as c
from .errors import BolideError

#: A wait without asyncio comes back this often, in milliseconds, so that Python can look at signals.
SLICE_MS = 200


class Handle:
    """A handle of the library and the name of its functions' family."""

    _family = ""

    def __init__(self, pointer: Any) -> None:
        self._library = c.library()
        self._pointer: Any = pointer
        self._text = getattr(self._library, f"{self._family}_error")
        # Held while the library waits and other threads run, so that none of them closes what it waits on.
        self._lock = threading.Lock()

    @property
    def _open(self) -> Any:
        if self._pointer is None:
            raise BolideError("closed", f"this {self._family} is closed")
        return self._pointer

    def _enter(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise self._library.error(c.BUSY, None)

    def _free(self, free: Callable[..., int], *arguments: Any) -> None:
        """Closes the handle, unless it is in use."""
        self._enter()
        try:
            code = free(self._open, *arguments)
            if code == c.BUSY:
                raise self._error(code)
            # Whatever else went wrong, the handle is freed.
            self._pointer = None
        finally:
            self._lock.release()

    def _error(self, code: int) -> BolideError:
        return self._library.error(code, self._text(self._pointer))

    def _check(self, code: int) -> None:
        if code != c.OK:
            raise self._error(code)


class View:
    """The memory of the message that was received last. It is taken away before the next one is received."""

    def __init__(self) -> None:
        self._view: Optional[memoryview] = None

    def give(self, address: int, length: int) -> memoryview:
        self._view = c.view_of_memory(address, length, c.READ_ONLY)
        return self._view

    def take_away(self) -> None:
        if self._view is None:
            return
        try:
            self._view.release()
        except BufferError:
            hint = "copy it with bytes(), or let go of what was made of it"
            message = "the payload of the last message is still in use"
            raise BolideError("in-use", message, hint) from None
        self._view = None


def sliced(handle: Handle, timeout: Optional[float], wait: Callable[[Any, int], int]) -> int:
    """Waits in slices: `wait` takes the handle's pointer and milliseconds, and gives a code."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left_ms = SLICE_MS
        if deadline is not None:
            left_ms = min(SLICE_MS, c.milliseconds(deadline - time.monotonic()))
        handle._enter()
        try:
            code = wait(handle._open, left_ms)
        finally:
            handle._lock.release()
        if code != c.TIMEOUT or (deadline is not None and time.monotonic() >= deadline):
            return code


def word(value: str) -> bytes:
    """A text for C, which ends at the first NUL."""
    if "\0" in value:
        raise ValueError("a text with a NUL")
    return value.encode()


def payload_bytes(payload: Any) -> bytes:
    """What C can read; bytes are not copied."""
    return payload if isinstance(payload, bytes) else bytes(payload)


def pointer_array(pointers: Any) -> Any:
    return (ctypes.c_void_p * len(pointers))(*pointers)
