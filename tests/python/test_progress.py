"""Progress bars: in a terminal, in a notebook, and without tqdm."""

import sys
import types

import pytest
import roundhouse as ipp
from roundhouse.client.progress import progress


class Bar:
    """A bar of tqdm that notes what is done with it."""

    made = []

    def __init__(self, **kwargs):
        self.kwargs = kwargs
        self.n = kwargs.get("initial", 0)
        self.closed = False
        Bar.made.append(self)

    def update(self, n=1):
        self.n += n

    def close(self):
        self.closed = True


@pytest.fixture
def notebook(monkeypatch):
    """A kernel whose widgets are ours; the bars it shows."""
    module = types.ModuleType("tqdm.notebook")
    module.tqdm_notebook = Bar
    monkeypatch.setitem(sys.modules, "tqdm.notebook", module)
    monkeypatch.setattr("roundhouse.client.display.in_kernel", lambda: True)
    monkeypatch.setattr(Bar, "made", [])
    return module


def test_a_widget_in_a_notebook(rc, notebook):
    rc[:].apply_async(len, "ab").wait_interactive()
    (bar,) = Bar.made
    assert bar.n == bar.kwargs["total"] == 3 and bar.closed
    assert (bar.kwargs["unit"], bar.kwargs["desc"]) == ("tasks", "len")
    rc.wait_for_engines(3, interactive=True)  # nothing to wait for, nothing shown
    with pytest.raises(TimeoutError):
        rc.wait_for_engines(4, timeout=0.01, interactive=True)
    assert Bar.made[1].n == 3 and Bar.made[1].kwargs["unit"] == "engine"
    assert Bar.made[1].closed
    rc[:].apply_async(len, "").wait_interactive(widget=False)
    assert len(Bar.made) == 2


def test_text_in_a_notebook_without_widgets(notebook, capsys):
    def no_widgets(**kwargs):
        raise ImportError("no ipywidgets")

    notebook.tqdm_notebook = no_widgets
    progress(total=5).close()
    assert "0/5" in capsys.readouterr().err


def test_nothing_is_shown_without_tqdm(rc, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    ar = rc[:].apply_async(len, "")
    ar.wait_interactive()
    assert ar.done() and capsys.readouterr() == ("", "")


@pytest.mark.parametrize("value, quiet", [("1", True), ("0", False), ("", False)])
def test_noninteractive_environment(rc, monkeypatch, value, quiet):
    pytest.importorskip("IPython")
    from roundhouse.client.magics import ParallelMagics

    monkeypatch.setenv("IPP_NONINTERACTIVE", value)
    assert ParallelMagics(None, rc[:]).stream_output is not quiet
    monkeypatch.setattr("roundhouse.client.engines.get_shell", object)
    shown = []
    monkeypatch.setattr(
        "roundhouse.client.progress.progress",
        lambda **kwargs: shown.append(kwargs) or Bar(**kwargs),
    )
    with pytest.raises(TimeoutError):
        rc.wait_for_engines(9, timeout=0.01)
    assert bool(shown) is not quiet


def test_kinds_of_errors(rc):
    ar = rc[:].apply_async(len, "")
    with pytest.raises(ValueError, match="return_when"):
        ar.get(return_when="whenever")
    assert ar.wait_interactive(return_when=ipp.FIRST_COMPLETED) is None
