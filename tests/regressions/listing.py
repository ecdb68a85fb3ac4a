"""Reads objdump's listings: functions, their innermost loops, and what these do with the stack.

The syntax is AT&T's: the destination is the last operand, and memory is displacement(base,index,scale).
"""

import bisect
import collections
import re

Instruction = collections.namedtuple("Instruction", "address name operands")
# One innermost loop: the listing's object and function, its instructions, and what its function uses as frame pointers.
Loop = collections.namedtuple("Loop", "object function instructions frame")

MULTIPLY_ACCUMULATE = re.compile(r"vpdp(busds?|wssds?)$|vpmadd(wd|ubsw)$|vf(n?)m(add|sub)(132|213|231)ps$")
VECTOR_REGISTER = re.compile(r"%[xyz]mm\d")
MEMORY = re.compile(r"(?:-?0x[0-9a-f]+)?\((%\w+)(,%\w+,\d)?\)")


def functions(lines):
    """(object, function, instructions) of each symbol of a listing made with --no-show-raw-insn and -w."""
    here, name, body = "", "", []
    for line in lines:
        if m := re.match(r"(\S+):\s+file format ", line):
            if body:
                yield here, name, body
            here, body = m[1], []
        elif m := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            if body:
                yield here, name, body
            name, body = m[1], []
        elif m := re.match(r"\s*([0-9a-f]+):\t(?:\{vex\} )?(\S+)\s*(.*?)\s*(?:#.*)?$", line):
            body.append(Instruction(int(m[1], 16), m[2], m[3]))
    if body:
        yield here, name, body


def jump_target(instruction):
    """Where a direct jump leads; None for anything else."""
    m = re.match(r"([0-9a-f]+)(?: <|$)", instruction.operands) if instruction.name.startswith("j") else None
    return int(m[1], 16) if m else None


def innermost_loops(body):
    """The runs of instructions from a backward jump's target to the jump that hold no other backward jump's whole run.

    Of the jumps to one place the nearest counts: the others close loops around it.
    """
    addresses = [i.address for i in body]
    spans = {}
    for at, instruction in enumerate(body):
        target = jump_target(instruction)
        if target is None or not addresses[0] <= target <= instruction.address:
            continue
        first = bisect.bisect_left(addresses, target)
        if addresses[first] == target:
            spans.setdefault(first, at)
    for first, last in spans.items():
        if not any(first < f and end <= last for f, end in spans.items()):
            yield body[first:last + 1]


def loops(lines):
    """Every innermost loop of a listing."""
    for here, name, body in functions(lines):
        frame = {"%rsp"}
        if any(i.name == "mov" and i.operands == "%rsp,%rbp" for i in body):
            frame.add("%rbp")
        for found in innermost_loops(body):
            yield Loop(here, name, found, frame)


def multiply_accumulates(loop):
    return sum(bool(MULTIPLY_ACCUMULATE.match(i.name)) for i in loop.instructions)


def stack_uses(loop):
    """(uses of vectors, other uses) of the stack's slots; an array there has an index, and a broadcast reads a scalar."""
    vectors, others = [], []
    for i in loop.instructions:
        memory = MEMORY.search(i.operands)
        if memory is None or memory[1] not in loop.frame or memory[2] or i.name.startswith(("lea", "prefetch")):
            continue
        is_vector = VECTOR_REGISTER.search(i.operands) and "broadcast" not in i.name and "){1to" not in i.operands
        (vectors if is_vector else others).append(i)
    return vectors, others


def is_store(instruction):
    """Whether the last operand is memory; for a use of the stack."""
    return instruction.operands.endswith(")") and instruction.name.startswith(("vmov", "vextract", "vpextr"))
