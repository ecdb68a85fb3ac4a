"""The tables in Markdown, and their place between two markers of a page."""

import math
import os

import stats

FLOAT = {"aoq": ("f32",), "onnxruntime": ("f32", "fused"), "openvino": ("f32",)}
INT8 = {"aoq": ("static", "tuned", "dynamic"), "onnxruntime": ("qdq", "exact", "dynamic"), "openvino": ("qdq",)}
CLOSE = 0.95  # the least cosine of a form that has not lost its accuracy
PEERS = ("onnxruntime", "openvino")


def replace_marked(text, body, name="benchmark"):
    """`text` with `body` between the markers of this name. ValueError where they do not stand there once, in order."""
    begin, end = "<!-- %s begin -->" % name, "<!-- %s end -->" % name
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError("expected one %s before one %s" % (begin, end))
    before, rest = text.split(begin)
    return before + begin + "\n" + body.strip("\n") + "\n" + end + rest.split(end)[1]


def write_page(path, body, name="benchmark"):
    """Replaces the file whole or not at all."""
    with open(path, encoding="utf-8") as file:
        text = replace_marked(file.read(), body, name)
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".part", path)


def table(rows, texts=1):
    """The first row is the heading; the first `texts` columns are text, the others are numbers."""
    lines = ["| " + " | ".join(str(c).replace("|", "\\|") for c in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join(["---"] * texts + ["---:"] * (len(rows[0]) - texts)) + "|"] + lines[1:])


def number(value, digits=3):
    """So many significant digits without an exponent, but no more than four behind the point; a dash for None."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return "%.*f" % (min(max(decimals, 0), 4), value)


def agrees(record, agreements):
    """Whether the form's results are close to the float model's; so where that was not measured."""
    found = agreements.get(record["model"], {}).get(record["contestant"])
    return found is None or found["cosine"] >= CLOSE


def milliseconds(record, agreements):
    """The best time, with the form where a runtime has several of its kind, and a star where accuracy was lost."""
    if record is None:
        return "-"
    runtime, form = record["contestant"].split("/")
    named = form != "f32" and runtime != "openvino"
    star = "" if agrees(record, agreements) else " \\*"
    return number(record["best_ms"]) + (" " + form if named else "") + star


def times_as_fast(record, against):
    return "-" if record is None or against is None else "%.2f" % stats.ratio(record, against)


def speed_table(records, agreements):
    """Best times in ms; the last columns are medians of ratios within a round."""
    rows = [["model, threads x batch", "aoq f32", "onnxruntime f32", "OpenVINO f32", "aoq int8", "onnxruntime int8",
             "OpenVINO int8", "f32: aoq to the best peer", "int8: aoq to the best peer",
             "int8: to the best peer without \\*", "aoq: int8 to f32"]]
    for (model, threads, batch), group in stats.groups(records).items():
        floats = [stats.pick(group, r, *FLOAT[r]) for r in FLOAT]
        integers = [stats.pick(group, r, *INT8[r]) for r in INT8]
        best = [stats.fastest([r for r in found[1:] if r is not None]) for found in (floats, integers)]
        close = [r for r in group if agrees(r, agreements)]
        best.append(stats.fastest([r for r in (stats.pick(close, p, *INT8[p]) for p in PEERS) if r is not None]))
        times = [milliseconds(r, agreements) for r in floats + integers]
        rows.append(["%s, %d x %d" % (model, threads, batch)] + times +
                    [times_as_fast(floats[0], best[0]), times_as_fast(integers[0], best[1]),
                     times_as_fast(integers[0], best[2]), times_as_fast(integers[0], floats[0])])
    return table(rows)


def agreement_table(agreements):
    """`agreements`: model -> contestant -> what agreement.compare gives."""
    columns = [r + "/" + f for r in INT8 for f in INT8[r]]
    rows = [["model"] + columns]
    for model, found in agreements.items():
        cells = [found.get(c) for c in columns]
        rows.append([model] + ["-" if c is None else "%.4f (%.0f %%)" % (c["cosine"], 100 * c["argmax"])
                               for c in cells])
    return table(rows)


def cost_table(records, costs):
    """Loading and memory with one thread (or the fewest measured) and one sample, and the files."""
    rows = [["model, contestant", "load ms", "first run ms", "memory MB", "file MB", "made in s"]]
    least = min(((r["threads"], r["batch"]) for r in records), default=None)
    for r in records:
        if (r["threads"], r["batch"]) != least:
            continue
        cost = costs.get(r["model"], {}).get(r["contestant"], {})
        size = cost["bytes"] / 1e6 if "bytes" in cost else None
        rows.append(["%s, %s" % (r["model"], r["contestant"]), number(r.get("load_ms")), number(r.get("first_ms")),
                     number(r.get("rss_mb")), number(size), number(cost.get("seconds"))])
    return table(rows)


def summary(records):
    """Sentences on the geometric means."""
    lines = []
    for threads, batch in sorted({(r["threads"], r["batch"]) for r in records}):
        group = [r for r in records if (r["threads"], r["batch"]) == (threads, batch)]
        parts = []
        for what, forms in (("float", FLOAT), ("int8", INT8)):
            for peer in PEERS:
                ratios = []
                for one in stats.groups(group).values():
                    ours, theirs = stats.pick(one, "aoq", *forms["aoq"]), stats.pick(one, peer, *forms[peer])
                    if ours is not None and theirs is not None:
                        ratios.append(stats.ratio(ours, theirs))
                if ratios:
                    parts.append("%s %.2f times %s" % (what, stats.geometric_mean(ratios), peer))
        if parts:
            lines.append("- %d thread%s, batch %d: %s" % (threads, "s" if threads > 1 else "", batch, ", ".join(parts)))
    return "\n".join(lines)


def body(results, plot):
    """What stands between the markers. `plot`: the picture's path from the page."""
    records = results["records"]
    weights = ", ".join("%s %s" % m for m in results["weights"].items())
    # What a model with random weights finds has no meaning that could be lost.
    judged = {m: found for m, found in results["agreement"].items() if results["weights"][m] == "trained"}
    return "\n\n".join([
        "%s, kernel class %s%s. %s." % (results["cpu"], results["isa"],
                                        ", of which no runtime sees more" if results.get("capped") else "",
                                        ", ".join("%s %s" % v for v in results["versions"].items())),
        "Command: `%s`" % results["command"],
        "aoq's speed, as a geometric mean over the models of medians of ratios taken in turns:",
        summary(records),
        "![Speed of the int8 and float models](%s)" % plot,
        "Best time in ms; int8 is the fastest form of each runtime (tuned: int8 or float by op, as measured). "
        "Ratios above 1: aoq is faster. \\*: a trained model lost accuracy, the cosine below is less than %g." % CLOSE,
        speed_table(records, judged),
        "Agreement of the int8 forms with the same runtime's float results: cosine of what distinguishes %d samples "
        "(rows with the same largest element). Weights: %s." % (results["samples"], weights),
        agreement_table(results["agreement"])])


