"""Write the seed inputs of the fuzz targets to tests/fuzz/corpus.

What fuzzing adds later is committed beside them; this script only makes sure
that every target starts from inputs that reach deep.
"""

import datetime
import json
import pickle
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
SESSION = "97456ff1-e4409120c17d5d7876e003f8"
HEADER = {
    "msg_id": SESSION + "_20331_1",
    "msg_type": "apply_request",
    "username": "user",
    "session": SESSION,
    "date": "2026-11-20T22:56:05.030017Z",
    "version": "5.3",
}


def piece(data: bytes) -> bytes:
    """A length byte and that many bytes: fuzz_piece() in fuzz.h."""
    return bytes([len(data)]) + data


def frames(*parts: bytes | None) -> bytes:
    """Frames for fuzz_msg.c; None is the delimiter."""
    return b"".join(b"\xff" if p is None else piece(p) for p in parts)


def messages() -> dict[str, bytes]:
    body = [None, b"00ff", b"{}", b"{}", b"{}", b"{}"]
    return {
        "smallest": frames(*body),
        "ident": frames(b"E0", *body),
        "idents": frames(b"in", b"E0", b"\x00\x01\x02\x03\x04", *body),
        "too-many-idents": frames(b"a", b"b", b"c", b"d", *body),
        "long-ident": frames(b"x" * 17, *body),
        "buffers": frames(*body, b"", b"abc", b"<IDS|MSG>"),
        "too-many-buffers": frames(*body, b"", b"", b"", b"", b""),
        "long-dict": frames(*body[:-1], b"x" * 33),
        "long-signature": frames(None, b"0" * 129, *body[2:]),
        "short": frames(*body[:-1]),
        "no-delimiter": frames(b"<IDS|MSG", b"{}"),
        "spelled-delimiter": frames(b"<IDS|MSG>", *body[1:]),
        "empty": b"",
    }


def sessions() -> dict[str, bytes]:
    header = json.dumps(HEADER).encode()[:200]
    pieces = [b"key", b"0" * 64, header, b"{}", b"{}", b'{"a": 1}', b"buffer"]
    made = {}
    for scheme in range(4):
        made[f"scheme-{scheme}"] = bytes([scheme]) + frames(*pieces)
    made["unsigned"] = b"\x00" + frames(b"", *pieces[1:])
    made["no-signature"] = b"\x09" + frames(b"key", b"", *pieces[2:])
    made["long-key"] = b"\x41" + frames(b"k" * 255, *pieces[1:])
    made["empty-dicts"] = b"\x10" + frames(b"key", b"00", b"", b"", b"", b"", b"")
    return made


def zmtp(flags: int, body: bytes) -> bytes:
    """A frame of ZeroMQ's protocol."""
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | 2]) + len(body).to_bytes(8, "big") + body


def streams() -> dict[str, bytes]:
    more, command = 1, 4
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\0NULL" + bytes(48)
    dealer = b"\x0bSocket-Type" + (6).to_bytes(4, "big") + b"DEALER"
    named = dealer + b"\x08Identity" + (2).to_bytes(4, "big") + b"E0"
    ready = zmtp(command, b"\x05READY" + named)
    ping = zmtp(command, b"\x04PING\0\x01context")
    message = zmtp(more, b"a") + zmtp(more, b"") + zmtp(0, b"b" * 300)
    large = zmtp(more, b"x") + zmtp(more, b"y" * 16385) + zmtp(0, b"z")
    bare, after = b"\x14\x01", b"\x15\x07"  # choices and a seed
    return {
        "hello": bare + greeting + ready + message,
        "no-name": bare + greeting + zmtp(command, b"\x05READY" + dealer) + message,
        "broken-ready": bare + greeting + zmtp(command, b"\x05READY\x01x\0\0\0\x09"),
        "error": bare + greeting + zmtp(command, b"\x05ERROR\x02no"),
        "early": bare + greeting + message,
        "http": bare + b"GET / HTTP/1.1\r\n\r\n",
        "curve": bare + greeting[:12] + b"CURVE" + bytes(47),
        "version-2": bare + greeting[:10] + b"\x01\x05",
        "messages": after + message * 3,
        "large": after + large + message,
        "ping": after + zmtp(more, b"a") + ping + zmtp(0, b"b") + ping,
        "too-many": b"\x05\x01" + zmtp(more, b"a") * 5 + zmtp(0, b"b") + message,
        "too-large": after + b"\x02" + (70001).to_bytes(8, "big"),
        "endless": after + zmtp(more, b"") * 100,
        "long-command": after + b"\x06" + (4097).to_bytes(8, "big"),
        "bad-flags": after + message + b"\x08",
        "cut": after + message + b"\x02\0\0",
        "empty": after,
    }


