"""The client: waiting, control, the hub, opening and closing."""

import gc
import json
import os
import threading
import weakref
from datetime import datetime, timezone

import fake_core
import pytest
import roundhouse as ipp
from client_support import CONNECTION, run_python


def test_wait(rc, core):
    core.hold = True
    lv = rc.load_balanced_view()
    assert rc.wait() is True
    ars = [lv.apply_async(len, "") for _ in range(3)]
    assert rc.outstanding == {a.msg_id for a in ars} == lv.outstanding
    assert rc.wait(timeout=0.01) is False
    core.requests[0].value(0)
    assert rc.wait(ars[0]) is rc.wait(ars[0].msg_id) is rc.wait(0) is True
    assert rc.wait([ars[0], ars[1]], timeout=0.01) is False
    assert lv.wait(timeout=0.01) is False
    assert lv.wait(0) is True
    for req in core.requests[1:]:
        req.value(0)
    future = rc.wait_for_engines(1, block=False)
    assert rc.wait([*ars, future]) is rc.wait() is lv.wait() is True
    assert rc.wait("never heard of") is True
    assert rc.history == [a.msg_id for a in ars] == lv.history
    with pytest.raises(TypeError):
        rc.wait([None])


def test_wait_interactive(rc, capsys):
    rc.wait_interactive()
    ar = rc[:].apply_async(len, "")
    rc.wait_interactive()
    rc.wait_interactive(ar)
    assert ar.ready() and ar.get() == [0, 0, 0]


def test_wait_for_engines(rc, core):
    assert rc.wait_for_engines(3) is None
    future = rc.wait_for_engines(4, block=False)
    core.change_engines(joined=[(5, "u5")])
    assert future.result(10) is None
    with pytest.raises(TimeoutError, match=r"9 engines not ready.*Currently ready: 4"):
        rc.wait_for_engines(9, timeout=0.01)
    with pytest.raises(TypeError, match="how many engines"):
        rc.wait_for_engines()
    future = rc.wait_for_engines(9, block=False)
    core.change_engines(left=[(5, "u5")])
    with pytest.raises(ipp.EngineError, match="Engine 5 left"):
        future.result(10)


def test_wait_for_engines_of_a_cluster(rc):
    class EngineSet:
        n = 7
        stop_data = {
            "engines": {"2": {"exit_code": 1}, "4": {"exit_code": 1}, "5": {}},
            "exit_code": 1,
        }
        outputs = {"2": "starting\nno route to host\n", "4": "no route to host"}

        def on_stop(self, f):
            self.stop_callbacks = [f]

    class Cluster:
        n = None
        engines = {"a": EngineSet()}

    rc.cluster = Cluster
    future = rc.wait_for_engines(block=False)
    es = Cluster.engines["a"]
    while not hasattr(es, "stop_callbacks"):
        pass
    es.stop_callbacks[0]({"exit_code": 1})
    with pytest.raises(ipp.EngineError) as e:
        future.result(10)
    assert str(e.value).splitlines() == [
        "Engine set stopped: 3 of 7 engines are there",
        "engine 2, engine 4: exit code 1: no route to host",
        "engine 5: ended",
    ]
    with pytest.raises(TimeoutError, match="engine 5: ended"):
        rc.wait_for_engines(timeout=0)
    Cluster.engines["a"].stop_data = {"exit_code": -9}
    Cluster.engines["a"].get_output = lambda: "job cancelled"
    with pytest.raises(TimeoutError, match="all engines: killed by SIGKILL: job canc"):
        rc.wait_for_engines(timeout=0)
    es.stop_callbacks.clear()
    assert es.stop_callbacks == []


def control(core, msg_type):
    return [(s[1], s[3]) for s in core.sent if s[2] == msg_type]


