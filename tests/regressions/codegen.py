#!/usr/bin/env python3
"""Checks that the micro-kernels keep their sums in registers.

usage: codegen.py COMPILER SANITIZERS OPTIMIZATION ARCHIVE...     what the archives of kernels were built with

An innermost loop with at least four multiply-accumulates must neither store a vector on the stack nor load one from it.
Spilled pointers and scalars are counted and printed only. SPILLS says where spills are known, why, and how many a loop may have.
"""

import collections
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import listing

LEAST_MULTIPLY_ACCUMULATES = 4

# Known spills: the object, the function, what the loop's multiply-accumulates are, its most stores and loads, and why.
Spill = collections.namedtuple("Spill", "object function kind stores loads reason")
CONSTANTS = "more constants than registers"
GROUP_END = "the end of a group, once for all of its elements"
BLOCK_END = "the end of a block, once for 32 elements or more"
SHORT_SUMS = "the s32 sums wait in memory while 32 elements are summed in s16"
SPILLS = [
    Spill("elementwise_f32_avx2", r"^unary_f32_avx2", r"vf", 0, 25, CONSTANTS),
    Spill("elementwise_f32_avx512", r"^unary_f32_avx512", r"vf", 0, 4, CONSTANTS),
    Spill("linear_weight_only_avx2", r"multiply<ByteFloats, [24], 2>", r"vf", 0, 30, CONSTANTS),
    Spill("linear_weight_only_avx2", r"multiply<NibbleFloats, (2, 4|4, 2)>", r"vf", 2, 2,
          "8 sums, the codes and the table of values: one of 64 products through memory"),
    Spill("linear_fixed_point_avx2", r"multiply_tile<\(Blocks\)0, .*, [12]>", r"vpmadd|vf", 2, 5, BLOCK_END),
    Spill("linear_fixed_point_avx2", r"multiply_tile<\(Blocks\)1, .*, 1>", r"vpmadd|vf", 4, 4, SHORT_SUMS),
    Spill("linear_fixed_point_avx2", r"multiply_tile<\(Blocks\)1, .*, 2>", r"vpmadd|vf", 26, 36, SHORT_SUMS),
    Spill("linear_dynamic_avx2", r"multiply_tile<false, false, [46]>", r"vf", 0, 5, GROUP_END),
    Spill("linear_dynamic_decoded_avx2", r"multiply_tile<\(Groups\)0, [23]>", r"vpmadd|vf", 2, 2, GROUP_END),
    Spill("linear_dynamic_decoded_avx2", r"multiply_tile<\(Groups\)1, [23]>", r"vpmadd|vf", 5, 10, SHORT_SUMS),
    Spill("linear_dynamic_avx2", r"multiply_tile<true, true, 4>", r"vpmadd", 10, 11, SHORT_SUMS),
    Spill("linear_dynamic_avx2", r"multiply_tile<true, false, 4>", r"vpmadd", 7, 7, SHORT_SUMS),
    Spill("linear_dynamic_avx2", r"multiply_tile<true, true, 2>", r"vpmadd", 2, 3, SHORT_SUMS),
    Spill("linear_dynamic_avx512", r"multiply_tile<(true|false), false, 8, 2>", r"vf", 4, 4, GROUP_END),
    Spill("conv_vnni_avx512", r"run_conv_avx512_vnni", r"vf", 5, 5, CONSTANTS),  # curved activations
    Spill("conv_vnni256_avx512", r"run_panels", r"vf", 0, 4, CONSTANTS),         # the same
    Spill("conv_vnni_avx512", r"run_small_tiles<", r"vp?dp|vf", 1, 10, CONSTANTS),
    Spill("depthwise_5x5_vnni_avx512", r"convolve_rows<", r"vp?dp|vf", 5, 20, "25 taps: most are operands in memory"),
    Spill("depthwise_3x3_vnni_avx512", r"convolve_rows<.*\(DepthwiseEnd\)2", r"vp?dp|vf", 8, 37,
          "all channels at once, and the constants of hardswish: operands in memory"),
    Spill("depthwise_3x3_vnni_avx512", r"convolve_rows<", r"vp?dp|vf", 4, 29,
          "all channels at once: most constants are operands in memory"),
]

