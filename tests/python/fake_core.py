"""A core in Python for tests: engines are namespaces in this process.

Has the interface of roundhouse._core.  Requests for work are answered at once,
or, with `hold`, when the test says so; everything submitted is recorded.
"""

import json
import threading
import time
import uuid as uuids

from roundhouse.error import wrap_exception
from roundhouse.serialize import serialize_object, unpack_apply_message

MUX, TASK, CONTROL, BROADCAST, QUERY = range(5)


class Request:
    def __init__(self, core, msg_id, uuid, header):
        self.core = core
        self.msg_id = msg_id
        self.engine_uuid = uuid
        self.header = json.dumps(header).encode()
        self.submitted = time.time()
        self.done = self.output_done = False
        self.status = self.reply_header = self.metadata = self.content = None
        self.buffers = ()
        self.received = None
        self.stdout = self.stderr = ""
        self.outputs = []
        self.sent = True
        self.begun = False
        self.callback = self.output_callback = None
        self.parts = []

    def wait_sent(self, timeout=None, /):
        return True

    def set_callback(self, f, /):
        self.callback = f
        if self.done:
            self.core.later(self.call)

    def call(self):
        f, self.callback = self.callback, None
        if f is not None:
            f(self)

    def set_output_callback(self, f, /):
        self.output_callback = f

    def output(self, msg_type, content, buffers=()):
        """An iopub message for this request arrives."""
        body = json.dumps(content).encode()
        meta = json.dumps({"engine": self.engine_uuid}).encode()
        self.outputs.append((msg_type, b"{}", meta, body, tuple(buffers)))
        if msg_type == "stream":
            name = content["name"]
            setattr(self, name, getattr(self, name) + content["text"])
        if self.output_callback is not None:
            self.core.later(lambda: self.output_callback and self.output_callback(self))

    def finish(self, content, buffers=(), metadata=None):
        """The reply arrives."""
        with self.core.lock:
            self.status = content["status"]
            self.content = json.dumps(content).encode()
            meta = {"engine": self.engine_uuid, "started": "2026-11-20T22:56:05.5Z"}
            self.metadata = json.dumps({**meta, **(metadata or {})}).encode()
            self.reply_header = b'{"date": "2026-11-20T22:56:06.5Z"}'
            self.buffers = tuple(memoryview(bytes(b)) for b in buffers)
            self.received = time.time()
            self.output_done = self.done = True
            self.core.lock.notify_all()
        self.core.later(self.call)

    def value(self, obj, **kwargs):
        self.finish({"status": "ok"}, serialize_object(obj), **kwargs)

    def error(self, ename="ValueError", evalue="bad", engine_id=0):
        info = {"engine_uuid": self.engine_uuid, "engine_id": engine_id}
        self.finish(
            {
                "status": "error",
                "ename": ename,
                "evalue": evalue,
                "traceback": ["line 1", "line 2"],
                "engine_info": {**info, "method": "apply"},
            }
        )

    def run(self):
        """Execute the call in the engine's namespace and answer."""
        ns = self.core.namespaces[self.engine_uuid]
        try:
            f, args, kwargs = unpack_apply_message(self.bufs, ns)
            self.value(f(*args, **kwargs))
        except Exception:
            content = wrap_exception(
                {"engine_uuid": self.engine_uuid, "engine_id": 0, "method": "apply"}
            )
            self.finish(content)


