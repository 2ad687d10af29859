"""Latency between two processes that both poll: one-way nanoseconds, as half of each round trip.

pingpong.py server SOCKET
pingpong.py client SOCKET [ROUNDS [BYTES]]

The client prints one line of JSON. Start the server first; it ends when its client leaves.
"""

import json
import sys
import time

import bolide

WARM_UP = 2_000
NAME = "demo.py.pingpong"


def take(link):
    while True:
        message = link.try_receive()
        if message is not None:
            return message


def serve(socket):
    client = bolide.Client("demo.py.pong", socket=socket)

    @client.tool(NAME)
    def play(request):
        """From here on the link carries plain messages, until the other side closes it."""
        request.link._answer(request, b"")
        try:
            while True:
                request.link.send(take(request.link).payload, timeout=10)
        except bolide.Ended:
            client.stop()
            return b""

    with client:
        client.run()


def measure(socket, rounds, size):
    ball, taken = bytes(size), []
    with bolide.Client("demo.py.ping", socket=socket) as client, client.open(NAME) as link:
        link.call(NAME, timeout=10)
        for index in range(rounds + WARM_UP):
            began = time.perf_counter_ns()
            link.send(ball)
            take(link)
            if index >= WARM_UP:
                taken.append((time.perf_counter_ns() - began) // 2)
    taken.sort()
    result = {"language": "python", "bytes": size, "rounds": rounds}
    result["p50_ns"], result["p99_ns"] = taken[rounds // 2], taken[rounds * 99 // 100]
    print(json.dumps(result))


if sys.argv[1] == "server":
    serve(sys.argv[2])
else:
    numbers = [int(word) for word in sys.argv[3:]]
    measure(sys.argv[2], *(numbers + [20_000, 32][len(numbers) :]))
