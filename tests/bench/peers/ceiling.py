"""How much of the machine's peak aoq's layers reach: `aoq bench --per-op` beside what machine_probe measured."""

import json
import os
import subprocess

from page import number, table

# The instruction mix that kernels of a class are made of, best first, by what they multiply.
MIXES = {"int8": ("vpdpbusd zmm", "vpdpbusd ymm", "vpmaddubsw+vpmaddwd+vpaddd ymm", "vpmaddwd+vpaddd ymm"),
         "f32": ("vfmadd231ps zmm", "vfmadd231ps ymm")}
ONLY_WITH = {"vpdpbusd zmm": "avx512_vnni", "vpdpbusd ymm": "avx_vnni", "vfmadd231ps zmm": "avx512_vnni"}


def probe(build, cpus):
    """What machine_probe prints, or None where it was not built."""
    program = os.path.join(build, "tests/bench/machine_probe")
    if not os.path.exists(program):
        return None
    done = subprocess.run([program], capture_output=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
    return json.loads(done.stdout)


def kind_of(kernel):
    """What the kernel multiplies, by its name: codes or floats."""
    is_codes = "_s8" in kernel or "_u8" in kernel or kernel.startswith(("q", "linear_dynamic"))
    return "int8" if is_codes else "f32"


def peak(machine, isa, kind, threads):
    """GMAC/s of the mix that kernels of this kind use on this many cores; None where it was not measured."""
    for mix in MIXES[kind]:
        if mix in machine["gmac_per_s"] and ONLY_WITH.get(mix, isa) == isa:
            if threads == machine["threads"]:
                return machine["gmac_per_s_all"][mix]
            return machine["gmac_per_s"][mix] * threads
    return None


def measure(options, model, machine, isa, threads, batch, say):
    """One entry for each of aoq's forms: the whole run, and its ops with "peak" and "share"."""
    import contest
    import forms
    import models

    cpus = sorted(os.sched_getaffinity(0))[:threads]
    setting = {"threads": threads, "batch": batch, "cpus": cpus}
    data = models.data_path(model, options.work, "timed", batch, 3)
    entries = []
    for runtime, form in forms.contestants(model):
        if runtime != "aoq":
            continue
        path = forms.path_of(model, runtime, form, options.work)
        if not os.path.exists(path):
            continue
        say("%s: the layers of aoq/%s, %d threads" % (model.name, form, threads))
        aoq = contest.Aoq(options.aoq, path, data, setting)
        said = aoq.call("bench", aoq.path, "--input", data, "--per-op", "--seconds", "2", *aoq.run_arguments())
        for op in said["ops"]:
            limit = peak(machine, isa, kind_of(op["kernel"]), threads) if op["macs"] else None
            op["peak"], op["share"] = limit, op["gmac_per_s"] / limit if limit else None
        entries.append({"model": model.name, "form": form, "threads": threads, "batch": batch,
                        "whole_ms": said["median_ms"], "sum_ms": said["sum_ms"], "ops": said["ops"]})
    return entries


def floor_us(op):
    """The time that the op's products would take at the peak."""
    return op["macs"] / op["peak"] * 1e-3 if op["peak"] else 0.0


def summary_row(entry):
    ops = entry["ops"]
    floor = sum(map(floor_us, ops))
    products = sum(op["median_us"] for op in ops if op["macs"])
    total = sum(op["median_us"] for op in ops)
    return ["%(model)s %(form)s, %(threads)d x %(batch)d" % entry, number(sum(op["macs"] for op in ops) * 1e-9),
            number(entry["whole_ms"]), number(entry["sum_ms"]), "%.2f" % (entry["whole_ms"] / entry["sum_ms"]),
            "%.0f %%" % (100 * floor / total if total else 0),
            "%.0f %%" % (100 * floor / products if products else 0),
            "%.0f %%" % (100 * (1 - products / total if total else 0))]


def slowest(entry, count=10):
    """The ops that are farthest above their floor."""
    ops = sorted(entry["ops"], key=lambda op: floor_us(op) - op["median_us"])[:count]
    rows = [["%(model)s %(form)s, %(threads)d x %(batch)d: name" % entry, "op", "kernel", "us", "alone us", "GMAC/s",
             "share of peak", "above the floor, us"]]
    for op in ops:
        rows.append([op["name"], op["op"], op["kernel"], number(op["median_us"]), number(op["alone_us"]),
                     number(op["gmac_per_s"]) if op["macs"] else "-",
                     "%.0f %%" % (100 * op["share"]) if op["share"] else "-", number(op["median_us"] - floor_us(op))])
    return table(rows, texts=3)


def page(entries):
    head = [["model, threads x batch", "GMAC", "whole ms", "sum ms", "whole / sum", "share of peak, all ops",
             "share of peak, products only", "time without products"]]
    said = ("Medians of every op within the run; whole: the median of a run without a clock at its ops. Peaks are the "
            "machine's, for the instruction mix of the kernel's kind.")
    return "\n\n".join([said, table(head + [summary_row(e) for e in entries])] + [slowest(e) for e in entries])
