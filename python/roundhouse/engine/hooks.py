"""What the C loop calls: functions are applied, errors told, IPython found.

Everything that most engines never use (tracebacks, IPython) is imported when
it is first needed.
"""

from __future__ import annotations

import builtins
import os
import sys
from types import FunctionType, ModuleType

from .. import engine as _package
from ..serialize.serialize import serialize_object, unpack_apply_message
from ..serialize.wire import UPSTREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


# Of code objects (see inspect): names are fast locals; a new dict of locals.
_CO_OPTIMIZED, _CO_NEWLOCALS = 1, 2


class StdinNotImplementedError(NotImplementedError):
    """Engines have no keyboard."""


def _no_input(prompt: str = "") -> None:
    raise StdinNotImplementedError(
        "input() cannot work on an engine: nobody sits there; send the value as an argument"
    )


def _make_caller(ns: dict[str, Any]) -> Any:
    """Return (call, cells): a function that runs ``f(*args, **kwargs)``.

    Its frame looks like one of the user's own cells: globals and locals are
    both the user namespace, so that globals(), eval() or dir() as the called
    function see it.  The three values come through closure cells and leave no
    names behind.
    """
    f: Any = None
    args: Any = None
    kwargs: Any = None

    def call() -> Any:
        return f(*args, **kwargs)

    code = call.__code__
    flags = code.co_flags & ~(_CO_OPTIMIZED | _CO_NEWLOCALS)
    code = code.replace(co_flags=flags, co_name="<module>", co_filename="<apply>")
    cells = dict(zip(code.co_freevars, call.__closure__ or ()))
    return FunctionType(code, ns, "<module>", None, call.__closure__), cells


