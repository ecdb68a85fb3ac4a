"""A bar chart as SVG: for each model, how many times as fast as onnxruntime's float model every runtime is."""

from xml.sax.saxutils import escape

import stats
from page import FLOAT, INT8

COLOURS = {"aoq": ("#9ec5f0", "#1f6fd0"), "onnxruntime": ("#f3c99b", "#d9771f"), "openvino": ("#b5d8b0", "#3d9440")}
LEFT, WIDTH, BAR, GAP, TOP = 150, 560, 13, 16, 64


def bars_of(group):
    """(label, colour, ratio) of one model: float, then the fastest int8 form, of every runtime."""
    base = stats.pick(group, "onnxruntime", "f32")
    bars = []
    for runtime, forms in INT8.items():
        for kind, wanted in enumerate((FLOAT[runtime], forms)):
            record = stats.pick(group, runtime, *wanted)
            if record is None or base is None:
                continue
            form = record["contestant"].split("/")[1]
            bars.append(("%s %s" % (runtime, form), COLOURS[runtime][kind], stats.ratio(record, base)))
    return bars


def scale_steps(largest):
    """Round numbers for the axis, up to at least `largest`."""
    step = next(s for s in (0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 1e6) if largest / s <= 8)
    count = int(-(-largest // step))
    return [step * i for i in range(max(count, 1) + 1)]


def text(x, y, words, size=11, anchor="start", weight="normal"):
    return '<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" font-weight="%s">%s</text>' % (
        x, y, size, anchor, weight, escape(words))


def draw(records, title):
    """The picture of the records of one number of threads and one batch size."""
    charts = [(key[0], bars_of(group)) for key, group in stats.groups(records).items()]
    charts = [(name, bars) for name, bars in charts if bars]
    steps = scale_steps(max((r for _, bars in charts for _, _, r in bars), default=1))
    unit, y, parts = WIDTH / steps[-1], TOP, []
    for name, bars in charts:
        parts.append(text(LEFT - 8, y + len(bars) * BAR / 2 + 4, name, 12, "end", "bold"))
        for label, colour, ratio in bars:
            parts.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (
                LEFT, y, ratio * unit, BAR - 2, colour))
            parts.append(text(LEFT + ratio * unit + 4, y + BAR - 4, "%.2f  %s" % (ratio, label), 10))
            y += BAR
        y += GAP
    grid = []
    for s in steps:
        grid.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#c8c8c8" stroke-width="%s"/>' % (
            LEFT + s * unit, TOP - 6, LEFT + s * unit, y - GAP, 2 if s == 1 else 1))
        grid.append(text(LEFT + s * unit, TOP - 10, "%g" % s, 11, "middle"))
    width = LEFT + WIDTH + 170
    head = ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
            'font-family="sans-serif" fill="#222222">' % (width, y, width, y))
    background = '<rect width="100%" height="100%" fill="#ffffff"/>'
    caption = [text(12, 22, title, 14, weight="bold"),
               text(12, 38, "Times as fast as onnxruntime's float model; pale: float, full: the fastest int8 form.")]
    return "\n".join([head, background, *caption, *grid, *parts, "</svg>"]) + "\n"
