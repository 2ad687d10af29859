"""Links: requests, answers, and messages without either."""

from __future__ import annotations

import asyncio
import ctypes
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Sequence, Tuple

from . import _library as c
from ._handle import Handle, View, payload_bytes, sliced, word
from .errors import BolideError, Full, Timeout, ToolError

if TYPE_CHECKING:
    from .client import Agent, Client

#: Payloads up to this length fit into an empty lane at once, so an event loop need not wait for the reader meanwhile.
_AT_ONCE_BYTES = 64 * 1024
#: What an event loop waits at most for room for a longer one, in milliseconds. The reader is at work meanwhile.
_LARGE_ROOM_MS = 100
#: How long a full lane is left alone before an event loop tries again, in seconds.
_AGAIN_S = 0.001
#: What a server waits for room for an answer, in seconds.
_ANSWER_S = 5.0

Progress = Optional[Callable[[bytes], Any]]


class Message:
    """One message. `payload` lies in the library until the next receive on the same handle; `bytes(payload)` copies."""

    __slots__ = ("kind", "source", "id", "tool", "payload", "grants", "deadline_ns", "time_ns", "subject")

    def __init__(self, raw: c.CMessage, payload: memoryview, subject: Optional[str] = None) -> None:
        self.kind: int = raw.kind
        self.source: int = raw.source
        self.id: int = raw.request
        self.tool: Optional[str] = raw.tool.decode() if raw.tool else None
        self.payload = payload
        self.grants: Tuple[int, ...] = tuple(grant for grant in raw.grants if grant)
        self.deadline_ns: int = raw.deadline_ns
        self.time_ns: int = raw.time_ns
        self.subject = subject

    def __bytes__(self) -> bytes:
        return bytes(self.payload)


class Request:
    """A request of a peer, as a tool of this program sees it. Its payload is a copy, so it can be kept."""

    def __init__(self, link: "Link", message: Message) -> None:
        self.link = link
        self.id = message.id
        self.tool = message.tool or ""
        self.payload = bytes(message.payload)
        self.grants = message.grants
        self.deadline_ns = message.deadline_ns
        self._taken: set = set()

    @property
    def arguments(self) -> Any:
        """The payload read as CBOR; None where it is empty. A caller that sent something else is told so."""
        from . import cbor

        try:
            return cbor.loads(self.payload) if self.payload else None
        except cbor.CborError as error:
            raise ToolError("bad-arguments", f"the arguments are no CBOR: {error}", exit_code=2) from None

    def progress(self, payload: bytes) -> None:
        """Sends an intermediate answer. One that finds no room is dropped: the next one says more."""
        link = self.link
        code = link._library.link_progress(link._open, self.id, payload, len(payload), 0)
        if code not in (c.OK, c.FULL):
            link._check(code)

    def descriptor(self, index: int = 0, timeout: float = 5.0) -> int:
        """A descriptor that came with the request; it is the tool's to close."""
        if index >= len(self.grants):
            raise BolideError("no-grant", "no descriptor was granted with this request")
        grant, link, file = self.grants[index], self.link, ctypes.c_int32(-1)
        wait_ms = c.milliseconds(timeout)
        link._check(link._library.link_take_grant(link._open, grant, ctypes.byref(file), wait_ms))
        self._taken.add(grant)
        return file.value

    def _discard(self) -> None:
        for grant in self.grants:
            if grant not in self._taken and self.link._pointer is not None:
                self.link._library.link_discard_grant(self.link._pointer, grant)


