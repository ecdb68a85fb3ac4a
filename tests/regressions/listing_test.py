#!/usr/bin/env python3
"""Tests of the reader of listings, on short ones."""

import os
import sys
import unittest
import unittest.mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import codegen
import listing

HEAD = """
In archive libkernels.a:

tile.cpp.o:     file format elf64-x86-64


Disassembly of section .text:

0000000000000000 <run_tile(Tile const&)>:
"""

CLEAN = HEAD + """   0:\tvpxor  %xmm0,%xmm0,%xmm0
   4:\tvmovdqa %ymm5,0x20(%rsp)
   8:\tvpbroadcastd (%rsi),%ymm4
   c:\tvpdpbusd (%rdi),%ymm4,%ymm0
  10:\tvpdpbusd 0x20(%rdi),%ymm4,%ymm1
  14:\tvpdpbusd 0x40(%rdi),%ymm4,%ymm2
  18:\tmov    0x8(%rsp),%rax
  1c:\tvpdpbusd 0x20(%rsp,%rax,4),%ymm4,%ymm3
  20:\tcmp    %rax,%rdi
  24:\tjne    8 <run_tile(Tile const&)+0x8>
  26:\tvmovdqa 0x20(%rsp),%ymm5
  2a:\tret
"""

SPILLED = CLEAN.replace("  14:\tvpdpbusd 0x40(%rdi),%ymm4,%ymm2\n",
                        "  12:\tvmovdqa %ymm2,0x40(%rsp)\n  14:\tvpdpbusd 0x40(%rsp),%ymm4,%ymm2\n")

# A loop of 10..20 inside one of 8..28, and a second jump back to 10 behind the first.
NESTED = HEAD + """   0:\tpush   %rbp
   4:\tmov    %rsp,%rbp
   8:\tvmovaps -0x30(%rbp),%ymm7
  10:\tvfmadd231ps (%rdi),%ymm4,%ymm0
  14:\tvfmadd231ps -0x50(%rbp),%ymm4,%ymm1
  18:\tvmovups %ymm1,0x40(%rbx)
  20:\tjne    10 <run_tile(Tile const&)+0x10>
  22:\tja     10 <run_tile(Tile const&)+0x10>
  28:\tjne    8 <run_tile(Tile const&)+0x8>
  30:\tjmp    38 <run_tile(Tile const&)+0x38>
  38:\tret

0000000000000040 <other()>:
  40:\tnop
  41:\tjmp    8 <run_tile(Tile const&)+0x8>
"""


def loops(text):
    return list(listing.loops(text.splitlines()))


class Loops(unittest.TestCase):
    def test_a_loop_goes_from_the_target_to_the_jump(self):
        (loop,) = loops(CLEAN)
        self.assertEqual((loop.object, loop.function), ("tile.cpp.o", "run_tile(Tile const&)"))
        self.assertEqual((loop.instructions[0].address, loop.instructions[-1].address), (0x8, 0x24))
        self.assertEqual(listing.multiply_accumulates(loop), 4)

    def test_only_the_innermost_counts_and_other_functions_are_no_targets(self):
        (loop,) = loops(NESTED)
        self.assertEqual((loop.instructions[0].address, loop.instructions[-1].address), (0x10, 0x20))

    def test_two_loops_in_a_row(self):
        twice = CLEAN.replace("  2a:\tret", "  2a:\tdec    %rax\n  2c:\tjne    2a <run_tile(Tile const&)+0x2a>")
        self.assertEqual([len(found.instructions) for found in loops(twice)], [8, 2])


class Stack(unittest.TestCase):
    def test_pointers_and_arrays_are_no_spilled_vectors(self):
        vectors, others = listing.stack_uses(loops(CLEAN)[0])
        self.assertEqual((vectors, [i.name for i in others]), ([], ["mov"]))

    def test_broadcasts_read_scalars(self):
        for line in ("vbroadcastss 0x44(%rsp),%zmm2", "vpaddd 0x44(%rsp){1to16},%zmm2,%zmm2"):
            vectors, others = listing.stack_uses(loops(SPILLED.replace("vmovdqa %ymm2,0x40(%rsp)", line))[0])
            self.assertEqual((len(vectors), len(others)), (1, 2))

    def test_spilled_vectors(self):
        vectors, _ = listing.stack_uses(loops(SPILLED)[0])
        self.assertEqual([(i.name, listing.is_store(i)) for i in vectors], [("vmovdqa", True), ("vpdpbusd", False)])

    def test_the_frame_pointer_counts_where_it_is_one(self):
        self.assertEqual(len(listing.stack_uses(loops(NESTED)[0])[0]), 1)
        self.assertEqual(listing.stack_uses(loops(NESTED.replace("%rsp,%rbp", "%rdi,%rbp"))[0])[0], [])


class Check(unittest.TestCase):
    def test_a_spill_is_a_problem_and_names_the_place(self):
        self.assertIsNone(codegen.check_loop("tile", loops(CLEAN)[0], set()))
        problem = codegen.check_loop("tile", loops(SPILLED)[0], set())
        self.assertIn("run_tile(Tile const&)", problem)
        self.assertIn("1 vector stores to the stack and 1 loads", problem)

    def known(self, *spill):
        with unittest.mock.patch.object(codegen, "SPILLS", [codegen.Spill(*spill)]):
            used = set()
            return codegen.check_loop("tile", loops(SPILLED)[0], used), len(used)

    def test_known_spills_have_a_limit(self):
        self.assertEqual(self.known("tile", r"^run_tile\(", "vpdp", 1, 1, "few registers"), (None, 1))
        for stores, loads in ((0, 1), (1, 0)):
            problem, used = self.known("tile", r"^run_tile\(", "vpdp", stores, loads, "few registers")
            self.assertIn("at most %d and %d are known" % (stores, loads), problem)
            self.assertEqual(used, 1)

    def test_known_spills_are_of_one_function_and_one_kind_of_loop(self):
        for name, function, kind in (("other", "run_tile", "vpdp"), ("tile", "run_row", "vpdp"), ("tile", "run_tile", "vf")):
            problem, used = self.known(name, function, kind, 1, 1, "few registers")
            self.assertIn("expected none", problem)
            self.assertEqual(used, 0)

    def test_reasons_to_skip(self):
        self.assertIn("clang", codegen.reason_to_skip("clang", "none", "3"))
        self.assertIn("sanitizers", codegen.reason_to_skip("gcc", "address,undefined", "3"))
        self.assertIn("optimization", codegen.reason_to_skip("gcc", "none", "0"))


if __name__ == "__main__":
    unittest.main()
