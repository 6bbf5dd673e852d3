"""One engine of ours and a raw client that talks to it."""

from __future__ import annotations

import json
import sys
from types import FunctionType

import pytest
from roundhouse.serialize import deserialize_object, pack_apply_message

PATIENCE = 60


class RemoteFailure(Exception):
    """An error reply: its content and metadata."""

    def __init__(self, message):
        super().__init__(
            f"{message.content.get('ename')}: {message.content.get('evalue')}"
        )
        self.message = message
        self.content = message.content
        self.metadata = message.metadata


class Kit:
    def __init__(self, client, process, controller, uuid: str, id: int):
        self.client = client
        self.process = process
        self.controller = controller
        self.uuid = uuid
        self.id = id
        self.kept: list = []
        client.socket("iopub")

    # requests; each returns the message id

    def send(self, f, *args, **kwargs) -> str:
        # As if typed in: the engine has no module with the tests.
        for g in (f, *args):
            if isinstance(g, FunctionType) and g.__module__.startswith("test_"):
                g.__module__ = "__main__"
        return self.send_buffers(pack_apply_message(f, args, kwargs))

    def send_buffers(self, buffers, metadata=None) -> str:
        return self.client.send(
            "mux", "apply_request", target=self.uuid, buffers=buffers, metadata=metadata
        )

    def send_execute(self, code: str, silent: bool = False, **content) -> str:
        content = {"code": code, "silent": silent, "user_expressions": {}, **content}
        return self.client.send("mux", "execute_request", content, target=self.uuid)

    def ask(self, msg_type: str, content=None, channel: str = "mux"):
        msg_id = self.client.send(channel, msg_type, content, target=self.uuid)
        reply = self.client.recv_parent(channel, msg_id, PATIENCE)
        assert reply, f"no reply to {msg_type}"
        return reply

    def control(self, msg_type: str, content=None):
        return self.ask(msg_type, content, "control")

    # replies

    def reply(self, msg_id: str):
        """The reply to a request; others are kept for later."""
        for i, m in enumerate(self.kept):
            if m.parent["msg_id"] == msg_id:
                return self.kept.pop(i)
        while True:
            m = self.client.recv("mux", PATIENCE)
            assert m, f"no reply to {msg_id}"
            if m.parent["msg_id"] == msg_id:
                return m
            self.kept.append(m)

    def result(self, msg_id: str):
        m = self.reply(msg_id)
        if m.content["status"] != "ok":
            raise RemoteFailure(m)
        value, rest = deserialize_object(m.buffers)
        assert not rest
        return value

    def call(self, f, *args, **kwargs):
        return self.result(self.send(f, *args, **kwargs))

    def run(self, code: str, **kwargs):
        return self.reply(self.send_execute(code, **kwargs)).content

    # output

    def next_output(self, msg_id: str):
        while True:
            m = self.client.recv("iopub", PATIENCE)
            assert m, f"no output of {msg_id}"
            if m.parent.get("msg_id") == msg_id:
                return m

    def output(self, msg_id: str) -> list:
        """Everything published for a request, between busy and idle."""
        out = []
        while True:
            m = self.next_output(msg_id)
            if m.type == "status":
                if m.content["execution_state"] == "idle":
                    return out
                assert m.content["execution_state"] == "busy"
                assert not out
                continue
            out.append(m)

    def text(self, msg_id: str, name: str = "stdout") -> str:
        return "".join(
            m.content["text"]
            for m in self.output(msg_id)
            if m.type == "stream" and m.content["name"] == name
        )

    def settle(self):
        """Wait until this client sees what the engine publishes."""
        while True:
            msg_id = self.send(len, "x")
            self.reply(msg_id)
            m = self.client.recv("iopub", 0.2)
            if m:
                break
        while True:
            if m and m.parent.get("msg_id") == msg_id and _is_idle(m):
                return self
            m = self.client.recv("iopub", PATIENCE)


def _is_idle(m) -> bool:
    return m.type == "status" and m.content["execution_state"] == "idle"


def engine_command(controller, *options: str, python: str | None = None) -> list[str]:
    where = (
        []
        if any(o.startswith("--file") for o in options)
        else [f"--profile-dir={controller.profile_dir}"]
    )
    return [python or sys.executable, "-m", "roundhouse.engine", *where, *options]


@pytest.fixture
def start_engine(start_process, start_controller, raw_client, wait_until):
    """start_engine(*options, controller=..., env=...) -> Kit."""

    def start(*options: str, controller=None, env=None, controller_options=()) -> Kit:
        controller = controller or start_controller(*controller_options)
        client = raw_client(controller)
        before = set(client.engines().values())
        process = start_process(
            engine_command(controller, *options),
            name="ipengine",
            env={"IPYTHONDIR": str(controller.ipython_dir), **(env or {})},
        )

        def arrived():
            assert process.alive(), f"ipengine ended: {process.log()}"
            return {i: u for i, u in client.engines().items() if u not in before}

        (id, uuid) = next(iter(wait_until(arrived, what="engine").items()))
        return Kit(client, process, controller, uuid, id).settle()

    return start


@pytest.fixture
def kit(start_engine) -> Kit:
    return start_engine()


def load(text: str):
    return json.loads(text)
