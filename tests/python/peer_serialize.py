"""Serializes and deserializes with the real ipyparallel, on request.

Request and answer: count, then length and bytes of each frame, little endian.
The first frame names the operation, or says ok or error.
"""

import struct
import sys
import traceback

from ipyparallel.serialize import (
    deserialize_object,
    pack_apply_message,
    serialize_object,
    unpack_apply_message,
)

inp, out = sys.stdin.buffer, sys.stdout.buffer
sys.stdout = sys.stderr
ns = {"__name__": "__main__", "there": 7}
exec("import functools, numpy, datetime\nimport ipyparallel as ipp", ns)


def echo(frames):
    obj, rest = deserialize_object(frames, ns)
    assert not rest, "buffers left over"
    return serialize_object(obj)


def show(frames):
    obj, rest = deserialize_object(frames, ns)
    assert not rest, "buffers left over"
    return [repr(obj).encode()]


def call(frames):
    f, args, kwargs = unpack_apply_message(frames, ns)
    return serialize_object(f(*args, **kwargs))


def make(frames):
    """Serialize the value of an expression, after running some code."""
    code, expression = [f.decode() for f in frames]
    exec(code, ns)
    return serialize_object(eval(expression, ns))


def pack(frames):
    code, expression = [f.decode() for f in frames]
    exec(code, ns)
    return pack_apply_message(*eval(expression, ns))


operations = {f.__name__: f for f in (echo, show, call, make, pack)}


def main():
    while True:
        head = inp.read(4)
        if len(head) < 4:
            return
        frames = []
        for _ in range(struct.unpack("<I", head)[0]):
            (size,) = struct.unpack("<Q", inp.read(8))
            frames.append(inp.read(size))
        try:
            answer = [b"ok", *operations[frames[0].decode()](frames[1:])]
        except Exception:
            answer = [b"error", traceback.format_exc().encode()]
        out.write(struct.pack("<I", len(answer)))
        for f in answer:
            f = bytes(f)
            out.write(struct.pack("<Q", len(f)) + f)
        out.flush()


main()
