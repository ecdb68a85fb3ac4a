"""Peers that take their AVX2 code on a machine with AVX-512, so that this class can be compared there.

Neither peer has a switch that all of it obeys, so copies of their packages ask for the CPU's features in vain: each
CPUID instruction of their libraries becomes UD0, which no compiler writes, and isa_cap.c, preloaded, answers the signal
that it raises like the machine would, less AVX-512, AMX and the VNNI instructions. Needs cc and objdump.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
CPUID, UD0 = b"\x0f\xa2", b"\x0f\xff"
# Libraries that choose code by CPUID; others of the packages ask for caches and cores only.
LIBRARIES = {"onnxruntime": (r"onnxruntime_pybind11_state.*\.so$",),
             "openvino": (r"libopenvino_intel_cpu_plugin\.so$", r"libopenvino\.so\.\d+$")}


def code_sections(headers):
    """(first address, size, offset in the file) of what `objdump -h -w` lists as code."""
    found = []
    for line in headers.splitlines():
        match = re.match(r"\s*\d+ \S+\s+([0-9a-f]+)\s+([0-9a-f]+)\s+[0-9a-f]+\s+([0-9a-f]+).*\bCODE\b", line)
        if match:
            size, address, offset = (int(g, 16) for g in match.groups())
            found.append((address, size, offset))
    return found


def exchange(library, addresses, sections):
    """The bytes of a library with UD0 for the CPUID instructions at these addresses. ValueError where there is none."""
    changed = bytearray(library)
    for address in addresses:
        places = [address - first + offset for first, size, offset in sections if first <= address < first + size]
        if len(places) != 1 or changed[places[0]:places[0] + 2] != CPUID:
            raise ValueError("expected a CPUID instruction at address 0x%x, found none" % address)
        changed[places[0]:places[0] + 2] = UD0
    return bytes(changed)


def cpuid_addresses(path):
    """Where the disassembler sees CPUID."""
    with subprocess.Popen(["objdump", "-d", "--no-show-raw-insn", path], stdout=subprocess.PIPE, text=True) as objdump:
        found = [int(line.split(":")[0], 16) for line in objdump.stdout if line.rstrip().endswith("\tcpuid")]
    if objdump.returncode != 0 or not found:
        raise RuntimeError("%s: objdump found no CPUID instruction" % path)
    return found


def patch(path):
    headers = subprocess.run(["objdump", "-h", "-w", path], capture_output=True, text=True, check=True).stdout
    with open(path, "rb") as file:
        library = exchange(file.read(), cpuid_addresses(path), code_sections(headers))
    with open(path, "wb") as file:
        file.write(library)


def copy_package(name, to, say):
    found = importlib.util.find_spec(name)
    if found is None:
        raise RuntimeError("%s is not installed for this interpreter: its package is what is copied and capped" % name)
    source = os.path.dirname(found.origin)
    copied = os.path.join(to, name)
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(source, copied, symlinks=True)
    for folder, _, files in os.walk(copied):
        for file in files:
            path = os.path.join(folder, file)
            if not os.path.islink(path) and any(re.match(p, file) for p in LIBRARIES[name]):
                say("capping " + file)
                patch(path)


def version(name):
    """None where the package is not installed for this interpreter."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_made(stamp, versions):
    """Whether the copies are whole and of these versions."""
    try:
        with open(stamp, encoding="utf-8") as file:
            return file.read() == versions
    except FileNotFoundError:
        return False


def prepare(work, say):
    """The environment of a capped worker; makes the copies, 400 MB, where they are missing or of other versions.
    RuntimeError where a tool or a package is."""
    site, preloaded = os.path.join(work, "capped"), os.path.join(work, "capped", "isa_cap.so")
    stamp = os.path.join(site, "ready")
    versions = ", ".join("%s %s" % (name, version(name)) for name in LIBRARIES)
    if not is_made(stamp, versions):
        missing = [tool for tool in ("cc", "objdump") if shutil.which(tool) is None]
        if missing:
            raise RuntimeError("capped peers need %s, which this machine lacks" % " and ".join(missing))
        if os.path.exists(stamp):
            os.remove(stamp)
        for name in LIBRARIES:
            copy_package(name, site, say)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", preloaded, os.path.join(HERE, "isa_cap.c")], check=True)
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(versions)
    return {"LD_PRELOAD": preloaded, "PYTHONPATH": site}
