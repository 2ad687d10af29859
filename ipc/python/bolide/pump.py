"""The client in an event loop: the two descriptors are watched, and what comes goes to whoever awaits it.

Each turn: silence the bell, take in events, take what is on the links, wake whoever waits for topics, arm everything, and
come again at once where something was there already. Not here: what messages mean.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
from typing import TYPE_CHECKING, Dict, Optional, Tuple

from . import _library as c
from .errors import BolideError
from .link import Link, Request

if TYPE_CHECKING:
    from .client import Client

#: Messages of one link that are taken in one turn, so that a busy peer does not hold the loop.
_MESSAGES_PER_TURN = 256
#: Tools that run at once; further requests are refused, and may be tried again.
_TASKS_MAX = 256


class Pump:
    """Belongs to one client and one loop."""

    def __init__(self, client: "Client", loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._client = client
        self._kicked = False
        self._stopped = False
        self._error: Optional[BolideError] = None
        self._tasks: Dict[Tuple[int, int], "asyncio.Task[None]"] = {}
        #: Set when the client is closed or the router has gone.
        self.over: "asyncio.Future[None]" = loop.create_future()
        socket, bell = ctypes.c_int32(-1), ctypes.c_int32(-1)
        library = client._library
        client._check(
            library.client_descriptors(client._open, ctypes.byref(socket), ctypes.byref(bell))
        )
        self._descriptors = (socket.value, bell.value)
        for descriptor in self._descriptors:
            loop.add_reader(descriptor, self._turn)
        self.kick()

    def kick(self) -> None:
        """Something may have come, or somebody waits for something new."""
        if not self._kicked and not self._stopped:
            self._kicked = True
            self.loop.call_soon(self._turn)

    def check(self) -> None:
        """Raises what ended the connection."""
        if self._error is not None:
            raise self._error

    def stop(self, error: Optional[BolideError] = None) -> None:
        """Lets go of the loop; whoever waits is told."""
        if self._stopped:
            return
        self._stopped, self._error = True, error
        for descriptor in self._descriptors:
            self.loop.remove_reader(descriptor)
        for task in list(self._tasks.values()):
            task.cancel()
        ended = error or BolideError("closed", "this client is closed")
        for link in list(self._client._links.values()):
            link._end(ended)
        for subscriber in list(self._client._subscribers.values()):
            subscriber._wake()
        if not self.over.done():
            self.over.set_result(None)

    def _turn(self) -> None:
        self._kicked = False
        if self._stopped:
            return
        client = self._client
        client._library.client_clear_bell(client._open)
        gone: Optional[BolideError] = None
        try:
            client._take_events()
        except BolideError as error:
            # What is in the lanes by now counts more than the end of the router.
            gone = error
        again = False
        for link in list(client._links.values()):
            again |= not self._drain(link)
            if link._ended is not None:
                self._let_go(link)
        if gone is not None:
            self.stop(gone)
            return
        for subscriber in list(client._subscribers.values()):
            if subscriber._waiter is None:
                continue
            # Whoever is woken looks, and waits again where nothing was for it: so armed first, woken only with reason.
            message_there = not subscriber._arm()
            if message_there:
                subscriber._wake()
        for link in list(client._links.values()):
            if link._ended is None and link._pointer is not None:
                again |= client._library.link_arm(link._pointer) != c.OK
        if again:
            self.kick()

    def _let_go(self, link: Link) -> None:
        """A link that has ended is freed: one that the program opened when the program has no use for it any more, others
        at once; and so is one that broke the protocol, because that is how the other side is told."""
        if not link._accepted and link._ended.code != "quarantined":
            link._forget()
            return
        try:
            link.close()
        except BolideError:
            # Its last message is still in use; the next turn tries again.
            pass

    def _drain(self, link: Link) -> bool:
        """Takes what is on a link; whether everything was taken."""
        for _ in range(_MESSAGES_PER_TURN):
            if link._ended is not None or link._pointer is None:
                return True
            try:
                message = link.try_receive()
            except BolideError as error:
                link._end(error)
                self._cancel_tasks(link.lane)
                return True
            if message is None:
                return True
            if message.kind == c.REQUEST:
                self._begin(Request(link, message))
            elif message.kind == c.CANCELLED:
                self._cancel(link, message.id)
            elif message.kind != c.PLAIN:
                link._take_answer(message)
            elif link._client.on_message is not None:
                link._client.on_message(link, message)
        return False

    def _begin(self, request: Request) -> None:
        client = self._client
        if len(self._tasks) >= _TASKS_MAX:
            client._refuse_request(request, "busy", "too many requests are being served", True)
            return
        key = (request.link.lane, request.id)
        task = self.loop.create_task(self._serve(request))
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _serve(self, request: Request) -> None:
        client = self._client

        async def run() -> None:
            result = client._run_tool(request)
            if inspect.isawaitable(result):
                result = await result
            client._answer(request, result)

        try:
            await run()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            client._answer_error(request, error)
        finally:
            request._discard()

    def _cancel(self, link: Link, low_half: int) -> None:
        for (lane, number), task in list(self._tasks.items()):
            if lane == link.lane and number & 0xFFFFFFFF == low_half:
                task.cancel()

    def _cancel_tasks(self, lane: int) -> None:
        for (of, _), task in list(self._tasks.items()):
            if of == lane:
                task.cancel()
