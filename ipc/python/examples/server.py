"""A tool server: answers `py.echo`, `py.add`, `py.slow` and `py.stop`, and publishes each call on `demo.py.calls`.

server.py [SOCKET]
"""

import asyncio
import sys

import bolide

client = bolide.Client("demo.py.server", version="1.0.0", socket=sys.argv[1] if len(sys.argv) > 1 else None)


@client.tool("py.echo")
def echo(request):
    calls.publish(b"py.echo", timeout=1)
    request.progress(b"working")
    return request.payload


@client.tool("py.add")
async def add(request):
    numbers = request.arguments
    if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
        raise bolide.ToolError("bad-arguments", "give an array of integers", exit_code=2)
    return sum(numbers)


@client.tool("py.slow")
async def slow(request):
    request.progress(b"working")
    await asyncio.Event().wait()


@client.tool("py.stop")
def stop(request):
    asyncio.get_running_loop().call_later(0.05, client.stop)
    return b""


async def main():
    global calls
    async with client:
        calls = client.publisher("demo.py.calls")
        await client.serve()


asyncio.run(main())
