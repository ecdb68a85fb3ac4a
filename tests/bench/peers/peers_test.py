#!/usr/bin/env python3
"""Tests of what needs no peer: medians, tables, markers, the picture, and the reader of .pth files."""

import collections
import io
import os
import pickle
import platform
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ceiling
import isa_cap
import page
import plot
import pth
import stats


BEGIN, END = "<!-- benchmark begin -->", "<!-- benchmark end -->"


def record(contestant, rounds, model="m", threads=1, batch=1):
    return {"model": model, "threads": threads, "batch": batch, "contestant": contestant, "rounds": rounds,
            "best_ms": min(rounds)}


class Medians(unittest.TestCase):
    def test_ratio_is_the_median_of_the_rounds_ratios(self):
        ours, theirs = record("aoq/static", [1.0, 10.0, 4.0]), record("openvino/qdq", [3.0, 20.0, 4.0])
        self.assertEqual(stats.ratio(ours, theirs), 2.0)  # of 3, 2 and 1; the medians would give 1

    def test_no_rounds_give_no_ratio(self):
        self.assertIsNone(stats.ratio({"rounds": []}, record("a/f32", [1.0])))

    def test_the_fastest_form_counts(self):
        slow, fast = record("onnxruntime/qdq", [5.0, 5.0]), record("onnxruntime/dynamic", [4.0, 9.0, 4.0])
        other = record("openvino/qdq", [1.0])
        self.assertIs(stats.pick([slow, fast, other], "onnxruntime", "qdq", "dynamic"), fast)
        self.assertIsNone(stats.pick([slow], "aoq", "static"))

    def test_groups_keep_the_order(self):
        records = [record("a/f32", [1.0], "z"), record("a/f32", [1.0], "b"), record("b/f32", [1.0], "z")]
        self.assertEqual([(k[0], len(g)) for k, g in stats.groups(records).items()], [("z", 2), ("b", 1)])


class Pages(unittest.TestCase):
    def test_numbers_have_three_digits(self):
        texts = [page.number(v) for v in (None, 0, 0.0123, 0.5, 4.567, 45.67, 999.6, 12345.0)]
        self.assertEqual(texts, ["-", "0", "0.0123", "0.500", "4.57", "45.7", "1000", "12345"])

    def test_table(self):
        text = page.table([["model", "ms"], ["a|b", 1.5]])
        self.assertEqual(text, "| model | ms |\n|---|---:|\n| a\\|b | 1.5 |")

    def test_speed_table_compares_with_the_best_peer(self):
        records = [record("aoq/f32", [4.0]), record("aoq/static", [2.0]), record("onnxruntime/f32", [8.0]),
                   record("onnxruntime/qdq", [3.0]), record("openvino/f32", [6.0]), record("openvino/qdq", [5.0])]
        agreements = {"m": {"onnxruntime/qdq": {"cosine": 0.5}, "openvino/qdq": {"cosine": 0.99}}}
        cells = page.speed_table(records, agreements).splitlines()[2].split(" | ")
        self.assertEqual(cells[0], "| m, 1 x 1")
        self.assertEqual(cells[4:7], ["2.00 static", "3.00 qdq \\*", "5.00"])
        self.assertEqual([c.strip(" |") for c in cells[-4:]], ["1.50", "1.50", "2.50", "2.00"])

    def test_a_missing_peer_is_a_dash(self):
        self.assertIn("| - |", page.speed_table([record("aoq/f32", [4.0])], {}))

    def test_markers_are_replaced(self):
        text = "a\n" + BEGIN + "\nold\n" + END + "\nb\n"
        new = page.replace_marked(text, "new\n")
        self.assertEqual(new, "a\n" + BEGIN + "\nnew\n" + END + "\nb\n")
        self.assertEqual(page.replace_marked(new, "new"), new)

    def test_wrong_markers_are_refused(self):
        for text in ("", BEGIN, END + BEGIN, BEGIN * 2 + END, BEGIN + END * 2):
            with self.assertRaises(ValueError):
                page.replace_marked(text, "x")

    def test_a_page_without_markers_stays(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "page.md")
            with open(path, "w", encoding="utf-8") as file:
                file.write("no markers")
            with self.assertRaises(ValueError):
                page.write_page(path, "x")
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), "no markers")
            self.assertEqual(os.listdir(folder), ["page.md"])

    def test_the_readme_has_the_markers(self):
        readme = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../README.md")
        with open(readme, encoding="utf-8") as file:
            text = file.read()
        for name in ("benchmark", "benchmark-avx2"):
            self.assertIn("replaced", page.replace_marked(text, "replaced", name))