def texts() -> dict[str, bytes]:
    values = [
        "0",
        "-1",
        "1.5e-3",
        "9223372036854775807",
        "1e999",
        '"x"',
        '"\\u00e4"',
        '"\\ud83d\\udc0d"',
        '"\\n\\t\\"\\\\\\/"',
        "null",
        "true",
        "false",
        "[]",
        '[1, "a", [null, {}]]',
        "{}",
        '{"b": {"c": [1]}}',
        '"ä€🐍"',
    ]
    made = {"header": json.dumps(HEADER).encode()}
    for i, value in enumerate(values):
        made[f"value-{i}"] = f'{{"a": {value}, "msg_id": "m"}}'.encode()
    made["spaces"] = b' \t\r\n{ "a" : [ 1 , 2 ] , "" : { } } '
    made["twice"] = b'{"a": 1, "a": 2, "\\u0061": 3}'
    made["nul"] = b'{"a": "\\u0000", "b\\u0000": 1}'
    made["deep-64"] = b'{"a":' + b"[" * 63 + b"1" + b"]" * 63 + b"}"
    made["deep-65"] = b'{"a":' + b"[" * 64 + b"1" + b"]" * 64 + b"}"
    made["nul-byte"] = b'{"a":0\x00}'
    for i, bad in enumerate(
        [
            b"{",
            b'{"a":01}',
            b'{"a":"\\ud800"}',
            b'{"a":NaN}',
            b'{"a":"\xff"}',
            b'{"a":1,}',
            b"[]",
            b'{"a":tru}',
        ]
    ):
        made[f"bad-{i}"] = bad
    return made


def connfiles() -> dict[str, bytes]:
    common = {
        "ssh": "",
        "interface": "tcp://127.0.0.1",
        "registration": 33907,
        "control": 46023,
        "mux": 39443,
        "task": 43811,
        "iopub": 40075,
        "key": "f20474e5-fe019b2000efc5bd2eaf498e",
        "curve_serverkey": None,
        "location": "host",
        "pack": "json",
        "unpack": "json",
        "signature_scheme": "hmac-sha256",
    }
    client = common | {"task_scheme": "leastload", "notification": 1, "broadcast": 2}
    engine = common | {"hb_ping": 3, "hb_pong": 4, "broadcast": [5, 6]}
    old = {k: v for k, v in client.items() if k not in ("broadcast", "curve_serverkey")}
    made = {
        "client": client,
        "engine": engine,
        "old-client": old,
        "curve": client
        | {"curve_serverkey": "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "key": ""},
        "escapes": engine | {"location": 'h"\\ä\n'},
        "port-0": client | {"mux": 0},
        "port-text": client | {"mux": "1"},
        "port-list": client | {"broadcast": [1, 70000]},
        "ipc": engine | {"interface": "ipc:///run/x"},
        "no-scheme": engine | {"interface": "127.0.0.1"},
        "long": engine | {"pack": "x" * 64},
    }
    return {k: json.dumps(v, indent=2).encode() for k, v in made.items()} | {
        "no-json": b"{",
        "list": b"[]",
    }


def packed() -> dict[str, bytes]:
    utc = datetime.timezone.utc
    east = datetime.timezone(datetime.timedelta(hours=1))
    date = datetime.datetime(2026, 11, 20, 22, 56, 5, 30017)
    plain = {
        "n": None,
        "b": [True, False],
        "i": [0, 255, 65535, -1, 2**40, 2**80],
        "f": [1.5, float("inf")],
        "s": "ä\n",
        "y": b"ab\xff",
        "t": (1, (2,)),
        "se": {7},
        "d": {1: {}, None: 2, 1.5: 3},
    }
    dates = {
        "naive": date,
        "utc": date.replace(tzinfo=utc),
        "east": date.replace(tzinfo=east),
        "ba": bytearray(b"xy"),
    }
    shared = ["x"]
    shared = [shared, shared, shared]
    made = {}
    for protocol in range(2, 6):
        made[f"plain-{protocol}"] = b"\x01" + pickle.dumps(plain, protocol)
        made[f"dates-{protocol}"] = b"\x01" + pickle.dumps(dates, protocol)
    made["shared"] = b"\x01" + pickle.dumps({"a": shared, "b": shared}, 4)
    made["header"] = b"\x01" + pickle.dumps(HEADER, 4)
    made["class"] = b"\x01" + pickle.dumps({"a": print}, 4)
    made["cycle"] = b"\x01}q\x00K\x01h\x00s."
    made["ordered"] = b"\x01ccollections\nOrderedDict\n)R(K\x01Nu."
    made["msgpack"] = (
        b"\x00\x88\xa1n\xc0\xa1t\xc3\xa1f\xc2\xa1i\x96\x7f\xcc\xff\xcd\x01\x00"
        b"\xd0\xdf\xd3\xff\xff\xff\xff\x7f\xff\xff\xff\xcf\xff\xff\xff\xff\xff"
        b"\xff\xff\xff\xa1r\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa1s\xa3\xc3"
        b"\xa4\n\xa1b\xc4\x03ab\xff\x02\x81\xa1x\x90"
    )
    made["msgpack-wide"] = (
        b"\x00\xdf\x00\x00\x00\x04\xd9\x01a\xda\x00\x01b\xc0\xdc\x00\x01\xca"
        b"\x3f\xc0\x00\x00\x05\xdd\x00\x00\x00\x00\x06\xde\x00\x01\x07\xc5"
        b"\x00\x01z"
    )
    made["msgpack-ext"] = b"\x00\x81\xa1a\xd6\xff\x00\x00\x00\x00"
    for name, text in texts().items():
        if name.startswith(("value", "twice", "deep")):
            made["pickle-" + name] = b"\x03" + text
            made["msgpack-" + name] = b"\x02" + text
    return made


def main() -> None:
    targets = {
        "msg": messages(),
        "inflow": streams(),
        "session": sessions(),
        "scan": texts(),
        "connfile": connfiles(),
        "pack": packed(),
    }
    for target, made in targets.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in made.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
