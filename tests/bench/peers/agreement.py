"""How far an int8 form agrees with the float model in the same runtime, so that speed at lost accuracy shows."""

import os

import numpy

import forms
import models
from contest import Aoq, open_contestant

SAMPLES = 32


def compare(outputs, reference):
    """{"cosine", "argmax", "error"} of results [samples, ..., classes].

    cosine: between what distinguishes samples: the mean of the reference over the samples is taken off both.
    argmax: share of rows with the same largest element. error: root mean square over that of the reference."""
    a, b = (x.reshape(len(x), -1).astype(numpy.float64) for x in (outputs, reference))
    mean = b.mean(axis=0)
    lengths = numpy.linalg.norm(a - mean) * numpy.linalg.norm(b - mean)
    rows = [x.reshape(-1, x.shape[-1]).argmax(axis=1) for x in (outputs, reference)]
    return {"cosine": float(((a - mean) * (b - mean)).sum() / lengths) if lengths > 0 else float(a.shape == b.shape),
            "argmax": float((rows[0] == rows[1]).mean()),
            "error": float(numpy.sqrt(((a - b) ** 2).mean() / max((b ** 2).mean(), 1e-300)))}


def outputs_of(options, model, runtime, form):
    data = models.data_path(model, options.work, "check", SAMPLES, 2)
    setting = {"threads": 1, "batch": 1, "cpus": sorted(os.sched_getaffinity(0))[:1]}
    contestant = open_contestant(options, model, runtime, form, setting, data)
    to = os.path.join(options.work, "%s-%s-%s.out" % (model.name, runtime, form))
    try:
        if isinstance(contestant, Aoq):
            contestant.call("run", contestant.path, "--input", data, "-o", to + ".npz", "--threads", "1")
            return next(iter(models.load(to + ".npz").values()))
        contestant.outputs(data, to + ".npy")
        return numpy.load(to + ".npy")
    finally:
        contestant.close()


def measure(options, model, say):
    """Agreement by contestant."""
    found, floats = {}, {}
    for runtime, form in forms.contestants(model):
        say("%s: agreement of %s/%s" % (model.name, runtime, form))
        outputs = outputs_of(options, model, runtime, form)
        if form == "f32":
            floats[runtime] = outputs
        # The float runtimes are compared with onnxruntime's, the int8 forms with their own runtime's.
        reference = floats.get("onnxruntime", outputs) if form == "f32" else floats[runtime]
        found[runtime + "/" + form] = compare(outputs, reference)
    if "aoq/f32" in found:
        found["aoq/f32"] = compare(floats["aoq"], floats["onnxruntime"])
    return found
