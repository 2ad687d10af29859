"""The codec against RFC 8949's examples, against itself, and against hostile bytes."""

import math
import random
import unittest

from bolide import cbor

#: Appendix A of the RFC, as far as plain data goes.
EXAMPLES = [
    (0, "00"), (23, "17"), (24, "1818"), (100, "1864"), (1000, "1903e8"), (1000000, "1a000f4240"),
    (1000000000000, "1b000000e8d4a51000"), (18446744073709551615, "1bffffffffffffffff"),
    (-1, "20"), (-100, "3863"), (-18446744073709551616, "3bffffffffffffffff"),
    (1.1, "fb3ff199999999999a"), (False, "f4"), (True, "f5"), (None, "f6"),
    (b"", "40"), (b"\1\2\3\4", "4401020304"), ("", "60"), ("IETF", "6449455446"), ("\u6c34", "63e6b0b4"),
    ([], "80"), ([1, [2, 3]], "8201820203"), ({}, "a0"), ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    ({1: 2}, "a10102"),
]

#: What is no plain value in CBOR, or not all of one.
HOSTILE = [
    "", "18", "19ff", "1c", "1f", "5f4100ff", "7f6161ff", "9fff", "bfff", "ff", "f8ff", "f0", "c000",
    "61ff", "5affffffff00", "9bffffffffffffffff", "bbffffffffffffffff", "8201", "a101", "a1800001",
    "a20101" + "0102", "0000", "fb00", "81" * 100 + "00", "9a7fffffff" + "00" * 64,
]


class Codec(unittest.TestCase):
    def test_examples_of_the_standard(self):
        for value, text in EXAMPLES:
            self.assertEqual(cbor.dumps(value).hex(), text)
            self.assertEqual(cbor.loads(bytes.fromhex(text)), value)

    def test_shorter_floats_are_read(self):
        self.assertEqual(cbor.loads(bytes.fromhex("f93c00")), 1.0)
        self.assertEqual(cbor.loads(bytes.fromhex("fa47c35000")), 100000.0)
        self.assertTrue(math.isnan(cbor.loads(bytes.fromhex("f97e00"))))

    def test_hostile_bytes_are_errors(self):
        for text in HOSTILE:
            with self.assertRaises(cbor.CborError, msg=text):
                cbor.loads(bytes.fromhex(text))

    def test_any_bytes_give_a_value_or_an_error(self):
        chance = random.Random(1)
        for _ in range(20_000):
            data = chance.randbytes(chance.randrange(24))
            try:
                value = cbor.loads(data)
            except cbor.CborError:
                continue
            if value == value:
                self.assertEqual(repr(cbor.loads(cbor.dumps(value))), repr(value))

    def test_what_is_not_plain_is_not_written(self):
        deep = []
        for _ in range(100):
            deep = [deep]
        for value in (object(), 1 << 64, -(1 << 64) - 1, deep, {"a": {1, 2}}, "\ud800"):
            with self.assertRaises(cbor.CborError):
                cbor.dumps(value)


if __name__ == "__main__":
    unittest.main()
