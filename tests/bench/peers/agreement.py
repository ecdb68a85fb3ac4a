"""How far an int8 form agrees with the float model in the same runtime, so that speed at lost accuracy shows."""

import os

import numpy

import forms
import models
from contest import Aoq, PeerError, open_contestant

SAMPLES = 32
FLOAT_FORMS = ("f32", "fused")


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
    """Agreement by contestant: int8 forms with the float results of their runtime, those with onnxruntime's."""
    outputs = {}
    for runtime, form in forms.contestants(model):
        say("%s: results of %s/%s" % (model.name, runtime, form))
        try:
            outputs[runtime, form] = outputs_of(options, model, runtime, form)
        except PeerError as problem:
            say("%s %s/%s gives no results: %s" % (model.name, runtime, form, problem))
    found = {}
    for (runtime, form), result in outputs.items():
        against = "onnxruntime" if form in FLOAT_FORMS else runtime
        if (against, "f32") in outputs:
            found[runtime + "/" + form] = compare(result, outputs[against, "f32"])
    return found