class Pictures(unittest.TestCase):
    def test_bars_are_as_long_as_the_ratios(self):
        records = [record("onnxruntime/f32", [8.0]), record("aoq/f32", [8.0]), record("aoq/static", [2.0]),
                   record("openvino/f32", [16.0])]
        picture = xml.dom.minidom.parseString(plot.draw(records, "a < b"))
        bars = [float(r.getAttribute("width")) for r in picture.getElementsByTagName("rect")[1:]]
        self.assertEqual(len(bars), 4)
        aoq, int8, ort, openvino = bars
        self.assertAlmostEqual(int8, 4 * ort, delta=0.3)
        self.assertAlmostEqual(aoq, ort, delta=0.1)
        self.assertAlmostEqual(openvino, ort / 2, delta=0.1)

    def test_the_axis_reaches_the_largest(self):
        for largest in (0.3, 1.0, 7.9, 33.0, 5000.0):
            self.assertGreaterEqual(plot.scale_steps(largest)[-1], largest)


MACHINE = {"threads": 2, "gmac_per_s": {"vpdpbusd zmm": 200.0, "vpmaddwd+vpaddd ymm": 90.0, "vfmadd231ps ymm": 50.0},
           "gmac_per_s_all": {"vpdpbusd zmm": 380.0, "vpmaddwd+vpaddd ymm": 170.0, "vfmadd231ps ymm": 96.0}}


class Ceilings(unittest.TestCase):
    def test_kernels_have_the_peak_of_their_class(self):
        self.assertEqual(ceiling.peak(MACHINE, "avx512_vnni", "int8", 1), 200.0)
        self.assertEqual(ceiling.peak(MACHINE, "avx2", "int8", 1), 90.0)
        self.assertEqual(ceiling.peak(MACHINE, "avx2", "f32", 1), 50.0)
        narrow = {**MACHINE, "gmac_per_s": {**MACHINE["gmac_per_s"], "vpdpbusd ymm": 180.0}}
        self.assertEqual(ceiling.peak(narrow, "avx_vnni", "int8", 1), 180.0)
        self.assertEqual(ceiling.peak(narrow, "avx2", "int8", 1), 90.0)

    def test_all_cores_together_are_measured_not_multiplied(self):
        self.assertEqual(ceiling.peak(MACHINE, "avx512_vnni", "int8", 2), 380.0)
        self.assertEqual(ceiling.peak({**MACHINE, "threads": 4}, "avx512_vnni", "int8", 2), 400.0)

    def test_a_mix_that_was_not_measured_has_no_peak(self):
        nothing = {"threads": 1, "gmac_per_s": {}, "gmac_per_s_all": {}}
        self.assertIsNone(ceiling.peak(nothing, "reference", "int8", 1))

    def test_kinds(self):
        kernels = ("qconv_s8_vnni", "linear_dynamic_avx2", "qconv_depthwise_vnni", "conv_f32", "linear_f32_onednn")
        self.assertEqual([ceiling.kind_of(k) for k in kernels], ["int8"] * 3 + ["f32"] * 2)

    def test_the_table_has_the_share_and_what_is_lost(self):
        product = {"name": "c", "op": "qconv", "kernel": "qconv_s8", "median_us": 10.0, "alone_us": 9.0,
                   "macs": 1000000, "gmac_per_s": 100.0, "peak": 200.0, "share": 0.5}
        other = {"name": "s", "op": "softmax", "kernel": "softmax_f32", "median_us": 30.0, "alone_us": 30.0, "macs": 0,
                 "gmac_per_s": 0.0, "peak": None, "share": None}
        entry = {"model": "m", "form": "static", "threads": 1, "batch": 1, "whole_ms": 0.05, "sum_ms": 0.04,
                 "ops": [product, other]}
        row = ceiling.summary_row(entry)
        self.assertEqual(row[4:], ["1.25", "12 %", "50 %", "75 %"])  # 5 us of 40, 5 of 10, 30 of 40
        lines = ceiling.slowest(entry).splitlines()
        self.assertTrue(lines[2].startswith("| s | softmax "))
        self.assertTrue(lines[3].endswith("| 50 % | 5.00 |"))


