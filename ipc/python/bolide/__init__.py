"""The Bolide bus for Python, over the C library `libbolide.so`.

    with bolide.Client("demo.asker") as client, client.open("pkg.info") as link:
        print(link.call("pkg.info", bolide.cbor.dumps({"package": "npm:tree"})))

Every class works with and without asyncio: `call`, `receive`, `run` wait, `request`, `async for`, `serve` are awaited.
Once something of a client was awaited, the client belongs to that event loop and its waiting methods are refused.
"""

from . import cbor
from .client import Agent, Client
from .errors import BolideError, Ended, Full, Refused, Timeout, ToolError
from .link import Link, Message, Request
from .topic import Publisher, Subscriber

__all__ = [
    "Agent",
    "BolideError",
    "Client",
    "Ended",
    "Full",
    "Link",
    "Message",
    "Publisher",
    "Refused",
    "Request",
    "Subscriber",
    "Timeout",
    "ToolError",
    "cbor",
]