def test_control(rc, core):
    assert rc.clear(block=True) is None
    assert control(core, "clear_request") == [("u0", {}), ("u1", {}), ("u3", {})]
    replies = rc.send_signal("SIGINT", targets=0)
    assert replies.result(10) == [{"status": "ok"}]
    assert control(core, "signal_request") == [("u0", {"sig": "SIGINT"})]
    rc[1].clear(block=True)
    core.answers["signal_request"] = {
        "status": "error",
        "ename": "ValueError",
        "evalue": "x",
        "traceback": [],
        "engine_info": {},
    }
    with pytest.raises(ipp.RemoteError, match="ValueError: x"):
        rc.send_signal(99, block=True)


@pytest.mark.parametrize(
    "call, expected",
    [
        (lambda v, ar: v.abort(ar, block=True), ("abort_request", "u1 u3")),
        (lambda v, ar: v.clear(block=True), ("clear_request", "u1 u3")),
        (lambda v, ar: v.shutdown(block=True), ("shutdown_request", "u1 u3")),
        (lambda v, ar: v.clear(targets=0, block=True), ("clear_request", "u0")),
        (lambda v, ar: v.purge_results(targets="all"), ("purge_request", [1, 3])),
        (lambda v, ar: v.queue_status(), ("queue_request", [1, 3])),
        (lambda v, ar: v.get_result().get(), (None, None)),
        (lambda v, ar: v.get_result(0, owner=True).get(), (None, None)),
        (lambda v, ar: v.wait(0), (None, None)),
    ],
)
def test_methods_of_a_view_have_its_defaults(rc, core, call, expected):
    view = rc[[1, 3]]
    rc[0].apply_sync(len, "")  # not through this view
    ar = view.apply_async(len, "")
    ar.owner = False  # kept, for get_result
    ar.get()
    assert view.history == ar.msg_ids and view.results is rc.results
    core.answers["queue_request"] = {}
    core.answers["purge_request"] = {}
    before = len(core.sent)
    call(view, ar)
    msg_type, where = expected
    sent = core.sent[before:]
    if msg_type is None:
        assert not sent
    elif isinstance(where, str):
        assert [s[1] for s in sent if s[2] == msg_type] == where.split()
    else:
        (content,) = [s[3] for s in sent if s[2] == msg_type]
        assert content.get("targets", content.get("engine_ids")) == where


def test_debug(fake, capsys):
    with ipp.Client(dict(CONNECTION), debug=True) as rc:
        rc[1].apply_sync(len, "abc")
        out = capsys.readouterr().out
        msg_id = rc.history[0]
        assert f"-> mux u1 apply_request {msg_id}\n" in out
        assert f"<- ok {msg_id} of u1\n" in out and "3 buffers of [" in out
        rc.debug = False
        assert rc[1].apply_sync(len, "x" * 9) == 9 and not rc.debug
        assert capsys.readouterr().out == ""
        rc.debug = True
        rc._core.answers["history_request"] = {"history": ["h" * 600]}
        rc.hub_history()
        out = capsys.readouterr().out
        assert "-> query  history_request" in out and "hhh..." in out


def test_abort(rc, core):
    core.hold = True
    ars = [rc[0].apply_async(len, "") for _ in range(2)]
    ids = [a.msg_id for a in ars]
    rc.abort(block=True)
    assert set(control(core, "abort_request")[-1][1]["msg_ids"]) == set(ids)
    rc[0].abort(ars[0], block=True)
    assert control(core, "abort_request")[-1] == ("u0", {"msg_ids": ids[:1]})
    rc.abort([ids[1], ars[0]], targets=[1], block=True)
    assert control(core, "abort_request")[-1] == ("u1", {"msg_ids": ids[::-1]})
    with pytest.raises(TypeError):
        rc.abort([1])


def test_shutdown(rc, core):
    with pytest.raises(NotImplementedError):
        rc.shutdown(restart=True)
    rc.shutdown([0], block=True)
    assert control(core, "shutdown_request") == [("u0", {"restart": False})]
    core.answers["shutdown_request"] = {}
    rc.shutdown(hub=True)
    assert core.sent[-1][0] == fake_core.QUERY
    with pytest.raises(OSError, match="closed"):
        rc[:]


