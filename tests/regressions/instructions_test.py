#!/usr/bin/env python3
"""Tests of what needs no valgrind: reading an out file, and the verdicts."""

import contextlib
import io
import os
import sys
import unittest
import unittest.mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import callgrind
import instructions

# main calls multiply, which calls itself once.
OUT = """# callgrind format
version: 1
events: Ir
summary: 100

ob=/a/program
fl=/a/main.cpp
fn=main
3 4
cfi=/a/tile.cpp
cfn=multiply(int)
calls=1 7
4 96

fl=/a/tile.cpp
fn=multiply(int)
7 50
fi=/a/inline.h
9 6
fe=/a/tile.cpp
cfn=multiply(int)
calls=1 7
8 40
fn=multiply(int)
7 40

totals: 100
"""


def known(instructions_of, margin=0.03):
    return {"compiler": "gcc 1", "margin": margin,
            "models": {name: {"instructions": n, "biggest": {"f": n}} for name, n in instructions_of.items()}}


def verdict(counts, file):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        return instructions.report(counts, file), text.getvalue()


class OutFiles(unittest.TestCase):
    def test_a_functions_own_instructions(self):
        self.assertEqual(callgrind.parse(OUT), {"main": 4, "multiply(int)": 96})

    def test_what_does_not_add_up_is_an_error(self):
        for text in (OUT.replace("totals: 100", "totals: 99"), OUT.replace("calls=1 7\n", ""), "totals: 0\n", ""):
            with self.assertRaises(ValueError):
                callgrind.parse(text)


class Verdicts(unittest.TestCase):
    def test_within_the_margin(self):
        for total in (970, 1000, 1030):
            well, text = verdict({"m": {"f": total}}, known({"m": 1000}))
            self.assertTrue(well)
            self.assertNotIn("should be updated", text)

    def test_more_is_a_failure_and_names_the_biggest_functions(self):
        functions = {name: 400 - i for i, name in enumerate("fghijk")}
        well, text = verdict({"m": functions}, known({"m": 1000}))
        self.assertFalse(well)
        self.assertIn("400  (was 1000)  f\n", text)
        self.assertIn("399  (was not among the biggest)  g\n", text)
        self.assertNotIn("  k\n", text)

    def test_fewer_asks_for_an_update_only(self):
        well, text = verdict({"m": {"f": 960}}, known({"m": 1000}))
        self.assertTrue(well)
        self.assertIn("AOQ_UPDATE=1", text)

    def test_other_models_than_the_files_are_a_failure(self):
        self.assertFalse(verdict({"m": {"f": 1000}, "n": {"f": 1}}, known({"m": 1000}))[0])
        self.assertFalse(verdict({}, known({"m": 1000}))[0])


class Skips(unittest.TestCase):
    def test_counts_belong_to_a_compiler(self):
        with unittest.mock.patch.object(instructions.shutil, "which", lambda name: "/usr/bin/" + name):
            reason = instructions.reason_to_skip("gcc 2", "none", "3", known({}), False)
            self.assertEqual(reason, "the counts are of gcc 1, and this was built by gcc 2")
            self.assertIsNone(instructions.reason_to_skip("gcc 2", "none", "3", known({}), True))
            self.assertIsNone(instructions.reason_to_skip("gcc 1", "none", "3", known({}), False))
            self.assertIn("sanitizers", instructions.reason_to_skip("gcc 1", "address", "3", known({}), False))
            self.assertIn("optimization", instructions.reason_to_skip("gcc 1", "none", "2", known({}), False))

    def test_no_valgrind(self):
        with unittest.mock.patch.object(instructions.shutil, "which", lambda name: None):
            self.assertEqual(instructions.reason_to_skip("gcc 1", "none", "3", known({}), True), "there is no valgrind")


if __name__ == "__main__":
    unittest.main()
