"""What Python repeats of the header is what the header says; and what goes wrong without a router."""

import ctypes
import os
import re
import unittest

import bolide
from bolide import _library

HEADER = os.path.join(os.path.dirname(__file__), "../../c/include/bolide.h")


class Library(unittest.TestCase):
    def test_every_number_is_that_of_the_header(self):
        with open(HEADER) as file:
            numbers = re.findall(r"^#define BOLIDE_(\w+) (\d+)$", file.read(), re.MULTILINE)
        self.assertGreater(len(numbers), 30)
        for name, number in numbers:
            self.assertEqual(getattr(_library, name), int(number), name)

    def test_every_function_takes_as_much_as_in_the_header(self):
        with open(HEADER) as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
        for name, (_, arguments) in {**_library._QUICK, **_library._SLOW}.items():
            declared = re.search(rf"\b{name}\((.*?)\);", text, re.DOTALL).group(1)
            count = 0 if declared == "void" else declared.count(",") + 1
            self.assertEqual(len(arguments), count, name)

    def test_structures_have_the_fields_of_the_header(self):
        with open(HEADER) as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
        for structure in ("Limits", "Manifest", "Request", "Message", "Agent", "Event"):
            body = re.search(rf"typedef struct bolide_{structure.lower()} {{(.*?)}}", text, re.DOTALL).group(1)
            names = re.findall(r"(\w+)(?:\[2\])?;", body)
            ours = [name.rstrip("_") for name, _ in getattr(_library, f"C{structure}")._fields_]
            self.assertEqual(ours, names)

    def test_no_router_is_an_error_with_a_hint(self):
        with self.assertRaises(bolide.BolideError) as caught:
            bolide.Client("demo", socket="/nowhere").connect()
        self.assertEqual(caught.exception.code, "no-router")
        self.assertIn("serve", caught.exception.hint)
        with self.assertRaises(ValueError):
            bolide.Client("a\0b", socket="/nowhere").connect()
        with self.assertRaises(bolide.BolideError) as caught:
            bolide.Client("demo").open("anything")
        self.assertEqual(caught.exception.code, "closed")
        bolide.Client("demo").close()

    def test_limits_that_are_none_are_refused(self):
        for limits in ({"lanes": 1}, {"links": 0}, {"links": -1}, {"bytes": 1 << 64}):
            with self.assertRaises(ValueError):
                bolide.Client("demo", limits=limits)

    def test_library_that_is_not_there_is_an_error_with_a_hint(self):
        before = os.environ.get("BOLIDE_LIBRARY")
        os.environ["BOLIDE_LIBRARY"] = "/nowhere/libbolide.so"
        try:
            with self.assertRaises(bolide.BolideError) as caught:
                _library._find()
            self.assertEqual(caught.exception.code, "no-library")
        finally:
            del os.environ["BOLIDE_LIBRARY"]
            if before is not None:
                os.environ["BOLIDE_LIBRARY"] = before

    def test_view_that_was_taken_away_is_an_error(self):
        memory = ctypes.create_string_buffer(b"content")
        view = bolide._handle.View()
        given = view.give(ctypes.addressof(memory), 7)
        self.assertEqual(bytes(given), b"content")
        with self.assertRaises(TypeError):
            given[0] = 1
        holder = (ctypes.c_char * 7).from_buffer_copy(given)
        view.take_away()
        self.assertEqual(holder.raw, b"content")
        with self.assertRaises(ValueError):
            bytes(given)


if __name__ == "__main__":
    unittest.main()