def test_queue_status(rc, core):
    one = {"queue": 0, "completed": 2, "tasks": 0}
    core.answers["queue_request"] = lambda c: {"0": one, "1": one, "unassigned": 0}
    assert rc.queue_status() == {0: one, 1: one, "unassigned": 0}
    assert core.sent[-1][3] == {"targets": None, "verbose": False}
    assert rc.queue_status(0) == one == rc[0].queue_status()
    rc[:].queue_status(verbose=True)
    assert core.sent[-1][3] == {"targets": [0, 1, 3], "verbose": True}


def test_result_status(rc, core):
    done = rc[0].apply_async(len, "abc")
    record = {
        "result_content": {"status": "ok"},
        "result_header": {},
        "result_metadata": {},
    }
    core.answers["result_request"] = lambda c: {
        "pending": [],
        "completed": ["x"],
        **({} if c["status_only"] else {"x": record}),
        "buffers": ipp.serialize_object(8),
    }
    assert rc.result_status([done, "x"]) == {
        "pending": [],
        "completed": ["x", done.msg_id],
    }
    full = rc.result_status([done, "x"], status_only=False)
    assert full["x"] == 8 and full[done.msg_id] == 3
    assert rc.results["x"] == 8


def test_resubmit(rc, core):
    core.answers["resubmit_request"] = lambda c: {
        "resubmitted": {i: i + "-again" for i in c["msg_ids"]}
    }
    rc[0].apply_sync(len, "")
    ar = rc.resubmit()
    assert isinstance(ar, ipp.AsyncHubResult)
    assert ar.msg_ids == [rc.history[-1] + "-again"]
    assert rc.resubmit(["a", "b"]).msg_ids == ["a-again", "b-again"]


def test_purge(rc, core):
    core.answers["purge_request"] = {}
    ar = rc[:].apply_async(len, "")
    ar.owner = False
    ar.get()
    assert len(rc.results) == 3
    rc.purge_local_results(targets=[0])
    assert len(rc.results) == 2
    rc.purge_results(ar.msg_ids[1], targets=[3])
    assert core.sent[-1][3] == {"engine_ids": [3], "msg_ids": [ar.msg_ids[1]]}
    assert not rc.results
    for purge in (
        rc.purge_results,
        rc.purge_hub_results,
        rc.purge_local_results,
        rc[0].purge_results,
    ):
        with pytest.raises(ValueError, match="purge what"):
            purge()
    core.hold = True
    pending = rc[0].apply_async(len, "")
    for jobs in (pending, "all"):
        with pytest.raises(RuntimeError, match="outstanding"):
            rc.purge_local_results(jobs)
    core.requests[-1].value(1)
    rc.purge_everything()
    assert rc.history == [] and core.sent[-1][3]["msg_ids"] == "all"


def test_db_query(rc, core):
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    core.answers["db_request"] = lambda c: {
        "records": [
            {"msg_id": "a", "completed": "2026-01-02T03:04:05Z"},
            {
                "msg_id": "b",
                "completed": None,
                "header": {"date": "2026-01-02T00:00:00Z"},
            },
        ],
        "buffer_lens": [1, 2],
        "result_buffer_lens": [0, 1],
        "buffers": [b"1", b"2", b"3", b"4"],
    }
    a, b = rc.db_query({"started": {"$gte": when}}, keys="completed")
    assert core.sent[-1][3] == {
        "query": {"started": {"$gte": "2026-01-02T03:04:05Z"}},
        "keys": ["completed"],
    }
    assert a["completed"] == when and b["completed"] is None
    assert b["header"]["date"].tzinfo is not None
    assert [bytes(x) for x in a["buffers"] + b["buffers"]] == [b"1", b"2", b"3"]
    assert a["result_buffers"] == [] and bytes(b["result_buffers"][0]) == b"4"
    core.answers["history_request"] = {"history": ["a", "b"]}
    assert rc.hub_history() == ["a", "b"]


