"""Write down every multipart message this process sends.

For processes of the real ipyparallel, see ../golden.py; they find this file
through PYTHONPATH.  GOLDEN_LOG is the file to append to, GOLDEN_ROLE the name
of the sender.  One record is one write, so that processes may share the file.
"""

import os
import struct

import zmq
from zmq.sugar.socket import Socket

LOG = os.open(os.environ["GOLDEN_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
ROLE = os.environ["GOLDEN_ROLE"].encode()

send_multipart = Socket.send_multipart


def frame_bytes(frame):
    return frame.bytes if isinstance(frame, zmq.Frame) else bytes(frame)


def recording(self, msg_parts, *args, **kwargs):
    parts = [*msg_parts]
    record = [struct.pack("<B", len(ROLE)), ROLE, struct.pack("<I", len(parts))]
    for frame in map(frame_bytes, parts):
        record += [struct.pack("<I", len(frame)), frame]
    os.write(LOG, b"".join(record))
    return send_multipart(self, parts, *args, **kwargs)


Socket.send_multipart = recording
