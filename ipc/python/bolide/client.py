"""The client: one connection to the router, and everything that comes from it."""

from __future__ import annotations

import asyncio
import ctypes
import logging
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Union

from . import _library as c
from . import cbor
from ._handle import SLICE_MS, Handle, pointer_array, word
from .errors import BolideError, Ended, ToolError
from .link import Link, Message, Request
from .pump import Pump
from .topic import Publisher, Subscriber

_log = logging.getLogger("bolide")

#: What a tool is: it takes a request, and gives bytes or plain data (CBOR), or an awaitable of these.
Tool = Callable[[Request], Any]


@dataclass(frozen=True)
class Agent:
    """One agent as the router shows it."""

    id: int
    pid: int
    uid: int
    name: str
    version: str
    category: str
    priority: int
    capabilities: List[str]
    tools: List[str]
    subscriptions: List[str]
    tags: List[str]

    @classmethod
    def _from_c(cls, agent: c.CAgent) -> "Agent":
        def text(value: bytes) -> str:
            return value.decode(errors="replace")

        return cls(
            agent.id,
            agent.pid,
            agent.uid,
            text(agent.name),
            text(agent.version),
            text(agent.category),
            agent.priority,
            c.texts(agent.capabilities),
            c.texts(agent.tools),
            c.texts(agent.subscriptions),
            c.texts(agent.tags),
        )


def own_limits(limits: Mapping[str, int]) -> c.CLimits:
    """What a program wants to be held to, as the library takes it; what is not named is the configuration's alone."""
    known = [name for name, _ in c.CLimits._fields_]
    for name, limit in limits.items():
        if name not in known:
            raise ValueError(f"no limit is called {name!r}; there are {', '.join(known)}")
        if not 1 <= limit < 1 << 64:
            raise ValueError(f"the limit {name!r} is not 1 to 2**64 - 1: {limit}")
    return c.CLimits(**limits)