def test_errors_of_the_hub(rc, core):
    core.answers["queue_request"] = {
        "status": "error",
        "ename": "IndexError",
        "evalue": "No Such Engine: [99]",
        "traceback": ["t"],
        "engine_info": {},
    }
    with pytest.raises(ipp.RemoteError, match="No Such Engine"):
        rc.queue_status()


def test_low_level(rc):
    ar = rc.send_apply_request(rc._mux_socket, len, ["ab"], ident=b"u1")
    assert ar.get() == 2 and ar.engine_id == 1
    ar = rc.send_execute_request(rc._mux_socket, "q = 1", ident="u1")
    assert ar.get().execution_count == 1
    for bad in ({"args": "x"}, {"kwargs": []}, {"metadata": 1}):
        with pytest.raises(TypeError):
            rc.send_apply_request(rc._mux_socket, len, **bad)


def test_names_of_the_manual(rc):
    assert isinstance(rc.view(), ipp.LoadBalancedView)
    assert isinstance(rc.view([0]), ipp.DirectView)
    assert isinstance(rc.view(balanced=False), ipp.DirectView)
    with pytest.warns(DeprecationWarning):
        rc.spin()
    with pytest.warns(DeprecationWarning):
        rc.spin_thread()
    assert rc.session.session == rc._core.session
    assert rc._engines[0] == "u0" and rc._engines["u3"] == 3


def test_execute_reply(rc, core):
    core.hold = True
    ar = rc[3].execute("42", silent=False)
    req = core.requests[-1]
    req.output("execute_result", {"data": {"text/plain": "42"}, "metadata": {}})
    req.finish({"status": "ok", "execution_count": 7})
    reply = ar.get()
    assert repr(reply) == "<ExecuteReply[7]: 42>"
    assert reply.data == {"text/plain": "42"} and reply.engine_id == 3
    assert reply["execution_count" if False else "status"] == "ok"
    assert reply._plaintext() == "Out[3:7]: 42"
    assert reply._repr_mimebundle_()[0] == {"text/plain": "Out[3:7]: 42"}
    with pytest.raises(AttributeError):
        _ = reply.nonsense


def test_display_outputs(rc, core, capsys):
    core.hold = True
    ar = rc[:].execute("print(1)")
    for i, req in enumerate(core.requests):
        req.output("stream", {"name": "stdout", "text": f"out {i}\n"})
        req.output("stream", {"name": "stderr", "text": f"err {i}"})
        req.finish({"status": "ok", "execution_count": 1})
    ar.display_outputs()
    out, err = capsys.readouterr()
    assert out == "[stdout:0] \nout 0\n[stdout:1] \nout 1\n[stdout:3] \nout 2\n"
    assert err == "[stderr:0] \nerr 0\n[stderr:1] \nerr 1\n[stderr:3] \nerr 2"
    ar.display_outputs(groupby="engine")
    assert capsys.readouterr().out.startswith("[stdout:0] \nout 0\n")
    ar.display_outputs(groupby="order")
    with pytest.raises(ValueError, match="groupby"):
        ar.display_outputs(groupby="nonsense")
    single = rc[0].execute("print(1)")
    core.requests[-1].output("stream", {"name": "stdout", "text": "alone\n"})
    core.requests[-1].finish({"status": "ok", "execution_count": 1})
    capsys.readouterr()
    single.display_outputs()
    assert capsys.readouterr().out == "alone\n"


