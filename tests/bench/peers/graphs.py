"""Convolutional networks as ONNX graphs: float, opset 17, batch normalisation folded, `batch` as the one symbol."""

import math

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE = ["batch", 3, 224, 224]


class GraphBuilder:
    """Nodes and initializers in order; a value is its name."""

    def __init__(self, name):
        self.name, self.nodes, self.initializers = name, [], []

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(numpy.ascontiguousarray(array), name))
        return name

    def node(self, op, inputs, outputs=None, **attributes):
        outputs = outputs or ["%s_%d" % (op.lower(), len(self.nodes))]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0] + "/" + op, **attributes))
        return outputs[0]

    def conv(self, x, name, weight, bias, stride=1, pads=None, groups=1):
        """`weight` [out, in / groups, k, k]; without `pads` the result has the size of x over the stride."""
        k = weight.shape[2]
        pads = pads or [k // 2] * 4
        inputs = [x, self.constant(name + ".weight", weight), self.constant(name + ".bias", bias)]
        return self.node("Conv", inputs, [name], kernel_shape=[k, k], strides=[stride] * 2, pads=pads, group=groups)

    def relu6(self, x):
        if not any(i.name == "six" for i in self.initializers):
            self.constant("zero", numpy.float32(0))
            self.constant("six", numpy.float32(6))
        return self.node("Clip", [x, "zero", "six"])

    def classifier(self, x, weight, bias):
        """The mean over height and width, then a linear layer; `weight` [classes, channels]."""
        x = self.node("GlobalAveragePool", [x])
        x = self.node("Flatten", [x], axis=1)
        inputs = [x, self.constant("classifier.weight", weight), self.constant("classifier.bias", bias)]
        return self.node("Gemm", inputs, ["logits"], transB=1)

    def model(self, inputs, outputs):
        """`inputs` and `outputs`: (name, element type, shape)."""
        graph = helper.make_graph(self.nodes, self.name, [helper.make_tensor_value_info(*i) for i in inputs],
                                  [helper.make_tensor_value_info(*o) for o in outputs], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model

    def image_model(self):
        return self.model([("image", TensorProto.FLOAT, IMAGE)], [("logits", TensorProto.FLOAT, ["batch", 1000])])


class RandomWeights:
    """He's normal weights: a layer behind a ReLU keeps the second moment of its input."""

    def __init__(self, seed):
        self.rng = numpy.random.default_rng(seed)

    def normal(self, shape, deviation):
        return (self.rng.standard_normal(shape, dtype=numpy.float32) * deviation).astype(numpy.float32)

    def conv(self, outputs, inputs, k, gain=1.0):
        return self.normal((outputs, inputs, k, k), gain * math.sqrt(2 / (inputs * k * k)))

    def bias(self, n):
        return self.normal((n,), 0.05)


def resnet50():
    """ResNet-50 with the stride in the 3x3 convolution. The last convolution of a block is small, so that sixteen sums
    do not grow."""
    g, w = GraphBuilder("resnet50"), RandomWeights(50)
    x = g.conv("image", "stem", w.conv(64, 3, 7), w.bias(64), 2, [3] * 4)
    x = g.node("Relu", [x])
    x = g.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            name, skip = "stage%d.%d" % (stage + 1, block), x
            y = g.node("Relu", [g.conv(x, name + ".conv1", w.conv(width, channels, 1), w.bias(width))])
            y = g.node("Relu", [g.conv(y, name + ".conv2", w.conv(width, width, 3), w.bias(width), stride)])
            y = g.conv(y, name + ".conv3", w.conv(4 * width, width, 1, 0.4), w.bias(4 * width))
            if block == 0:
                skip = g.conv(x, name + ".skip", w.conv(4 * width, channels, 1, 0.7), w.bias(4 * width), stride)
            x, channels = g.node("Relu", [g.node("Add", [y, skip])]), 4 * width
    g.classifier(x, w.normal((1000, channels), math.sqrt(1 / channels)), w.bias(1000))
    return g.image_model()


def fold(tensors, conv, norm, epsilon):
    """The weight and bias of a convolution with the batch normalisation behind it."""
    scale = tensors[norm + ".weight"] / numpy.sqrt(tensors[norm + ".running_var"] + numpy.float32(epsilon))
    bias = tensors[norm + ".bias"] - tensors[norm + ".running_mean"] * scale
    weight = tensors[conv + ".weight"] * scale.reshape(-1, 1, 1, 1)
    return weight.astype(numpy.float32), bias.astype(numpy.float32)


def mobilenet_v2(tensors):
    """`tensors`: torchvision's names."""
    g = GraphBuilder("mobilenet_v2")

    def layer(x, conv, norm, stride=1, groups=1, activation=True):
        weight, bias = fold(tensors, conv, norm, 1e-5)
        x = g.conv(x, conv, weight, bias, stride, None, groups)
        return g.relu6(x) if activation else x

    x = layer("image", "features.0.0", "features.0.1", 2)
    for i in range(1, 18):
        name, skip = "features.%d.conv." % i, x
        last = 1 if i == 1 else 2
        if i > 1:
            x = layer(x, name + "0.0", name + "0.1")
        depthwise = name + "%d.0" % (last - 1)
        groups = tensors[depthwise + ".weight"].shape[0]
        stride = 2 if i in (2, 4, 7, 14) else 1
        x = layer(x, depthwise, name + "%d.1" % (last - 1), stride, groups)
        x = layer(x, name + str(last), name + str(last + 1), activation=False)
        if i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16):
            x = g.node("Add", [skip, x])
    x = layer(x, "features.18.0", "features.18.1")
    g.classifier(x, tensors["classifier.1.weight"], tensors["classifier.1.bias"])
    return g.image_model()


def efficientnet_lite0(tensors):
    """`tensors`: the names of efficientnet_lite_pytorch. Strided layers are padded as TensorFlow does, more at
    the end."""
    g = GraphBuilder("efficientnet_lite0")

    def layer(x, conv, norm, stride=1, groups=1, activation=True):
        weight, bias = fold(tensors, conv, norm, 1e-3)
        total = weight.shape[2] - stride if stride > 1 else weight.shape[2] - 1
        before = total // 2
        x = g.conv(x, conv, weight, bias, stride, [before, before, total - before, total - before], groups)
        return g.relu6(x) if activation else x

    x = layer("image", "_conv_stem", "_bn0", 2)
    channels = 32
    for i in range(16):
        name, skip = "_blocks.%d." % i, x
        stride = 2 if i in (1, 3, 5, 11) else 1
        if name + "_expand_conv.weight" in tensors:
            x = layer(x, name + "_expand_conv", name + "_bn0")
        groups = tensors[name + "_depthwise_conv.weight"].shape[0]
        x = layer(x, name + "_depthwise_conv", name + "_bn1", stride, groups)
        x = layer(x, name + "_project_conv", name + "_bn2", activation=False)
        before, channels = channels, tensors[name + "_project_conv.weight"].shape[0]
        if stride == 1 and before == channels:
            x = g.node("Add", [x, skip])
    x = layer(x, "_conv_head", "_bn1")
    g.classifier(x, tensors["_fc.weight"], tensors["_fc.bias"])
    return g.image_model()
