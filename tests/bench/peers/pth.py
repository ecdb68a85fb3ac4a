"""Reads the tensors of a .pth file (the form before zip archives) with numpy alone.

The file is five pickles, then the bytes of each storage:

    magic number | protocol | system | the object, whose storages are persistent ids | keys of the storages
    for each key: int64 count, then the elements, little-endian

A pickle can name any function. Here it can name four, none of which does more than build a container.
"""

import collections
import io
import pickle

MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}  # numpy's name, which ends with the size


class RefusedError(pickle.UnpicklingError):
    """The file names something that no table of tensors needs, or its numbers do not fit each other."""


class Storage:
    def __init__(self, dtype, count):
        self.dtype, self.count, self.size, self.data = dtype, count, int(dtype[-1]), b""


class TensorOf:
    """A tensor whose storage has not been read yet."""

    def __init__(self, storage, offset, shape, strides, *_):
        self.storage, self.offset, self.shape, self.strides = storage, offset, tuple(shape), tuple(strides)

    def check(self):
        """Every element lies in the storage."""
        numbers = (self.offset, *self.shape, *self.strides)
        if any(not isinstance(n, int) or n < 0 for n in numbers) or len(self.shape) != len(self.strides):
            raise RefusedError("a tensor has offset %r, shape %r, strides %r" % (self.offset, self.shape, self.strides))
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        if 0 not in self.shape and last >= self.storage.count:
            raise RefusedError("a tensor ends at element %d of %d" % (last, self.storage.count))

    def array(self):
        import numpy

        self.check()
        elements = numpy.frombuffer(self.storage.data, self.storage.dtype)
        strides = [s * self.storage.size for s in self.strides]
        return numpy.lib.stride_tricks.as_strided(elements[self.offset:], self.shape, strides).copy()


class TensorUnpickler(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return TensorOf
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise RefusedError("found %s.%s, expected tensors of float or int64 in a dictionary" % (module, name))

    def persistent_load(self, pid):
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and pid[1] in DTYPES.values()):
            raise RefusedError("found the persistent id %r, expected a storage" % (pid,))
        if len(pid) > 5 and pid[5] is not None:
            raise RefusedError("a storage is a view of another, which is not read")
        key, count = pid[2], pid[4]
        return self.storages.setdefault(key, Storage(pid[1], count))


def read(path):
    """The tensors of a state dict by name, as numpy arrays. Raises RefusedError."""
    with open(path, "rb") as file:
        return read_file(file)


def read_file(file: io.BufferedIOBase):
    if TensorUnpickler(file).load() != MAGIC:
        raise RefusedError("the file does not start with the magic number of a .pth file without an archive")
    for _ in range(2):  # protocol and system
        TensorUnpickler(file).load()
    unpickler = TensorUnpickler(file)
    tensors = unpickler.load()
    if not isinstance(tensors, dict):
        raise RefusedError("found no dictionary of tensors")
    for key in TensorUnpickler(file).load():
        storage = unpickler.storages.get(key)
        count = int.from_bytes(file.read(8), "little", signed=True)
        if storage is None or not isinstance(storage.count, int) or count != storage.count or count < 0:
            raise RefusedError("storage %r has %d elements, expected another number" % (key, count))
        storage.data = file.read(count * storage.size)
        if len(storage.data) != count * storage.size:
            raise RefusedError("storage %r ends after %d bytes of %d elements" % (key, len(storage.data), count))
    return {name: t.array() for name, t in tensors.items() if isinstance(t, TensorOf)}