def test_stream_output(rc, core, capsys):
    core.hold = True
    ar = rc[:].execute("...")
    a, b, _ = core.requests[-3:]
    a.output("stream", {"name": "stdout", "text": "before"})
    with ar.stream_output():
        a.output("stream", {"name": "stdout", "text": " and after\n"})
        core.settle()
        b.output("stream", {"name": "stdout", "text": "b"})
        core.settle()
        a.output("stream", {"name": "stdout", "text": "a\n"})
        core.settle()
        a.output("error", {"ename": "E", "evalue": "v", "traceback": ["tb"]})
        core.settle()
    a.output("stream", {"name": "stdout", "text": "unseen"})
    core.settle()
    out, err = capsys.readouterr()
    assert out == "[stdout:0] \nbefore and after\n[stdout:1] \nb\n[stdout:0] \na\n"
    assert "[0:execute]" in err and "tb" in err


# Opening and closing


def test_connection_files(fake, tmp_path, monkeypatch):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(CONNECTION))
    with ipp.Client(str(path)) as rc:
        assert rc.ids
    with ipp.Client(path) as rc, pytest.warns(DeprecationWarning):
        ipp.Client(url_file=str(path)).close()
    folder = tmp_path / "profile_p" / "security"
    folder.mkdir(parents=True)
    (folder / "ipcontroller-client.json").write_text(json.dumps(CONNECTION))
    (folder / "ipcontroller-x-client.json").write_text(
        json.dumps({**CONNECTION, "mux": 33})
    )
    with ipp.Client(profile="p", ipython_dir=str(tmp_path)) as rc:
        assert rc.profile == "p"
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    with ipp.Client(profile="p", cluster_id="x"):
        assert fake.Client.last.connection["mux"] == 33
    with ipp.Client(profile_dir=str(folder.parent)) as rc:
        assert rc.profile == "p"


def test_file_that_appears_late(fake, tmp_path, capsys):
    folder = tmp_path / "profile_default" / "security"
    folder.mkdir(parents=True)
    path = folder / "ipcontroller-client.json"
    threading.Timer(0.2, path.write_text, [json.dumps(CONNECTION)]).start()
    with ipp.Client(profile="default", ipython_dir=str(tmp_path), timeout=10):
        pass
    assert "Waiting for connection file" in capsys.readouterr().err


