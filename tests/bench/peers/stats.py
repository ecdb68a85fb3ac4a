"""Medians of what was measured in turns. A record is one contestant: {"contestant", "rounds": [ms], "best_ms", ...}."""

import statistics


def ratio(record, against):
    """How many times as fast `record` is: the median over rounds of against's time over record's. None without rounds
    in common."""
    pairs = zip(record["rounds"], against["rounds"])
    ratios = [b / a for a, b in pairs if a > 0]
    return statistics.median(ratios) if ratios else None


def fastest(records):
    """The record with the smallest median; None of none."""
    return min(records, key=lambda r: statistics.median(r["rounds"]), default=None)


def groups(records):
    """Records by (model, threads, batch), in the order in which they came."""
    found = {}
    for r in records:
        found.setdefault((r["model"], r["threads"], r["batch"]), []).append(r)
    return found


def pick(records, runtime, *forms):
    """The fastest record of a runtime in one of the forms."""
    return fastest([r for r in records if r["contestant"] in [runtime + "/" + f for f in forms]])


def geometric_mean(values):
    """None of none."""
    return statistics.geometric_mean(values) if values else None
