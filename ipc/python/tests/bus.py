"""Python on a bus where the C server and the Python server of the examples run. `BOLIDE_TEST_SOCKET` says where.

Run by `tests/it/languages.rs`; not found by unittest's own search, because it needs a bus.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import pickle
import tempfile
import threading
import unittest

import bolide

SOCKET = os.environ["BOLIDE_TEST_SOCKET"]


def client(name):
    return bolide.Client(f"test.{name}", socket=SOCKET)


def descriptors(pid="self"):
    return len(os.listdir(f"/proc/{pid}/fd"))


def own_slots():
    """Where the slots lie that this process writes."""
    with open("/proc/self/maps") as file:
        lines = [line.split() for line in file]
    starts = [int(line[0].split("-")[0], 16) for line in lines if line[1] == "rw-s" and "memfd:" in line[-2] + line[-1]]
    return {start for start in starts if ctypes.string_at(start, 4) == b"BLSL"}


@contextlib.contextmanager
def served(server):
    """A server of this process, in a thread of its own."""
    with server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield
        finally:
            server.stop()
            thread.join()


class Waiting(unittest.TestCase):
    def test_agents_are_listed(self):
        with client("list") as bus:
            (server,) = bus.agents("c.echo")
            self.assertEqual((server.name, server.version), ("demo.c.server", "1.0.0"))
            self.assertIn("c.slow", server.tools)
            self.assertIn("test.list", [agent.name for agent in bus.agents()])

    def test_a_program_is_held_to_the_limits_that_it_sets_itself(self):
        with bolide.Client("test.modest", socket=SOCKET, limits={"links": 1}) as bus, bus.open("c.echo") as link:
            with self.assertRaises(bolide.Refused) as caught:
                bus.open("py.add")
            self.assertIn("limit `links`", caught.exception.message)
            self.assertIn("manifest", caught.exception.message)
            self.assertEqual(bytes(link.call("c.echo", b"still there")), b"still there")
        with client("immodest") as bus, bus.open("c.echo"), bus.open("py.add"):
            pass

    def test_payload_is_taken_away_by_the_next_receive(self):
        with client("view") as bus, bus.open("c.echo") as link:
            first = link.call("c.echo", b"first")
            self.assertEqual(bytes(first), b"first")
            self.assertTrue(first.readonly)
            second = link.call("c.echo", b"second")
            with self.assertRaises(ValueError):
                bytes(first)
            self.assertEqual(bytes(second), b"second")

    def test_payload_that_something_was_made_of_is_not_taken_away_silently(self):
        with client("export") as bus, bus.open("c.echo") as link:
            made = pickle.PickleBuffer(link.call("c.echo", b"first"))
            with self.assertRaises(bolide.BolideError) as caught:
                link.call("c.echo", b"second")
            self.assertEqual(caught.exception.code, "in-use")
            made.release()
            self.assertEqual(bytes(link.call("c.echo", b"second")), b"second")

    def test_a_link_of_every_class_carries_calls(self):
        for wanted in ("critical", "high", "normal"):
            with client(f"classes-{wanted}") as bus, bus.open("c.echo", wanted=wanted) as link:
                # A machine without rings has normal links instead of high ones.
                self.assertIn(link.carried_by, {wanted, "normal"} if wanted == "high" else {wanted})
                payload = os.urandom(300_000)
                self.assertEqual(bytes(link.call("c.echo", payload, timeout=30)), payload)
        with client("classes") as bus, self.assertRaises(ValueError):
            bus.open("c.echo", wanted="batch")

    def test_payloads_of_every_size_come_back(self):
        with client("sizes") as bus, bus.open("c.echo") as link:
            for size in (0, 1, 47, 48, 49, 4095, 4096, 131_072, 300_000, 3_000_000):
                payload = os.urandom(size)
                self.assertEqual(bytes(link.call("c.echo", payload, timeout=30)), payload)

    def test_too_long_is_an_error_and_the_link_goes_on(self):
        with client("long") as bus, bus.open("c.echo") as link:
            with self.assertRaises(bolide.BolideError) as caught:
                link.call("c.echo", bytes(17 * 1024 * 1024))
            self.assertEqual(caught.exception.code, "argument")
            self.assertEqual(bytes(link.call("c.echo", b"x")), b"x")

    def test_intermediate_answers_are_seen(self):
        with client("progress") as bus, bus.open("c.echo") as link:
            seen = []
            link.call("c.echo", b"x", progress=seen.append)
            self.assertEqual(seen, [b"working"])

    def test_granted_file_is_read_by_the_other_program(self):
        with client("grant") as bus, bus.open("c.read") as link, tempfile.TemporaryFile() as file:
            file.write(b"what the file holds")
            file.flush()
            file.seek(0)
            answer = link.call("c.read", descriptors=[file.fileno()], timeout=30)
            self.assertEqual(bytes(answer), b"what the file holds")
            with self.assertRaises(bolide.ToolError) as caught:
                link.call("c.read", timeout=30)
            self.assertEqual((caught.exception.code, caught.exception.exit_code), ("no-file", 2))

    def test_tool_that_is_unknown_to_the_server_fails_with_a_hint(self):
        with client("unknown") as bus, bus.open("c.echo") as link:
            with self.assertRaises(bolide.ToolError) as caught:
                link.call("c.nothing", timeout=30)
            error = caught.exception
            self.assertEqual((error.code, error.exit_code, error.retry), ("unknown-tool", 2, False))
            self.assertIn("c.echo", error.hint)

    def test_target_that_nobody_is_is_refused(self):
        with client("nobody") as bus, self.assertRaises(bolide.Refused) as caught:
            bus.open("nobody.here")
        self.assertEqual(caught.exception.code, "no-such-target")

    def test_answer_that_does_not_come_is_a_timeout_and_the_link_goes_on(self):
        with client("timeout") as bus, bus.open("c.slow") as link:
            with self.assertRaises(bolide.Timeout) as caught:
                link.call("c.slow", timeout=0.1)
            self.assertIsInstance(caught.exception, TimeoutError)
            self.assertEqual(bytes(link.call("c.echo", b"next", timeout=30)), b"next")

    def test_second_thread_on_a_link_is_told_busy(self):
        server, called, released = client("holder"), threading.Semaphore(0), threading.Semaphore(0)
        first, second = set(), set()

        @server.tool("test.hold")
        def hold(_):
            called.release()
            released.acquire()

        def wait(link):
            try:
                link.call("test.hold")
            except bolide.BolideError as error:
                first.add(error.code)

        with served(server), client("busy") as bus, bus.open("test.hold") as link:
            # The waiting thread is inside the library nearly all the time. When it is not, the other one gets in, and it may be
            # the waiting one that is told.
            while "busy" not in second:
                thread = threading.Thread(target=wait, args=(link,))
                thread.start()
                self.assertTrue(called.acquire(timeout=30))
                while thread.is_alive() and "busy" not in second:
                    try:
                        link.send(b"x")
                    except bolide.BolideError as error:
                        second.add(error.code)
                    thread.join(0.001)
                released.release()
                thread.join()
        self.assertLessEqual(first, {"busy"})
        self.assertLessEqual(second, {"busy", "full"})

    def test_topic_is_read_while_tools_are_called(self):
        with client("topic") as bus, bus.subscribe("demo.c.>") as calls, bus.open("c.echo") as link:
            with self.assertRaises(bolide.Timeout):
                calls.receive(timeout=0.05)
            while calls.subjects != ["demo.c.calls"]:
                calls.try_receive()
                bus._take_events()
            link.call("c.echo", b"x", timeout=30)
            message = calls.receive(timeout=30)
            self.assertEqual((message.subject, bytes(message)), ("demo.c.calls", b"c.echo"))

    def test_closed_things_say_so(self):
        with client("closed") as bus:
            link = bus.open("c.echo")
            link.close()
            link.close()
            with self.assertRaises(bolide.BolideError) as caught:
                link.call("c.echo")
            self.assertEqual(caught.exception.code, "closed")
            kept = bus.open("c.echo")
        with self.assertRaises(bolide.BolideError):
            kept.call("c.echo")


class Ending(unittest.TestCase):
    def test_server_in_an_event_loop_keeps_nothing_of_callers_that_left(self):
        callers = 100
        with client("leaving") as bus:
            (server,) = bus.agents("py.echo")
            before = descriptors(server.pid)
            for _ in range(callers):
                with bus.open("py.echo") as link:
                    link.call("py.echo", b"x", timeout=30)
            # The last one may still be there.
            self.assertLess(descriptors(server.pid) - before, callers)

    def test_peer_that_breaks_the_protocol_is_told_that_it_did(self):
        before = own_slots()
        with served(client("scribbled")), client("scribbler") as bus, bus.open("test.scribbled") as link:
            link.send(b"x")
            # Both sides write slots in this process; those with a first line are this side's.
            (slots,) = (at for at in own_slots() - before if ctypes.c_uint64.from_address(at + 4096).value == 1)
            ctypes.c_uint64.from_address(slots + 4096 + 64).value = 1 << 62
            with self.assertRaises(bolide.Ended) as caught:
                link.receive(timeout=30)
            self.assertEqual(caught.exception.code, "quarantined")


class Awaiting(unittest.IsolatedAsyncioTestCase):
    async def test_link_that_the_other_side_closed_is_freed_when_the_program_lets_go_of_it(self):
        links, server = 50, client("leaver")
        server.tool("test.leave")(lambda request: request.link.close())
        logging.getLogger("bolide").addHandler(logging.NullHandler())
        with served(server):
            async with client("left") as bus:
                before = descriptors()
                for _ in range(links):
                    link = bus.open("test.leave")
                    for _ in range(2):
                        with self.assertRaises(bolide.Ended) as caught:
                            await link.request("test.leave", timeout=30)
                        self.assertEqual(caught.exception.code, "closed")
                del link, caught
                # The server may still be about to close its side of the last one.
                self.assertLess(descriptors() - before, links)

    async def test_many_requests_are_under_way_at_once(self):
        async with client("many") as bus:
            link = bus.open("c.echo")
            payloads = [str(number).encode() * number for number in range(200)]
            answers = await asyncio.gather(*(link.request("c.echo", each) for each in payloads))
            self.assertEqual(answers, payloads)

    async def test_waiting_methods_are_refused_in_a_loop(self):
        async with client("refused") as bus:
            with self.assertRaises(bolide.BolideError):
                bus.open("c.echo").call("c.echo")

    async def test_large_payloads_come_back(self):
        async with client("large") as bus:
            payload = os.urandom(2_000_000)
            self.assertEqual(await bus.open("c.echo").request("c.echo", payload, timeout=30), payload)

    async def test_coroutine_of_the_other_program_adds(self):
        async with client("add") as bus:
            link = bus.open("py.add")
            answer = await link.request("py.add", bolide.cbor.dumps([1, 2, 39]), timeout=30)
            self.assertEqual(bolide.cbor.loads(answer), 42)
            with self.assertRaises(bolide.ToolError) as caught:
                await link.request("py.add", b"\xff", timeout=30)
            self.assertEqual(caught.exception.code, "bad-arguments")

    async def test_timeout_and_cancellation_leave_the_link_usable(self):
        async with client("cancel") as bus:
            link = bus.open("py.slow")
            with self.assertRaises(bolide.Timeout):
                await link.request("py.slow", timeout=0.05)
            seen = asyncio.Event()
            task = asyncio.ensure_future(link.request("py.slow", progress=lambda _: seen.set()))
            await seen.wait()
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertEqual(await link.request("py.echo", b"next", timeout=30), b"next")

    async def test_topics_are_iterated(self):
        async with client("iterate") as bus:
            calls = bus.subscribe("demo.*.calls")
            while len(calls.subjects) < 2:
                await asyncio.sleep(0)
            asked = {"c.echo": bus.open("c.echo"), "py.echo": bus.open("py.echo")}
            for tool, link in asked.items():
                await link.request(tool, b"x", timeout=30)
            seen = set()
            async for message in calls:
                seen.add(bytes(message).decode())
                if set(asked) <= seen:
                    break

    async def test_own_topic_is_read_by_a_second_client(self):
        async with client("writer") as writer, client("reader") as reader:
            topic, numbers = writer.publisher("test.numbers"), reader.subscribe("test.numbers")
            while topic.readers == 0:
                await asyncio.sleep(0)
            for number in range(100):
                topic.try_publish(number.to_bytes(4, "little"))
            got = []
            async for message in numbers:
                got.append(int.from_bytes(message.payload, "little"))
                if len(got) == 100:
                    numbers.close()
            self.assertEqual(got, list(range(100)))


if __name__ == "__main__":
    unittest.main()