def test_no_file(fake, tmp_path):
    with pytest.raises(OSError, match="does not exist; start a controller"):
        ipp.Client(str(tmp_path / "no.json"))
    with pytest.raises(OSError, match="no controller to connect to"):
        ipp.Client(profile="nope", ipython_dir=str(tmp_path))
    (tmp_path / "profile_e" / "security").mkdir(parents=True)
    with pytest.raises(OSError, match=r"after waiting 0\.1 seconds"):
        ipp.Client(profile="e", ipython_dir=str(tmp_path), timeout=0.1)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"mux": None}, "has no 'mux'"),
        ({"key": None}, "has no 'key'"),
        ({"task_scheme": None, "hb_ping": 1}, "engine's file"),
    ],
)
def test_bad_file(fake, tmp_path, change, text):
    info = {**CONNECTION, **change}
    info = {k: v for k, v in info.items() if v is not None or k not in change}
    (tmp_path / "c.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=text):
        ipp.Client(str(tmp_path / "c.json"))


def test_not_a_file(fake, tmp_path):
    with pytest.raises(ValueError, match="is a URL"):
        ipp.Client("tcp://127.0.0.1:1234")
    for text in ("not json", "[]"):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(ValueError, match=r"c\.json"):
            ipp.Client(str(tmp_path / "c.json"))


def test_elsewhere_on_loopback_warns(fake):
    # an address for documentation: never one of ours
    info = {**CONNECTION, "location": "192.0.2.1"}
    with pytest.warns(RuntimeWarning, match="sshserver='you@192.0.2.1'"):
        ipp.Client(info).close()


def test_close(rc, core):
    core.hold = True
    rc[0].apply_async(len, "")
    rc.close()
    rc.close()
    assert not rc._io_thread.is_alive()
    with pytest.raises(OSError, match="closed"):
        rc.load_balanced_view().apply(len, "")
    with pytest.raises(OSError, match="closed"):
        rc.queue_status()


def test_hub_says_goodbye(rc, core):
    core.later(lambda: core.on_event("shutdown", None))
    rc._io_thread.join(10)
    assert rc._closed


def test_collected_without_close(fake):
    client = ipp.Client(dict(CONNECTION))
    core, thread = client._core, client._io_thread
    client[:].apply_sync(len, "")
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None and core.closed
    thread.join(10)
    assert not thread.is_alive()


def test_exit_without_close():
    run_python(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import fake_core, roundhouse; from client_support import CONNECTION\n"
        "sys.modules['roundhouse._core'] = fake_core\n"
        "roundhouse._core = fake_core\n"
        "rc = roundhouse.Client(CONNECTION)\n"
        "assert rc[:].apply_sync(len, 'a') == [1, 1, 1]\n",
        str(__import__("pathlib").Path(__file__).parent),
    )


def test_ctrl_c_gives_the_result_back(rc, core, monkeypatch):
    core.hold = True

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(core, "wait", interrupted)
    for view in (rc[:], rc.load_balanced_view()):
        ar = view.apply_sync(len, "")
        assert isinstance(ar, ipp.AsyncResult)
        assert isinstance(view.map_sync(len, ["a"]), ipp.AsyncMapResult)
    with pytest.raises(KeyboardInterrupt):
        ar.get()


# The package


@pytest.mark.skipif(
    "ROUNDHOUSE_SANITIZED" in os.environ,
    reason="sanitizers and their environment weigh more",
)
def test_import_is_light():
    out = run_python(
        "import sys, roundhouse\n"
        "print([m for m in sys.modules if m.startswith('roundhouse.')"
        " or m in ('numpy', 'IPython', 'traitlets', 'asyncio', 'typing')])\n"
        "from roundhouse import Client\n"
        "print([m for m in sys.modules if m in ('numpy', 'IPython', 'traitlets',"
        " 'asyncio', 'tqdm', 'zmq', 'jupyter_client')])"
    )
    assert out.splitlines() == ["['roundhouse.error']", "[]"]


def test_every_name_is_there():
    for name in ipp.__all__:
        if name == "MultipleInstanceError":
            pytest.importorskip("traitlets")
        if name in ("Cluster", "ClusterManager"):
            pytest.importorskip("roundhouse.cluster")
        assert getattr(ipp, name) is not None
    assert set(ipp.__all__) <= set(dir(ipp))
    with pytest.raises(AttributeError, match="nonsense"):
        ipp.nonsense  # noqa: B018


def test_stands_in_for_upstream():
    code = """
import sys, pickle
import roundhouse
roundhouse.install_as_ipyparallel()
roundhouse.install_as_ipyparallel()
import ipyparallel as ipp
import ipyparallel.client.view
from ipyparallel.controller.dependency import Dependency
from ipyparallel.serialize.canning import CannedFunction
from ipyparallel.util import interactive
from ipyparallel import error
assert ipp is roundhouse
assert ipyparallel.client.view.DirectView is roundhouse.DirectView
assert Dependency is roundhouse.Dependency
assert roundhouse.__spec__.name == 'roundhouse'
try:
    import ipyparallel.nonsense
except ModuleNotFoundError as e:
    assert e.name == 'ipyparallel.nonsense', e.name
else:
    raise AssertionError
try:
    import ipyparallel.apps.nonsense
except ModuleNotFoundError:
    pass
"""
    run_python(code)


def test_stands_in_for_upstream_that_is_installed(peer_python):
    run_python(
        "import ipyparallel as real, roundhouse\n"
        "roundhouse.install_as_ipyparallel()\n"
        "import ipyparallel as ipp\n"
        "from ipyparallel.client.client import Client\n"
        "assert ipp is roundhouse is not real\n"
        "assert Client is roundhouse.Client is not real.Client\n",
        python=peer_python,
    )


def test_bind_kernel_outside_an_engine():
    with pytest.raises(RuntimeError, match="engine"):
        ipp.bind_kernel()
