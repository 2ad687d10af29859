"""Topics: one writer, any number of readers."""

from __future__ import annotations

import asyncio
import ctypes
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional

from . import _library as c
from ._handle import Handle, View, payload_bytes, sliced
from .errors import BolideError
from .link import Message

if TYPE_CHECKING:
    from .client import Client


class Publisher(Handle):
    """The writing side of a topic."""

    _family = "publisher"

    def __init__(self, client: "Client", subject: str, pointer: Any) -> None:
        super().__init__(pointer)
        self._client = client
        self.subject = subject
        self.lane: int = self._library.publisher_lane(pointer)

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    @property
    def readers(self) -> int:
        """How many readers are attached."""
        self._check(self._library.publisher_update(self._open))
        count = ctypes.c_size_t(0)
        self._check(self._library.publisher_readers(self._open, ctypes.byref(count)))
        return count.value

    def publish(self, payload: bytes, timeout: float = 0.0) -> None:
        """Sends to all readers; looks who joined. A lossless topic waits at most so long for its slowest reader."""
        payload = payload_bytes(payload)
        room_ms = c.milliseconds(timeout)
        self._check(self._library.publisher_send(self._open, payload, len(payload), room_ms))

    def try_publish(self, payload: bytes) -> None:
        """Sends to the readers that are attached, and looks at nothing else. `Full` where a lossless topic has no room."""
        payload = payload_bytes(payload)
        self._check(self._library.publisher_try_send(self._open, payload, len(payload)))

    def close(self) -> None:
        """Ends the topic; its readers are told. Closing twice does nothing."""
        if self._pointer is None:
            return
        self._free(self._library.publisher_close)
        self._client._publishers.pop(self.lane, None)


class _Joined(Handle):
    """One topic that a subscriber reads."""

    _family = "subscriber"

    def __init__(self, pointer: Any) -> None:
        super().__init__(pointer)
        self.lane: int = self._library.subscriber_lane(pointer)
        self.subject: str = self._library.subscriber_subject(pointer).decode()


class Subscriber:
    """Every topic whose subject matches a pattern, present and future. `lost` counts what was overwritten before it was
    read, on lossy topics. Iterate over it, with `for` or `async for`; it ends when it is closed."""

    def __init__(self, client: "Client", pattern: str, number: int) -> None:
        self._client = client
        self._topics: Dict[int, _Joined] = {}
        self._view = View()
        self._raw = c.CMessage()
        self._place = ctypes.byref(self._raw)
        self._number = number
        self._waiter: Optional["asyncio.Future[None]"] = None
        self._closed = False
        self.pattern = pattern
        self.lost = 0

    def __enter__(self) -> "Subscriber":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    @property
    def subjects(self) -> list:
        """The topics that are read at the moment."""
        return sorted(topic.subject for topic in self._topics.values())

    def try_receive(self) -> Optional[Message]:
        """The next message, if it is there. Its payload is valid until the next receive."""
        self._view.take_away()
        for lane, topic in list(self._topics.items()):
            receive = topic._library.try_subscriber_receive
            code = receive(topic._open, self._place, 0)
            while code == c.LOST:
                self.lost += self._raw.lost
                code = receive(topic._open, self._place, 0)
            if code == c.OK:
                # The next look begins with another topic, so that a busy one does not drown the others.
                self._topics[lane] = self._topics.pop(lane)
                raw = self._raw
                payload = self._view.give(raw.payload, raw.payload_length)
                return Message(raw, payload, topic.subject)
            if code == c.TIMEOUT:
                continue
            if code in (c.CLOSED, c.PEER_GONE, c.REVOKED, c.QUARANTINED):
                self._forget(lane)
                continue
            raise topic._error(code)
        return None

    def receive(self, timeout: Optional[float] = None) -> Message:
        """The next message; waits, without end unless a timeout is given."""
        self._client._refuse_in_loop()
        found: list = []

        def wait(_: Any, wait_ms: int) -> int:
            self._client._take_events()
            message = self.try_receive()
            if message is not None:
                found.append(message)
                return c.OK
            if self._closed:
                raise BolideError("closed", "this subscriber is closed")
            code = self._client._sleep([], self._topics.values(), wait_ms)
            return c.TIMEOUT if code == c.OK else code

        # News may be of another handle, and then the wait goes on; `sliced` looks at the clock.
        code = sliced(self._client, timeout, wait)
        if found:
            return found[0]
        raise self._client._error(code)

    def __iter__(self) -> Iterator[Message]:
        while not self._closed:
            yield self.receive()

    def __aiter__(self) -> "Subscriber":
        return self

    async def __anext__(self) -> Message:
        pump = self._client._pump_of_running_loop()
        while not self._closed:
            message = self.try_receive()
            if message is not None:
                return message
            pump.check()
            self._waiter = pump.loop.create_future()
            pump.kick()
            try:
                await self._waiter
            finally:
                self._waiter = None
        raise StopAsyncIteration

    def close(self) -> None:
        """Leaves the topics. Closing twice does nothing."""
        if self._closed:
            return
        self._view.take_away()
        self._closed = True
        self._client._subscribers.pop(self._number, None)
        for lane in list(self._topics):
            self._forget(lane)
        self._wake()

    def _join(self, pointer: Any) -> None:
        topic = _Joined(pointer)
        self._topics[topic.lane] = topic

    def _forget(self, lane: int) -> None:
        topic = self._topics.pop(lane)
        topic._free(topic._library.subscriber_close)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _arm(self) -> bool:
        """Whether the bell will ring for the next message of any topic."""
        return all(
            topic._library.subscriber_arm(topic._open) == c.OK for topic in self._topics.values()
        )
