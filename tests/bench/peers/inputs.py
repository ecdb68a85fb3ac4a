"""What the models are fed: made from seeds or from the files of this repository, the same on every machine."""

import os

import numpy

from bert import SEQUENCE

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))


def photographs(count, seed):
    """Float [count, 3, 224, 224]: smooth random fields with the spectrum of photographs (1 / frequency), normalised as
    ImageNet's images are, with a mean and a contrast of its own for each."""
    rng = numpy.random.default_rng(seed)
    fy, fx = numpy.fft.fftfreq(224)[:, None], numpy.fft.rfftfreq(224)[None]
    amplitude = 1 / numpy.maximum(numpy.hypot(fy, fx), 1 / 224)
    images = []
    for _ in range(count):
        shape = (4, 224, 113)
        spectrum = amplitude * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
        fields = numpy.fft.irfft2(spectrum, (224, 224))
        fields = fields[:3] + 2 * fields[3]  # the channels of a photograph agree for the most part
        fields = fields / fields.std() * rng.uniform(0.5, 1.2) + rng.uniform(-0.8, 0.8)
        images.append(numpy.clip(fields, -2.1, 2.6))
    return numpy.stack(images).astype(numpy.float32)


# Digits in three columns and five rows, one number of three bits a row.
FONT = ("75557", "26227", "71747", "71717", "55711", "74717", "74757", "71111", "75757", "75717")


def text_lines(count, seed):
    """Float [count, 3, 48, 320] in [-1, 1]: dark digits on light ground with noise, as the recogniser wants them."""
    rng = numpy.random.default_rng(seed)
    lines = numpy.ones((count, 48, 320), numpy.float32) * 0.85
    for line in lines:
        x = int(rng.integers(4, 24))
        for digit in rng.integers(0, 10, int(rng.integers(5, 12))):
            dots = numpy.array([[(int(row) >> (2 - c)) & 1 for c in range(3)] for row in FONT[digit]], numpy.float32)
            glyph = numpy.kron(dots, numpy.ones((6, 5), numpy.float32))
            line[9:39, x:x + 15] -= 1.6 * glyph
            x += 24
        line += rng.normal(0, 0.06, line.shape)
    return numpy.repeat(numpy.clip(lines, -1, 1)[:, None], 3, axis=1).astype(numpy.float32)


def repository_files(suffixes):
    """Sorted paths of the sources and pages, without what a build or a user left there."""
    found = []
    for top in ("docs", "ir", "passes", "runtime", "formats", "backends", "tools", "tests"):
        for folder, folders, names in os.walk(os.path.join(ROOT, top)):
            folders.sort()
            found += [os.path.join(folder, n) for n in sorted(names) if n.endswith(suffixes)]
    return found


def files(count, seed):
    """int32 [count, 2048]: the first and last 1024 bytes of a file, padded inwards with 256."""
    paths = repository_files((".cpp", ".h", ".md", ".py", ".json", ".sh", ".onnx", ".npz", ".xml", ".html"))
    rng = numpy.random.default_rng(seed)
    rows = []
    for i in rng.permutation(len(paths)):
        with open(paths[i], "rb") as file:
            data = file.read()
        if len(data) < 64:
            continue
        head, tail = list(data.lstrip()[:1024]), list(data.rstrip()[-1024:])
        rows.append(head + [256] * (2048 - len(head) - len(tail)) + tail)
        if len(rows) == count:
            break
    return numpy.array(rows, numpy.int32)


def split_words(text):
    """BERT's first step for ASCII text: lower case, punctuation apart."""
    spaced = "".join(" %s " % c if not c.isalnum() and not c.isspace() else c for c in text.lower())
    return spaced.split()


def word_pieces(word, vocabulary):
    """The longest pieces of the vocabulary from the left; [UNK] where there is none."""
    pieces, start = [], 0
    while start < len(word):
        end = len(word)
        while end > start and ("##" if start else "") + word[start:end] not in vocabulary:
            end -= 1
        if end == start:
            return [vocabulary["[UNK]"]]
        pieces.append(vocabulary[("##" if start else "") + word[start:end]])
        start = end
    return pieces


def sentences(count, seed, vocabulary_path):
    """ids and mask, int64 [count, SEQUENCE]: passages of the pages in docs, all of full length."""
    with open(vocabulary_path, encoding="utf-8") as file:
        vocabulary = {line.rstrip("\n"): i for i, line in enumerate(file)}
    ids = []
    for path in repository_files((".md",)):
        with open(path, encoding="utf-8") as file:
            for word in split_words(file.read()):
                ids += word_pieces(word, vocabulary)
    body = SEQUENCE - 2
    starts = numpy.random.default_rng(seed).permutation(len(ids) // body)[:count]
    rows = [[vocabulary["[CLS]"]] + ids[s * body:(s + 1) * body] + [vocabulary["[SEP]"]] for s in starts]
    ids = numpy.array(rows, numpy.int64)
    return {"input_ids": ids, "attention_mask": numpy.ones_like(ids)}


def random_ids(count, seed):
    ids = numpy.random.default_rng(seed).integers(1000, 30000, (count, SEQUENCE), dtype=numpy.int64)
    return {"input_ids": ids, "attention_mask": numpy.ones_like(ids)}