class Link(Handle):
    """Two opposite lanes between this program and another agent."""

    _family = "link"
    #: Whether the client has let go of it, so that nobody but the program has it.
    _forgotten = False

    def __init__(self, client: "Client", pointer: Any, accepted: bool = False) -> None:
        super().__init__(pointer)
        self._client = client
        #: Whether the other side opened it; then the client closes it when it has ended.
        self._accepted = accepted
        self._view = View()
        self._raw = c.CMessage()
        self._place = ctypes.byref(self._raw)
        #: Requests of this program that are awaited: the future of the last answer, and who sees the others.
        self._awaited: Dict[int, Tuple["asyncio.Future[bytes]", Progress]] = {}
        self._ended: Optional[BolideError] = None
        self.lane: int = self._library.link_lane(pointer)
        #: How its messages travel: `critical`, `high` or `normal`.
        self.carried_by: str = c.CLASSES[self._library.link_class(pointer)]

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if self._forgotten:
            try:
                self.close()
            except BolideError:
                # Something is still made of its last message: the memory stays.
                pass

    @property
    def _open(self) -> Any:
        if self._pointer is None and self._ended is not None:
            raise self._ended._again()
        return super()._open

    @property
    def peer(self) -> "Agent":
        """Who is at the other end."""
        from .client import Agent

        return Agent._from_c(self._library.link_peer(self._open).contents)

    def poll_forever(self) -> None:
        """Never sleep: for a thread that has a processor of its own."""
        self._check(self._library.link_set_spin(self._open, c.SPIN_FOREVER))

    def send(self, payload: bytes, timeout: float = 0.0) -> None:
        """Sends a message that is no request; waits at most so long for room."""
        payload = payload_bytes(payload)
        if timeout == 0:
            code = self._library.try_link_send(self._open, payload, len(payload), 0)
        else:
            wait_ms = c.milliseconds(timeout)
            code = self._library.link_send(self._open, payload, len(payload), wait_ms)
        if code != c.OK:
            raise self._error(code)

    def try_receive(self) -> Optional[Message]:
        """The next message of any sort, if it is there."""
        self._view.take_away()
        code = self._library.try_link_receive(self._open, self._place, 0)
        if code == c.TIMEOUT:
            return None
        return self._message(code)

    def receive(self, timeout: Optional[float] = None) -> Message:
        """The next message of any sort; waits, without end unless a timeout is given."""
        self._client._refuse_in_loop()
        self._view.take_away()
        receive, place = self._library.link_receive, self._place
        code = sliced(self, timeout, lambda pointer, wait_ms: receive(pointer, place, wait_ms))
        return self._message(code)

    def call(
        self,
        tool: str,
        payload: bytes = b"",
        *,
        descriptors: Sequence[int] = (),
        timeout: Optional[float] = None,
        progress: Progress = None,
    ) -> memoryview:
        """Calls a tool and waits for its last answer, which lies in the library until the next receive on this link.
        A call that ends otherwise is cancelled at the peer."""
        self._client._refuse_in_loop()
        began = time.monotonic()
        self._view.take_away()
        request = self._request(tool, payload, descriptors, timeout, c.milliseconds(timeout))
        try:
            while True:
                left = None if timeout is None else timeout - (time.monotonic() - began)
                message = self._wait(request, left)
                if message.kind == c.DONE:
                    return message.payload
                if message.kind == c.FAILED:
                    raise ToolError.from_payload(message.payload)
                if progress is not None:
                    progress(bytes(message.payload))
        except ToolError:
            raise
        except BaseException:
            if self._pointer is not None:
                self._library.link_cancel(self._pointer, request)
            raise

    async def request(
        self,
        tool: str,
        payload: bytes = b"",
        *,
        descriptors: Sequence[int] = (),
        timeout: Optional[float] = None,
        progress: Progress = None,
    ) -> bytes:
        """As `call`, awaited. Many may be under way on one link; the answer is a copy, because the next one replaces it."""
        pump = self._client._pump_of_running_loop()
        deadline = None if timeout is None else time.monotonic() + timeout
        room_ms = 0 if len(payload) <= _AT_ONCE_BYTES else _LARGE_ROOM_MS
        while True:
            if self._ended is not None:
                raise self._ended._again()
            try:
                request = self._request(tool, payload, descriptors, timeout, room_ms)
                break
            except Full:
                if deadline is not None and time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(_AGAIN_S)
        future: "asyncio.Future[bytes]" = pump.loop.create_future()
        self._awaited[request] = (future, progress)
        pump.kick()
        try:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            return await asyncio.wait_for(future, left)
        except asyncio.TimeoutError as error:
            if isinstance(error, BolideError):
                raise
            raise Timeout("timeout", f"no answer from `{tool}` until the deadline") from None
        finally:
            if self._awaited.pop(request, None) is not None and self._pointer is not None:
                self._library.link_cancel(self._pointer, request)

    def close(self, reason: Optional[str] = None) -> None:
        """Closes the link; the peer is told. Closing twice does nothing."""
        if self._pointer is None:
            return
        self._view.take_away()
        self._free(self._library.link_close, None if reason is None else word(reason))
        if self._client._links.get(self.lane) is self:
            del self._client._links[self.lane]
        self._end(BolideError("closed", "this link is closed"))

    def _message(self, code: int) -> Message:
        if code != c.OK:
            raise self._error(code)
        raw = self._raw
        return Message(raw, self._view.give(raw.payload, raw.payload_length))

    def _wait(self, request: int, timeout: Optional[float]) -> Message:
        self._view.take_away()
        wait, place = self._library.link_wait, self._place
        code = sliced(self, timeout, lambda pointer, wait_ms: wait(pointer, request, place, wait_ms))
        return self._message(code)

    def _request(
        self,
        tool: str,
        payload: bytes,
        descriptors: Sequence[int],
        timeout: Optional[float],
        room_ms: int,
    ) -> int:
        payload = payload_bytes(payload)
        files = (ctypes.c_int32 * len(descriptors))(*descriptors) if descriptors else None
        wanted_ms = c.milliseconds(timeout)
        asked = c.CRequest(word(tool), payload, len(payload), files, len(descriptors), wanted_ms, room_ms)
        number = ctypes.c_uint64(0)
        self._check(self._library.link_request(self._open, ctypes.byref(asked), ctypes.byref(number)))
        return number.value

    def _end(self, error: BolideError) -> None:
        """Nothing more will come: whoever waits is told."""
        if self._ended is None:
            self._ended = error._again()
        for future, _ in list(self._awaited.values()):
            if not future.done():
                future.set_exception(self._ended._again())
        self._awaited.clear()

    def _forget(self) -> None:
        """The client has no use for it any more: it is closed when the program lets go of it."""
        self._forgotten = True
        if self._client._links.get(self.lane) is self:
            del self._client._links[self.lane]

    def _take_answer(self, message: Message) -> None:
        """An answer for somebody who awaits it."""
        if message.kind == c.PROGRESS:
            _, progress = self._awaited.get(message.id, (None, None))
            if progress is not None:
                progress(bytes(message.payload))
            return
        future, _ = self._awaited.pop(message.id, (None, None))
        if future is None or future.done():
            return
        if message.kind == c.DONE:
            future.set_result(bytes(message.payload))
        else:
            future.set_exception(ToolError.from_payload(message.payload))

    def _answer(self, request: Request, payload: bytes) -> None:
        room_ms = c.milliseconds(_ANSWER_S)
        self._check(self._library.link_answer(self._open, request.id, payload, len(payload), room_ms))

    def _fail(self, request: Request, error: ToolError) -> None:
        # What the bus carries of each, in bytes; a text of a tool is no reason to fail twice.
        code = _shortened(error.code, 128)
        message = _shortened(error.message, 1024)
        hint = None if error.hint is None else _shortened(error.hint, 1024)
        exit_code = error.exit_code if 1 <= error.exit_code <= 255 else 1
        room_ms = c.milliseconds(_ANSWER_S)
        self._check(
            self._library.link_fail(
                self._open, request.id, exit_code, code, message, hint, int(error.retry), room_ms
            )
        )


def _shortened(text: str, bytes_max: int) -> bytes:
    data = text.replace("\0", " ").encode(errors="replace")[:bytes_max]
    return data.decode(errors="ignore").encode()


