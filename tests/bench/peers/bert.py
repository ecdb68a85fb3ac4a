"""A BERT encoder as an ONNX graph, spelled as exporters spell it: MatMul + Add, Erf GELU, LayerNormalization."""

import math

import numpy
from onnx import TensorProto

from graphs import GraphBuilder, RandomWeights

SEQUENCE = 128


def random_tensors(hidden, layers, intermediate, vocabulary=30522, seed=11):
    """Weights with the deviation that BERT's training starts from, under the names of Hugging Face's BertModel."""
    w = RandomWeights(seed)
    tensors = {}

    def linear(name, outputs, inputs):
        tensors[name + ".weight"] = w.normal((outputs, inputs), 1 / math.sqrt(inputs))
        tensors[name + ".bias"] = w.bias(outputs)

    def norm(name):
        tensors[name + ".weight"] = 1 + w.bias(hidden)
        tensors[name + ".bias"] = w.bias(hidden)

    for name, rows in (("word", vocabulary), ("position", 512), ("token_type", 2)):
        tensors["embeddings.%s_embeddings.weight" % name] = w.normal((rows, hidden), 0.5)
    norm("embeddings.LayerNorm")
    for i in range(layers):
        name = "encoder.layer.%d." % i
        for part in ("query", "key", "value"):
            linear(name + "attention.self." + part, hidden, hidden)
        linear(name + "attention.output.dense", hidden, hidden)
        norm(name + "attention.output.LayerNorm")
        linear(name + "intermediate.dense", intermediate, hidden)
        linear(name + "output.dense", hidden, intermediate)
        norm(name + "output.LayerNorm")
    return tensors


class Encoder:
    def __init__(self, name, tensors, heads):
        self.g, self.tensors, self.heads = GraphBuilder(name), tensors, heads
        self.hidden = tensors["embeddings.LayerNorm.weight"].shape[0]
        self.layers = sum(n.endswith("intermediate.dense.weight") for n in tensors)
        self.g.constant("split", numpy.array([0, 0, heads, self.hidden // heads], numpy.int64))
        self.g.constant("join", numpy.array([0, 0, self.hidden], numpy.int64))

    def linear(self, x, name):
        weight = self.g.constant(name + ".weight", self.tensors[name + ".weight"].T)
        bias = self.g.constant(name + ".bias", self.tensors[name + ".bias"])
        return self.g.node("Add", [self.g.node("MatMul", [x, weight], [name + ".product"]), bias], [name])

    def norm(self, x, name):
        weight = self.g.constant(name + ".weight", self.tensors[name + ".weight"])
        bias = self.g.constant(name + ".bias", self.tensors[name + ".bias"])
        return self.g.node("LayerNormalization", [x, weight, bias], [name], axis=-1, epsilon=1e-12)

    def scalar(self, name, value):
        if not any(i.name == name for i in self.g.initializers):
            self.g.constant(name, numpy.float32(value))
        return name

    def embeddings(self):
        g = self.g
        words = g.constant("words", self.tensors["embeddings.word_embeddings.weight"])
        rest = self.tensors["embeddings.position_embeddings.weight"][:SEQUENCE]
        rest = rest + self.tensors["embeddings.token_type_embeddings.weight"][0]
        x = g.node("Gather", [words, "input_ids"], axis=0)
        x = g.node("Add", [x, g.constant("positions", rest[None].astype(numpy.float32))])
        return self.norm(x, "embeddings.LayerNorm")

    def mask(self):
        """0 where a token counts, -10000 where it does not: [batch, 1, 1, SEQUENCE]."""
        g = self.g
        x = g.node("Unsqueeze", ["attention_mask", g.constant("axis1", numpy.array([1], numpy.int64))])
        x = g.node("Unsqueeze", [x, g.constant("axis2", numpy.array([2], numpy.int64))])
        x = g.node("Cast", [x], to=TensorProto.FLOAT)
        x = g.node("Sub", [self.scalar("one", 1), x])
        return g.node("Mul", [x, self.scalar("minus_much", -10000)])

    def attention(self, x, mask, name):
        g = self.g
        query, key, value = (g.node("Reshape", [self.linear(x, name + "self." + part), "split"])
                             for part in ("query", "key", "value"))
        query, value = (g.node("Transpose", [v], perm=[0, 2, 1, 3]) for v in (query, value))
        key = g.node("Transpose", [key], perm=[0, 2, 3, 1])
        scores = g.node("MatMul", [query, key], [name + "scores"])
        scores = g.node("Div", [scores, self.scalar("root", math.sqrt(self.hidden // self.heads))])
        weights = g.node("Softmax", [g.node("Add", [scores, mask])], axis=-1)
        y = g.node("Transpose", [g.node("MatMul", [weights, value], [name + "mix"])], perm=[0, 2, 1, 3])
        y = self.linear(g.node("Reshape", [y, "join"]), name + "output.dense")
        return self.norm(g.node("Add", [y, x]), name + "output.LayerNorm")

    def feed_forward(self, x, name):
        g = self.g
        y = self.linear(x, name + "intermediate.dense")
        erf = g.node("Erf", [g.node("Div", [y, self.scalar("root_two", math.sqrt(2))])])
        y = g.node("Mul", [g.node("Mul", [y, g.node("Add", [erf, self.scalar("one", 1)])]), self.scalar("half", 0.5)])
        y = self.linear(y, name + "output.dense")
        return self.norm(g.node("Add", [y, x]), name + "output.LayerNorm")

    def model(self):
        x, mask = self.embeddings(), self.mask()
        for i in range(self.layers):
            name = "encoder.layer.%d." % i
            x = self.feed_forward(self.attention(x, mask, name + "attention."), name)
        self.g.node("Identity", [x], ["hidden"])
        ids = ["batch", SEQUENCE]
        return self.g.model([(n, TensorProto.INT64, ids) for n in ("input_ids", "attention_mask")],
                            [("hidden", TensorProto.FLOAT, ["batch", SEQUENCE, self.hidden])])


def encoder(name, tensors, heads):
    """ids and mask, int64 [batch, SEQUENCE], to hidden states [batch, SEQUENCE, hidden]."""
    return Encoder(name, tensors, heads).model()
