"""The forms in which a model is run, made once and kept with what making them cost.

usage: forms.py MODEL FORM WORK   makes one form of a peer in a process of its own and prints its cost as JSON

    f32      the float ONNX file, as it is (aoq: compiled)
    static   aoq: calibrated int8
    tuned    aoq: the same, with int8 or float for each op as `aoq tune` measured it on one thread of this machine
    fused    onnxruntime: the float model with attention and its like as single nodes
    dynamic  aoq and onnxruntime: linear layers, activations quantized while the model runs
    qdq      onnxruntime's static quantizer: u8 activations, s8 weights per channel, QuantizeLinear/DequantizeLinear
"""

import json
import os
import resource
import subprocess
import sys
import time

import models

CALIBRATION_SAMPLES = 16


def contestants(model):
    """(runtime, form): the form names the session option in "exact"."""
    wanted = [("aoq", "f32"), ("aoq", "static"), ("aoq", "tuned"), ("onnxruntime", "f32"), ("onnxruntime", "qdq"),
              ("onnxruntime", "exact"), ("openvino", "f32"), ("openvino", "qdq")]
    if model.heads:
        wanted[3:3] = [("aoq", "dynamic")]
        wanted[5:5] = [("onnxruntime", "fused"), ("onnxruntime", "dynamic")]
    return wanted


def path_of(model, runtime, form, work):
    if runtime == "aoq":
        isa = os.environ.get("AOQ_CPU_CLASS", "")  # another class has other layouts
        return os.path.join(work, "models", "%s-%s%s.aoq" % (model.name, form, isa and "-" + isa))
    name = {"f32": "", "exact": "-qdq"}.get(form, "-" + form)
    return os.path.join(work, "models", model.name + name + ".onnx")


def calibration(model, work):
    return models.data_path(model, work, "calibration", CALIBRATION_SAMPLES, 1)


def compile_aoq(aoq, model, form, work):
    """Compiles anew whenever the program is newer than the file."""
    out = path_of(model, "aoq", form, work)
    if os.path.exists(out + ".json") and os.path.getmtime(out + ".json") > os.path.getmtime(aoq):
        return read_cost(out)
    source, calibrated = models.float_path(model, work), ["--calibrate", calibration(model, work)]
    flags = {"f32": [], "static": calibrated, "tuned": calibrated + ["--tuning", out + ".tuning.json"],
             "dynamic": ["--quantize", "dynamic"]}[form]
    start = time.monotonic()
    if form == "tuned":
        call([aoq, "tune", source, "-o", out + ".tuning.json", "--threads", "1", "--json", *calibrated])
    call([aoq, "compile", source, "-o", out, "--cpu", "native", "--json", *flags])
    return write_cost(out, time.monotonic() - start)


def call(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError("%s: %s" % (" ".join(command), done.stderr.strip()))


def make_peer(model, form, work):
    out = path_of(model, "onnxruntime", form, work)
    if os.path.exists(out + ".json"):
        return read_cost(out)
    models.float_path(model, work), calibration(model, work)
    with open(os.path.join(work, "quantize.log"), "a", encoding="utf-8") as log:
        subprocess.run([sys.executable, __file__, model.name, form, work], check=True, stdout=log, stderr=log)
    return read_cost(out)


def write_cost(path, seconds):
    cost = {"seconds": seconds, "bytes": os.path.getsize(path)}
    with open(path + ".json", "w", encoding="utf-8") as file:
        json.dump(cost, file)
    return cost


def read_cost(path):
    with open(path + ".json", encoding="utf-8") as file:
        return json.load(file)


def prepare(aoq, model, runtime, form, work):
    """Makes the file of a contestant where it is missing: {"seconds", "bytes"}."""
    if runtime == "aoq":
        return compile_aoq(aoq, model, form, work)
    if form == "f32":
        return {"seconds": 0.0, "bytes": os.path.getsize(models.float_path(model, work))}
    return make_peer(model, "qdq" if form == "exact" else form, work)


class Reader:
    """Feeds calibration samples one by one."""

    def __init__(self, arrays):
        count = len(next(iter(arrays.values())))
        self.samples = iter([{n: a[i:i + 1] for n, a in arrays.items()} for i in range(count)])

    def get_next(self):
        return next(self.samples, None)


def quantize_static(model, source, out, work):
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    clean = out + ".clean"
    quant_pre_process(source, clean, skip_symbolic_shape=True)
    reader = type("CalibrationReader", (Reader, q.CalibrationDataReader), {})(models.load(calibration(model, work)))
    q.quantize_static(clean, out, reader, quant_format=q.QuantFormat.QDQ, activation_type=q.QuantType.QUInt8,
                      weight_type=q.QuantType.QInt8, per_channel=True,
                      op_types_to_quantize=list(model.quantized_ops) or None)
    os.remove(clean)


def fuse(model, source, out):
    """Attention and its like as single nodes, which onnxruntime's session does not find by itself in every graph."""
    import onnx
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.onnx_model_bert import BertOnnxModel

    fused = BertOnnxModel(onnx.load(source), model.heads, model.hidden)
    fused.optimize(FusionOptions("bert"))
    fused.save_model_to_file(out)


def quantize_dynamic(model, source, out):
    import onnx
    from onnxruntime import quantization as q

    fuse(model, source, out + ".fused")
    q.quantize_dynamic(out + ".fused", out, weight_type=q.QuantType.QInt8, per_channel=True,
                       extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})
    os.remove(out + ".fused")


def main():
    model, form, work = models.MODELS[sys.argv[1]], sys.argv[2], sys.argv[3]
    source, out = models.float_path(model, work), path_of(model, "onnxruntime", form, work)
    start = time.monotonic()
    if form == "qdq":
        quantize_static(model, source, out, work)
    else:
        {"fused": fuse, "dynamic": quantize_dynamic}[form](model, source, out)
    print(write_cost(out, time.monotonic() - start), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()