# The fewest loops to be found in an object, about half of what is there: with fewer the reader does not see them.
FLOORS = {
    "conv_f32_avx2": 7, "conv_maddubs_avx2": 80, "conv_s8_avx2": 16, "conv_vnni256_avxvnni": 40, "conv_winograd_avx2": 3,
    "depthwise_f32_avx2": 18, "depthwise_maddubs_avx2": 10, "depthwise_s8_avx2": 7, "linear_dynamic_avx2": 6,
    "linear_dynamic_decoded_avx2": 6, "linear_fixed_point_avx2": 13, "linear_weight_only_avx2": 6, "matmul_f32_avx2": 5,
    "matmul_s8_avx2": 1,
    "conv_f32_avx512": 20, "conv_vnni_avx512": 60, "conv_winograd_avx512": 4, "depthwise_f32_avx512": 18,
    "depthwise_3x3_vnni_avx512": 48, "depthwise_5x5_vnni_avx512": 27, "attention_vnni_avx512": 8, "linear_dynamic_avx512": 20,
    "linear_fixed_point_avx512": 8, "linear_weight_only_avx512": 19, "matmul_f32_avx512": 18,
}


def disassembled(archive):
    command = ["objdump", "-d", "-C", "-w", "--no-show-raw-insn", archive]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def micro_kernel_loops(archive):
    """{object: loops} of those with enough multiply-accumulates."""
    found = collections.defaultdict(list)
    for loop in listing.loops(disassembled(archive)):
        if listing.multiply_accumulates(loop) >= LEAST_MULTIPLY_ACCUMULATES:
            found[os.path.basename(loop.object).removesuffix(".o").removesuffix(".cpp")].append(loop)
    return found


def known_spill(name, loop):
    short = re.sub(r"aoq::cpu::|\(anonymous namespace\)::", "", loop.function)
    kinds = [i.name for i in loop.instructions if listing.MULTIPLY_ACCUMULATE.match(i.name)]
    return next((s for s in SPILLS if s.object == name and re.search(s.function, short) and
                 all(re.match(s.kind, k) for k in kinds)), None)


def describe(name, loop, vectors, known):
    stores = sum(map(listing.is_store, vectors))
    lines = ["%s: %s" % (name, loop.function),
             "  the loop of %d instructions at %x, %d of them multiply-accumulates, has %d vector stores to the stack and %d "
             "loads; %s:" % (len(loop.instructions), loop.instructions[0].address, listing.multiply_accumulates(loop), stores,
                             len(vectors) - stores,
                             "at most %d and %d are known" % (known.stores, known.loads) if known else "expected none")]
    lines += ["    %x: %s %s" % i for i in vectors[:6]]
    return "\n".join(lines + ["    and %d more" % (len(vectors) - 6)] * (len(vectors) > 6))


def check_loop(name, loop, used):
    """The problem of one loop, or None; adds to `used` the known spill that excuses it."""
    vectors, _ = listing.stack_uses(loop)
    if not vectors:
        return None
    known = known_spill(name, loop)
    if known:
        used.add(known)
        stores = sum(map(listing.is_store, vectors))
        if stores <= known.stores and len(vectors) - stores <= known.loads:
            return None
    return describe(name, loop, vectors, known)


def check_object(name, loops, used):
    problems = [p for p in (check_loop(name, loop, used) for loop in loops) if p]
    pointers = sum(len(listing.stack_uses(loop)[1]) for loop in loops)
    print("%-28s %4d loops, %3d uses of spilled pointers and scalars" % (name, len(loops), pointers))
    return problems


def check(archives):
    problems, used, found = [], set(), {}
    for archive in archives:
        found.update(micro_kernel_loops(archive))
    for name in sorted(found):
        problems += check_object(name, found[name], used)
    for name, floor in FLOORS.items():
        if len(found.get(name, [])) < floor:
            problems.append("%s: found %d loops, expected at least %d: objdump's listing is not read as it should, or the "
                            "kernel is gone (then take it out of FLOORS)" % (name, len(found.get(name, [])), floor))
    for spill in SPILLS:
        print("%s %s: %s: %s" % (spill.object, spill.function, spill.reason, "known" if spill in used else
                                 "gone, so take it out of SPILLS"))
    return problems


def reason_to_skip(compiler, sanitizers, optimization):
    if compiler != "gcc":
        return "the known spills are g++'s, and this was built by %s" % compiler
    if sanitizers != "none":
        return "sanitizers spill of themselves"
    if optimization != "3":
        return "optimization is %s, not 3" % optimization
    return None if shutil.which("objdump") else "there is no objdump"


def main():
    compiler, sanitizers, optimization, *archives = sys.argv[1:]
    if reason := reason_to_skip(compiler, sanitizers or "none", optimization):
        print("[SKIP] " + reason)
        sys.exit(77)
    problems = check(archives)
    print("\n".join(problems + ["%d loops or objects are wrong" % len(problems)]))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