class Makes:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Name:
    def __init__(self, name):
        self.pid = name


class TensorPickler(pickle.Pickler):
    """Writes storages as persistent ids, as torch does."""

    def persistent_id(self, value):
        return value.pid if isinstance(value, Name) else None


def named(module, name):
    """A global of a module that need not exist, as protocol 2 names it."""
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def pth_file(body, keys, storages):
    head = pickle.dumps(pth.MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    return io.BytesIO(head + body + pickle.dumps(keys, 2) + storages)


def one_tensor(offset=0, shape=(2, 2), strides=(2, 1), count=4):
    """{"w": a tensor of storage "7"}, spelled as opcodes because its names are torch's."""
    def integers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"

    pid = b"(X\x07\x00\x00\x00storage" + named("torch", "FloatStorage") + b"X\x01\x00\x00\x007X\x03\x00\x00\x00cpuJ" + \
        struct.pack("<i", count) + b"Nt" + b"Q"
    arguments = b"(" + pid + b"J" + struct.pack("<i", offset) + integers(shape) + integers(strides) + b"\x89)t"
    call = named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"
    return b"\x80\x02}X\x01\x00\x00\x00w" + call + b"s."


class PthFiles(unittest.TestCase):
    def read(self, body, keys=(), storages=b""):
        return pth.read_file(pth_file(body, list(keys), storages))

    def test_a_tensor_is_read(self):
        try:
            import numpy
        except ImportError:
            print("[SKIP] reading a tensor: no numpy here")
            return
        values = struct.pack("<4f", 1, 2, 3, 4)
        data = struct.pack("<q", 4) + values
        self.assertEqual(self.read(one_tensor(), ["7"], data)["w"].tolist(), [[1, 2], [3, 4]])
        self.assertEqual(self.read(one_tensor(1, (3,), (1,)), ["7"], data)["w"].dtype, numpy.float32)

    def test_functions_are_refused_and_not_called(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "made")
            calls = Makes(os.mkdir, path), {"w": Makes(os.system, "mkdir " + path)}, Makes(eval, "1")
            for value in (*calls, pth.Storage):
                with self.assertRaisesRegex(pth.RefusedError, "expected tensors"):
                    self.read(pickle.dumps(value, 2))
            self.assertFalse(os.path.exists(path))

    def test_every_part_of_the_file_is_guarded(self):
        for where in range(3):
            parts = [pickle.dumps(p, 2) for p in (pth.MAGIC, 1001, {})]
            parts[where] = pickle.dumps(Makes(os.getcwd), 2)
            with self.assertRaises(pth.RefusedError):
                pth.read_file(io.BytesIO(b"".join(parts)))

    def test_containers_are_read(self):
        self.assertEqual(self.read(pickle.dumps(collections.OrderedDict(version=1), 2)), {})

    def test_wrong_storages_are_refused(self):
        file = io.BytesIO()
        TensorPickler(file, 2).dump(Name(("module", "x")))
        with self.assertRaisesRegex(pth.RefusedError, "persistent id"):
            self.read(file.getvalue())
        with self.assertRaisesRegex(pth.RefusedError, "elements"):
            self.read(one_tensor(), ["7"], struct.pack("<q", 5) + bytes(20))
        with self.assertRaisesRegex(pth.RefusedError, "ends after"):
            self.read(one_tensor(), ["7"], struct.pack("<q", 4) + bytes(8))
        with self.assertRaisesRegex(pth.RefusedError, "elements"):
            self.read(one_tensor(), ["8"], struct.pack("<q", 4) + bytes(16))

    def test_a_tensor_beyond_its_storage_is_refused(self):
        storage = pth.Storage("<f4", 4)
        for offset, shape, strides in ((1, (2, 2), (2, 1)), (0, (5,), (1,)), (0, (2,), (4,)), (-1, (1,), (1,)),
                                       (0, (-2,), (1,)), (0, (2,), (1, 1)), (0, ("2",), (1,))):
            with self.assertRaises(pth.RefusedError):
                pth.TensorOf(storage, offset, shape, strides).check()
        pth.TensorOf(storage, 1, (3,), (1,)).check()

    def test_other_files_are_refused(self):
        with self.assertRaisesRegex(pth.RefusedError, "magic"):
            pth.read_file(io.BytesIO(pickle.dumps(5)))
        with self.assertRaisesRegex(pth.RefusedError, "dictionary"):
            self.read(pickle.dumps([1], 2))


class CappedLibraries(unittest.TestCase):
    HEADERS = """
libx.so:     file format elf64-x86-64

Sections:
Idx Name          Size      VMA               LMA               File off  Algn  Flags
  0 .rodata       00000010  0000000000001000  0000000000001000  00000000  2**2  CONTENTS, ALLOC, LOAD, READONLY, DATA
  1 .text         00000006  0000000000002000  0000000000002000  00000010  2**4  CONTENTS, ALLOC, LOAD, READONLY, CODE
"""

    def test_only_named_instructions_in_code_are_exchanged(self):
        sections = isa_cap.code_sections(self.HEADERS)
        self.assertEqual(sections, [(0x2000, 6, 0x10)])
        library = b"\x0f\xa2" * 8 + b"\x90\x0f\xa2\x90\x0f\xa2"
        changed = isa_cap.exchange(library, [0x2001], sections)
        self.assertEqual(changed, library[:0x11] + b"\x0f\xff" + library[0x13:])
        for address in (0x2000, 0x2006, 0x1000):  # another instruction, behind the code, data
            with self.assertRaisesRegex(ValueError, "expected a CPUID"):
                isa_cap.exchange(library, [address], sections)

    def test_a_missing_tool_or_package_is_named(self):
        path = os.environ["PATH"]
        with tempfile.TemporaryDirectory() as folder:
            os.environ["PATH"] = folder
            try:
                with self.assertRaisesRegex(RuntimeError, "need cc and objdump"):
                    isa_cap.prepare(folder, print)
            finally:
                os.environ["PATH"] = path
            with self.assertRaisesRegex(RuntimeError, "no_such_peer is not installed"):
                isa_cap.copy_package("no_such_peer", folder, print)

    def test_copies_count_only_when_whole_and_of_the_same_versions(self):
        with tempfile.TemporaryDirectory() as folder:
            stamp = os.path.join(folder, "ready")
            self.assertFalse(isa_cap.is_made(stamp, "a 1, b 2"))
            for text, made in (("", False), ("a 1, b 1", False), ("a 1, b 2", True)):
                with open(stamp, "w", encoding="utf-8") as file:
                    file.write(text)
                self.assertEqual(isa_cap.is_made(stamp, "a 1, b 2"), made)

    def test_a_preloaded_answer_hides_what_the_class_lacks(self):
        tools = [shutil.which(t) for t in ("cc", "objdump")]
        if platform.machine() != "x86_64" or None in tools:
            print("[SKIP] a capped program: needs x86-64, cc and objdump")
            return
        asks = """#include <cpuid.h>
            #include <stdio.h>
            int main(void) {
              unsigned a, b, c, d;
              __cpuid_count(7, 0, a, b, c, d);
              printf("%u %u %u\\n", b >> 5 & 1, b >> 16 & 1, c >> 11 & 1);
            }"""
        with tempfile.TemporaryDirectory() as folder:
            program, preloaded = os.path.join(folder, "asks"), os.path.join(folder, "isa_cap.so")
            subprocess.run(["cc", "-x", "c", "-o", program, "-"], input=asks, text=True, check=True)
            source = os.path.join(os.path.dirname(isa_cap.__file__), "isa_cap.c")
            subprocess.run(["cc", "-shared", "-fPIC", "-o", preloaded, source], check=True)
            before = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
            isa_cap.patch(program)
            after = subprocess.run([program], env={"LD_PRELOAD": preloaded}, capture_output=True, text=True, check=True)
            self.assertEqual(after.stdout.split(), [before[0], "0", "0"])  # AVX2 as it is, no AVX512F, no VNNI
            alone = subprocess.run([program], capture_output=True)
            self.assertEqual(alone.returncode, -signal.SIGILL)


if __name__ == "__main__":
    unittest.main()