class Hooks:
    """One engine's Python side.  See src/pyext/engine.c for the contract.

    Parameters
    ----------
    startup : list of (kind, text)
        What to run before the first request, in order: kind "code" with
        source text, or "file" with a path.
    ipython_config : dict
        {"Class": {trait: value}} for IPython, should it be loaded.
    user_ns : dict, optional
        First contents of the user namespace.
    """

    def __init__(
        self, startup: Any = (), ipython_config: Any = None, user_ns: Any = None
    ) -> None:
        self.startup = list(startup)
        self.ipython_config = ipython_config or {}
        self.engine: Any = None
        self._shell: Any = None
        self._finder = _IPythonFinder(self)
        self._upstream = _UpstreamFinder()
        self.user_module = module = ModuleType("__main__")
        self.user_ns = ns = module.__dict__
        ns["__builtins__"] = builtins
        ns["get_ipython"] = self.get_ipython
        # Functions of modules find it too, as in any IPython kernel.
        builtins.get_ipython = self.get_ipython  # type: ignore[attr-defined]
        if user_ns:
            ns.update(user_ns)
        self._fresh = dict(ns)
        self._call, cells = _make_caller(ns)
        self._f, self._args, self._kwargs = cells["f"], cells["args"], cells["kwargs"]

    # called by the loop

    @property
    def kernel_info(self) -> str:
        v = ".".join(map(str, sys.version_info[:3]))
        return (
            '"protocol_version": "5.3", "implementation": "roundhouse", '
            f'"implementation_version": "{v}", "language_info": {{"name": "python", '
            f'"version": "{v}", "mimetype": "text/x-python", '
            '"codemirror_mode": {"name": "ipython", "version": 3}, '
            '"pygments_lexer": "ipython3", "nbconvert_exporter": "python", '
            f'"file_extension": ".py"}}, "banner": "Python {v}", "help_links": []'
        )

    def start(self, engine: Any) -> None:
        self.engine = engine
        _package._current = self
        # Functions and classes typed into an engine live in a module
        # __main__ of their own; ours goes on living under its real name.
        sys.modules["__main__"] = self.user_module
        builtins.input = _no_input  # type: ignore[assignment]
        self._finder.install()
        self._upstream.install()
        for kind, text in self.startup:
            self.run_startup(kind, text)
        sys.stdin = open(os.devnull)  # noqa: SIM115 - for good
        sys.stdout = engine.stream(1)
        sys.stderr = engine.stream(2)
        import io

        io.TextIOBase.register(type(sys.stdout))

    def apply(self, buffers: Any) -> Any:
        try:
            f, args, kwargs = unpack_apply_message(buffers, self.user_ns, False)
        except AttributeError as e:
            if "<module '__main__'" not in str(e):
                raise
            raise AttributeError(
                f"{e}: objects of a class that was typed in need the class here; "
                "push it first, or send by value after view.use_cloudpickle()"
            ) from e
        buffers.clear()
        self._f.cell_contents = f
        self._args.cell_contents = args
        self._kwargs.cell_contents = kwargs
        del f, args, kwargs
        try:
            return serialize_object(self._call())
        finally:
            self._f.cell_contents = None
            self._args.cell_contents = None
            self._kwargs.cell_contents = None

    def explain(self, exc: BaseException) -> Any:
        from .tracebacks import explain

        return explain(exc)

    def request(
        self,
        msg_type: str,
        header: bytes,
        metadata: bytes,
        content: bytes,
        buffers: Any,
    ) -> Any:
        from .requests import handlers

        handler = handlers.get(msg_type)
        if handler is None:
            return None
        return handler(self, header, metadata, content, buffers)

    def clear(self) -> None:
        if self._shell is not None:
            self._shell.reset(new_session=False)
            return
        self.user_ns.clear()
        self.user_ns.update(self._fresh)

    # for the rest

    @property
    def shell(self) -> Any:
        """The IPython shell, made when first asked for.

        ImportError says that IPython is not installed here.
        """
        if self._shell is None:
            self._finder.remove()  # this is the import it waits for
            try:
                from .shell import EngineShell
            except ImportError as e:
                raise ImportError(
                    f"running code as text needs IPython on the engine ({sys.executable}): {e}"
                ) from e
            self._shell = EngineShell.for_engine(self)
        return self._shell

    def get_ipython(self) -> Any:
        """The running IPython shell."""
        return self.shell

    def run_startup(self, kind: Any, text: str) -> None:
        """Run code or a file; a failure is shown and does not end the engine."""
        try:
            if kind == "file":
                self._run_file(text)
            else:
                self._run_code(text, "<startup>")
        except BaseException as e:
            sys.stderr.write(f"ipengine: startup {kind} failed:\n")
            sys.stderr.write("\n".join(self.explain(e)[2]) + "\n")

    def _run_file(self, path: str) -> None:
        with open(path, encoding="utf-8") as f:
            text = f.read()
        if path.endswith(".ipy"):
            self.shell.safe_execfile_ipy(path, shell_futures=True)
            return
        ns = self.user_ns
        ns["__file__"] = path
        try:
            exec(compile(text, path, "exec"), ns)
        finally:
            ns.pop("__file__", None)

    def _run_code(self, text: str, name: str) -> None:
        try:
            code = compile(text, name, "exec")
        except SyntaxError:
            # A magic or a shell command is no Python.
            self.shell.run_cell(text, store_history=False).raise_error()
            return
        exec(code, self.user_ns)


class _IPythonFinder:
    """Makes the engine's shell as soon as somebody imports IPython.

    Code that runs in an applied function and calls display() finds a shell to
    display with; without one IPython would only print.
    """

    def __init__(self, hooks: Any) -> None:
        self.hooks = hooks

    def install(self) -> None:
        if "IPython" not in sys.modules:
            sys.meta_path.insert(0, self)

    def remove(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> Any:
        if name != "IPython":
            return None
        from importlib.machinery import PathFinder

        self.remove()
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            hooks, execute = self.hooks, spec.loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                hooks.shell  # noqa: B018 - makes it

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class _UpstreamFinder:
    """Makes ``import ipyparallel`` find us: only we know this engine.

    What does it is large for an engine, so it waits for the first such import.
    """

    def install(self) -> None:
        sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> Any:
        if name != UPSTREAM and not name.startswith(UPSTREAM + "."):
            return None
        from importlib.util import find_spec

        from ..compat import install_as_ipyparallel

        sys.meta_path.remove(self)
        install_as_ipyparallel()
        sys.modules.pop(UPSTREAM, None)
        return find_spec(name)