class Client:
    """The fake of roundhouse._core.Client; the last one made is `Client.last`."""

    last = None

    def __init__(self, connection, *, session=None, username=None, timeout=10.0, **kw):
        Client.last = self
        self.connection = json.loads(connection)
        self.options = kw
        self.session = session or uuids.uuid4().hex
        self.closed = False
        self.engines_version = 1
        self.lock = threading.Condition()
        self.sent = []  # (channel, ident, msg_type, content, metadata, buffers)
        self.requests = []
        self.hold = False
        self.hold_types = set()  # not answered in spite of `answers`
        self.turn = 0
        self.count = 0
        self.queue = []
        self.roster = {0: "u0", 1: "u1", 3: "u3"}
        self.namespaces = {u: {"__name__": "__main__"} for u in self.roster.values()}
        self.answers = {"connection_request": {"engines": {}}}
        # msg_type -> content, or function of content

    def engines(self):
        return dict(self.roster)

    def change_engines(self, joined=(), left=()):
        with self.lock:
            for i, u in joined:
                self.roster[i] = u
                self.namespaces[u] = {"__name__": "__main__"}
            for i, _ in left:
                del self.roster[i]
            self.engines_version += 1
            self.lock.notify_all()
        self.later(lambda: self.on_event("engines", (list(joined), list(left))))

    def next_msg_id(self):
        self.count += 1
        return f"{self.session}_{self.count}"

    def submit(
        self,
        channel,
        ident,
        msg_type,
        content,
        metadata,
        buffers=(),
        /,
        *,
        track=False,
        msg_id=None,
        expect=None,
        coalescing=False,
    ):
        assert not self.closed
        assert isinstance(content, bytes) and isinstance(metadata, bytes)
        msg_id = msg_id or self.next_msg_id()
        self.sent.append(
            (
                channel,
                ident,
                msg_type,
                json.loads(content),
                json.loads(metadata),
                buffers,
            )
        )
        if channel == TASK and ident is None:
            engines = sorted(self.roster.values())
            ident = engines[self.turn % len(engines)]
            self.turn += 1
        req = Request(self, msg_id, ident, {"msg_id": msg_id, "msg_type": msg_type})
        req.bufs = [bytes(b) for b in buffers]
        self.requests.append(req)
        if channel == BROADCAST and not coalescing:
            for part_id, uuid in expect:
                part = Request(self, part_id, uuid, {})
                part.bufs = req.bufs
                req.parts.append(part)
                part.run()
            req.finish({"status": "ok"})
        elif msg_type in self.hold_types:
            pass
        elif msg_type in self.answers:
            answer = self.answers[msg_type]
            if callable(answer):
                answer = answer(json.loads(content))
            bufs = answer.pop("buffers", ()) if isinstance(answer, dict) else ()
            req.finish({"status": "ok", **answer}, bufs)
        elif channel == CONTROL:
            req.finish({"status": "ok"})
        elif not self.hold and msg_type == "apply_request":
            req.run()
        elif not self.hold and msg_type == "execute_request":
            ns = self.namespaces[ident]
            exec(json.loads(content)["code"], ns)
            req.finish({"status": "ok", "execution_count": 1})
        return req

    def share(self, buffers, /):
        return list(buffers)

    def broadcast_parts(self, request, /):
        return request.parts

    def wait(self, requests, timeout=None, /, *, count=-1, output=False):
        need = len(requests) if count < 0 else count

        def enough():
            done = [r.output_done if output else r.done for r in requests]
            return sum(done) >= need or self.closed

        with self.lock:
            return self.lock.wait_for(enough, timeout)

    def wait_engines(self, version, timeout=None, /):
        with self.lock:
            return self.lock.wait_for(
                lambda: self.engines_version != version or self.closed, timeout
            )

    def flush(self):
        pass

    def later(self, f):
        """Have the receiving thread call f()."""
        with self.lock:
            self.queue.append(f)
            self.lock.notify_all()

    def settle(self):
        """Wait until the receiving thread has done all it was given."""
        done = threading.Event()
        self.later(done.set)
        assert done.wait(10)

    def run(self, on_event, /):
        self.on_event = on_event
        while True:
            with self.lock:
                self.lock.wait_for(lambda: self.queue or self.closed)
                if not self.queue:
                    return
                f = self.queue.pop(0)
            f()

    def close(self, linger=1.0):
        with self.lock:
            self.closed = True
            self.lock.notify_all()
