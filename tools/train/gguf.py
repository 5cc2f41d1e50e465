"""Writes GGUF files, version 3: metadata, and tensors as floats or in blocks of 32 weights (runtime/formats tells what
they are, and reads them)."""
import struct

import numpy as np

ALIGNMENT = 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def q8_0(x):
    """[n, 32] -> blocks: a scale, and 32 integers of 8 bits."""
    out = np.empty(len(x), [("d", "<f2"), ("q", "i1", 32)])
    out["d"] = abs(x).max(1) / 127
    out["q"] = np.rint(x * inverse(out["d"])).clip(-127, 127)
    return out


def q5_0(x):
    """[n, 32] -> blocks: a scale, the fifth bits, and 32 nibbles; the weight is (q - 16) d."""
    out = np.empty(len(x), [("d", "<f2"), ("high", "<u4"), ("q", "u1", 16)])
    out["d"] = np.take_along_axis(x, abs(x).argmax(1)[:, None], 1)[:, 0] / -16
    q = np.rint(x * inverse(out["d"]) + 16).clip(0, 31).astype(np.uint32)
    out["high"] = ((q >> 4) << np.arange(32, dtype=np.uint32)).sum(1)
    out["q"] = q[:, :16] & 15 | (q[:, 16:] & 15) << 4
    return out


def inverse(d):
    """1 / d of half floats, 0 for 0; a column."""
    d = d.astype(np.float32)
    return np.divide(1, d, out=np.zeros_like(d), where=d != 0)[:, None]


# name -> (number in the file, encoder of what becomes its bytes)
FORMATS = {
    "F32": (0, lambda x: x.astype("<f4")),
    "F16": (1, lambda x: x.astype("<f2")),
    "Q5_0": (6, lambda x: q5_0(x.reshape(-1, 32).astype(np.float32))),
    "Q8_0": (8, lambda x: q8_0(x.reshape(-1, 32).astype(np.float32))),
}


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    """Type and value of a metadata entry; a list is an array of `kind`."""
    one = {U32: lambda x: struct.pack("<I", x), I32: lambda x: struct.pack("<i", x),
           F32: lambda x: struct.pack("<f", x), BOOL: lambda x: struct.pack("<?", x), STRING: string}[kind]
    if isinstance(v, list):
        return struct.pack("<IIQ", ARRAY, kind, len(v)) + b"".join(map(one, v))
    return struct.pack("<I", kind) + one(v)


def pad(n):
    return -n % ALIGNMENT


def write(path, metadata, tensors):
    """metadata: [(key, kind, value)]; tensors: [(name, array, format)], the array's last axis being the row."""
    blocks = [FORMATS[form][1](a).tobytes() for _, a, form in tensors]
    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
        for key, kind, v in metadata:
            f.write(string(key) + value(kind, v))
        offset = 0
        for (name, a, form), data in zip(tensors, blocks):
            f.write(string(name) + struct.pack(f"<I{a.ndim}Q", a.ndim, *reversed(a.shape)))
            f.write(struct.pack("<IQ", FORMATS[form][0], offset))
            offset += len(data) + pad(len(data))
        f.write(bytes(pad(f.tell())))
        for data in blocks:
            f.write(data + bytes(pad(len(data))))