class Client(Handle):
    """One connection to the router. `with` or `async with` connects and closes it."""

    _family = "client"

    def __init__(
        self,
        name: str,
        *,
        socket: Optional[str] = None,
        token: bytes = b"",
        version: str = "0",
        category: str = "tool",
        priority: int = 5,
        capabilities: Sequence[str] = (),
        subscriptions: Sequence[str] = (),
        tags: Sequence[str] = (),
        limits: Optional[Mapping[str, int]] = None,
    ) -> None:
        super().__init__(None)
        self.name = name
        #: Called with link and message for messages that are no requests, in an event loop.
        self.on_message: Optional[Callable[[Link, Message], Any]] = None
        #: Whether the router is about to stop.
        self.draining = False
        self._socket, self._token = socket, token
        self._words = (version, category, priority)
        self._lists = (list(capabilities), list(subscriptions), list(tags))
        self._limits = own_limits(limits or {})
        self._tools: Dict[str, Tool] = {}
        self._links: Dict[int, Link] = {}
        self._publishers: Dict[int, Publisher] = {}
        self._subscribers: Dict[int, Subscriber] = {}
        self._pump: Optional[Pump] = None
        self._serving = False
        self._stopping = False

    def tool(self, name: str) -> Callable[[Tool], Tool]:
        """Declares a function as a tool of this program, before it connects."""

        def declare(function: Tool) -> Tool:
            if self._pointer is not None:
                raise BolideError("argument", "declare tools before connecting")
            self._tools[name] = function
            return function

        return declare

    def connect(self) -> "Client":
        """Connects and introduces this program."""
        if self._pointer is not None:
            raise BolideError("argument", "this client is connected already")
        (version, category, priority), (capabilities, subscriptions, tags) = self._words, self._lists
        manifest = c.CManifest(
            word(self.name),
            word(version),
            word(category),
            c.words(capabilities),
            c.words(self._tools),
            c.words(subscriptions),
            c.words(tags),
            priority,
            self._limits,
        )
        socket = None if self._socket is None else word(self._socket)
        library, pointer = self._library, self._library.client_new()
        code = library.client_connect(pointer, socket, ctypes.byref(manifest), self._token, len(self._token))
        if code != c.OK:
            error = library.error(code, library.client_error(pointer))
            library.client_close(pointer)
            raise error
        self._pointer, self._stopping = pointer, False
        return self

    def __enter__(self) -> "Client":
        return self.connect()

    def __exit__(self, *_: Any) -> None:
        self.close()

    async def __aenter__(self) -> "Client":
        self.connect()
        self._pump_of_running_loop()
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.close()

    @property
    def id(self) -> int:
        """The id that the router gave."""
        return self._library.client_id(self._open)

    def agents(self, filter: str = "") -> List[Agent]:
        """The live agents whose name, tool, capability or tag equals `filter`; empty means all."""
        found, count = ctypes.POINTER(c.CAgent)(), ctypes.c_size_t(0)
        place = (ctypes.byref(found), ctypes.byref(count))
        self._check(self._library.client_agents(self._open, word(filter), *place))
        self._news()
        return [Agent._from_c(found[index]) for index in range(count.value)]

    def open(self, target: str, *, wanted: str = "critical") -> Link:
        """Opens a link to an agent by its name, or to one that answers a tool by the tool's.

        `wanted` is a class: `critical`, `high` or `normal`. Where it cannot be had, the link is of the next one down.
        """
        if wanted not in c.CLASSES:
            raise ValueError(f"no class of links: {wanted}")
        pointer = ctypes.c_void_p()
        place = ctypes.byref(pointer)
        number = c.CLASSES.index(wanted)
        self._check(self._library.client_open_class(self._open, word(target), number, place))
        return self._new_link(pointer)

    def publisher(self, subject: str, *, lossy: bool = False) -> Publisher:
        """Declares a topic."""
        pointer = ctypes.c_void_p()
        policy = c.LOSSY if lossy else c.LOSSLESS
        place = ctypes.byref(pointer)
        self._check(self._library.client_publisher(self._open, word(subject), policy, place))
        publisher = Publisher(self, subject, pointer)
        self._publishers[publisher.lane] = publisher
        self._news()
        return publisher

    def subscribe(self, pattern: str) -> Subscriber:
        """Wants every topic whose subject matches; `*` is one word, a final `>` the rest."""
        number = ctypes.c_uint32(0)
        place = ctypes.byref(number)
        self._check(self._library.client_subscribe(self._open, word(pattern), place))
        subscriber = Subscriber(self, pattern, number.value)
        self._subscribers[number.value] = subscriber
        self._news()
        return subscriber

    def run(self) -> None:
        """Answers requests to this program's tools until `stop` is called (by a tool, or in a signal handler)."""
        self._refuse_in_loop()
        self._serving = True
        try:
            while not self._stopping:
                self._take_events()
                for link in list(self._links.values()):
                    self._serve_link(link)
                if self._stopping:
                    return
                self._enter()
                try:
                    code = self._sleep(self._links.values(), [], SLICE_MS)
                finally:
                    self._lock.release()
                if code not in (c.OK, c.TIMEOUT):
                    raise self._error(code)
        finally:
            self._serving = False

    async def serve(self) -> None:
        """As `run`, in an event loop; tools may be coroutines, and are cancelled when their caller goes away."""
        pump = self._pump_of_running_loop()
        self._serving = True
        pump.kick()
        try:
            await asyncio.shield(pump.over)
        finally:
            self._serving = False
        pump.check()

    def stop(self) -> None:
        """Ends `run` or `serve`."""
        self._stopping = True
        if self._pump is not None and not self._pump.over.done():
            self._pump.over.set_result(None)

    def close(self) -> None:
        """Closes everything that came from this client and takes leave of the router. Closing twice does nothing."""
        if self._pointer is None:
            return
        if self._lock.locked():
            raise self._library.error(c.BUSY, None)
        if self._pump is not None:
            self._pump.stop()
            self._pump = None
        for part in (self._links, self._publishers, self._subscribers):
            for handle in list(part.values()):
                handle.close()
        self._free(self._library.client_close)

    def _new_link(self, pointer: Any) -> Link:
        link = Link(self, pointer)
        self._links[link.lane] = link
        self._news()
        return link

    def _news(self) -> None:
        """A call may have heard of events beside its answer; then the socket is silent about them."""
        if self._pump is not None:
            self._pump.kick()

    def _refuse_in_loop(self) -> None:
        if self._pump is not None:
            hint = "await the other method, or use a client of its own"
            raise BolideError("argument", "this client belongs to an event loop", hint)

    def _pump_of_running_loop(self) -> Pump:
        loop = asyncio.get_running_loop()
        if self._pump is None:
            self._pump = Pump(self, loop)
        elif self._pump.loop is not loop:
            raise BolideError("argument", "this client belongs to another event loop")
        return self._pump

    def _sleep(self, links: Iterable[Link], topics: Iterable[Handle], wait_ms: int) -> int:
        lanes = pointer_array([link._open for link in links])
        readers = pointer_array([topic._open for topic in topics])
        wait = self._library.client_wait
        return wait(self._open, lanes, len(lanes), readers, len(readers), wait_ms)

    def _take_events(self) -> None:
        event = c.CEvent()
        while True:
            code = self._library.client_next_event(self._open, ctypes.byref(event), 0)
            if code == c.TIMEOUT:
                return
            if code != c.OK:
                raise self._error(code)
            self._take_event(event)

    def _take_event(self, event: c.CEvent) -> None:
        pointer, library, lane = ctypes.c_void_p(), self._library, event.lane
        if event.kind == c.LINK_OFFERED:
            if not self._serving:
                library.client_decline(self._open, lane, b"this program answers nothing at the moment")
            elif library.client_accept(self._open, lane, ctypes.byref(pointer)) == c.OK:
                self._links[lane] = Link(self, pointer, accepted=True)
        elif event.kind == c.TOPIC_FOUND:
            subscriber = self._subscribers.get(event.subscription)
            if subscriber is None:
                library.client_decline(self._open, lane, None)
            elif library.client_join(self._open, lane, c.SPIN_ADAPTIVE, ctypes.byref(pointer)) == c.OK:
                subscriber._join(pointer)
                subscriber._wake()
        elif event.kind == c.READERS_CHANGED:
            publisher = self._publishers.get(lane)
            if publisher is not None:
                publisher._check(library.publisher_update(publisher._open))
        elif event.kind == c.DRAINING:
            self.draining = True

    def _serve_link(self, link: Link) -> None:
        while not self._stopping:
            try:
                message = link.try_receive()
            except BolideError:
                link.close()
                return
            if message is None:
                return
            if message.kind != c.REQUEST:
                continue
            request = Request(link, message)
            try:
                self._answer(request, self._run_tool(request))
            except Exception as error:
                self._answer_error(request, error)
            finally:
                request._discard()

    def _run_tool(self, request: Request) -> Any:
        tool = self._tools.get(request.tool)
        if tool is None:
            message = f"there is no tool `{request.tool}` here"
            raise ToolError("unknown-tool", message, ", ".join(self._tools) or None, 2)
        return tool(request)

    def _answer(self, request: Request, result: Union[bytes, bytearray, memoryview, Any]) -> None:
        plain = isinstance(result, (bytes, bytearray, memoryview))
        payload = bytes(result) if plain else cbor.dumps(result)
        request.link._answer(request, payload)

    def _answer_error(self, request: Request, error: Exception) -> None:
        if not isinstance(error, ToolError):
            if isinstance(error, Ended):
                _log.info("the caller of `%s` is gone: %s", request.tool, error)
            elif isinstance(error, BolideError):
                _log.warning("the answer to `%s` was not sent: %s", request.tool, error)
            else:
                _log.exception("`%s` failed", request.tool, exc_info=error)
            error = ToolError("failed", f"`{request.tool}` failed: {type(error).__name__}")
        try:
            request.link._fail(request, error)
        except BolideError as unsent:
            # The caller is gone, or does not read; there is nobody to tell.
            _log.info("an error of `%s` was not sent: %s", request.tool, unsent)

    def _refuse_request(self, request: Request, code: str, message: str, retry: bool) -> None:
        self._answer_error(request, ToolError(code, message, None, 1, retry))
        request._discard()