def full(results, plot):
    """The whole account: also what loading and making cost, the machine, the kernels and the layers."""
    parts = ["# aoq and its peers", body(results, plot), "## Costs",
             "Memory: of the whole process for aoq, growth from import to the first run for the others. Library sizes "
             "in MB: %s." % ", ".join("%s %s" % (n, number(b / 1e6)) for n, b in results["libraries"].items()),
             cost_table(results["records"], results["costs"])]
    if results.get("probe"):
        parts += ["## The machine", probe_table(results["probe"])]
    parts += ["## Kernels", kernel_table(results["records"])]
    if results.get("layers"):
        import ceiling
        parts += ["## Layers of aoq", ceiling.page(results["layers"])]
    return "\n\n".join(parts) + "\n"


def kernel_table(records):
    rows, seen = [["model, contestant", "kernels (nodes)"]], set()
    for r in records:
        name = "%s, %s" % (r["model"], r["contestant"])
        if name in seen or not r.get("kernels"):
            continue
        seen.add(name)
        counted = sorted(r["kernels"].items(), key=lambda k: -k[1])
        rows.append([name, ", ".join("%s (%d)" % k for k in counted[:12])])
    return table(rows, texts=2)


def probe_table(probe):
    rows = [["what", "value"]]
    rows += [["%s, GMAC/s of one core" % n, number(v)] for n, v in probe["gmac_per_s"].items()]
    rows += [["reading %s, GB/s of one core" % n, number(v)] for n, v in probe["read_gb_per_s"].items()]
    rows += [["fork and join of %d threads, us: median, 99 of 100" % f["threads"],
              "%s, %s" % (number(f["p50_us"]), number(f["p99_us"]))] for f in probe["fork_join"]]
    rows.append(["a node without work, ns", number(probe["dispatch_ns_per_node"])])
    return table(rows)
