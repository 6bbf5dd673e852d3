"""IPython magics: ``%px`` and its family.

``%px CODE`` and ``%%px`` run code on the engines of a view, ``%pxresult`` shows
the output of the last one again, ``%pxconfig`` sets defaults, and ``%autopx``
sends every cell to the engines until it is used again.  A view may be bound
under a suffix: ``%px_even``, ``%%px_even``…
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from IPython.core import magic_arguments
from IPython.core.error import UsageError
from IPython.core.magic import Magics, no_var_expand

from .. import error

if TYPE_CHECKING:
    from .asyncresult import AsyncResult

__all__ = ["ParallelMagics"]

_LONG = 10  # longer lists of targets are shown abbreviated

_argument = magic_arguments.argument


def _switch(*names: str, dest: str, value: Any, help: str) -> Any:
    return _argument(*names, action="store_const", const=value, dest=dest, help=help)


# Options of %%px and %pxconfig.
_EXECUTION = [
    _switch("-b", "--block", dest="block", value=True, help="wait for the engines"),
    _switch(
        "-a",
        "--noblock",
        dest="block",
        value=False,
        help="do not wait: the value is an AsyncResult",
    ),
    _switch(
        "--stream",
        dest="stream",
        value=True,
        help="show output as it arrives (when waiting)",
    ),
    _switch(
        "--no-stream",
        dest="stream",
        value=False,
        help="show output when everything is finished",
    ),
    _argument(
        "-t",
        "--targets",
        type=str,
        help="the engines: an id, a list, a slice like ::2, or all",
    ),
    _switch(
        "--verbose",
        dest="set_verbose",
        value=True,
        help="print a line at each execution",
    ),
    _switch(
        "--no-verbose", dest="set_verbose", value=False, help="do not print that line"
    ),
    _argument(
        "--progress-after",
        dest="progress_after_seconds",
        type=float,
        default=None,
        help="seconds before a progress bar is shown; 0: at once, -1: never",
    ),
    _argument(
        "--signal-on-interrupt",
        dest="signal_on_interrupt",
        type=str,
        default=None,
        help="signal the engines get when waiting is interrupted, by name or "
        "number; SIGINT by default, 0 stops only the waiting",
    ),
]

# Options of %%px and %pxresult.
_OUTPUT = [
    _switch(
        "-r", dest="groupby", value="order", help="the same as --group-outputs=order"
    ),
    _switch(
        "-e", dest="groupby", value="engine", help="the same as --group-outputs=engine"
    ),
    _argument(
        "--group-outputs",
        dest="groupby",
        type=str,
        choices=["engine", "order", "type"],
        default="type",
        help="type: all stdout, then all stderr, then displays; engine: one "
        "engine after the other; order: as type, but the first displays of all "
        "engines before the second ones",
    ),
    _argument(
        "-o",
        "--out",
        dest="save_name",
        type=str,
        help="assign the AsyncResult to this name",
    ),
]


def _options(*groups: list[Any]) -> Callable[[Any], Any]:
    """Decorator: give a magic its options."""

    def decorate(f: Any) -> Any:
        for group in groups:
            for add in reversed(group):
                f = add(f)
        return magic_arguments.magic_arguments()(f)

    return decorate


class ParallelMagics(Magics):
    """The magics of one view.

    Attributes
    ----------
    view : DirectView
    suffix : str
        Added to the names of the magics.
    last_result : AsyncResult or None
        What %pxresult shows.
    verbose, stream_output, progress_after_seconds, signal_on_interrupt
        What %pxconfig sets.
    """

    registered = True
    shell: Any
    last_result: AsyncResult | None = None
    verbose = False
    progress_after_seconds: float = 2
    signal_on_interrupt: Any = "SIGINT"

    def __init__(self, shell: Any, view: Any, suffix: str = "") -> None:
        self.view = view
        self.suffix = suffix
        self.stream_output = os.environ.get("IPP_NONINTERACTIVE", "") in ("", "0")
        self._autopx = False
        px = "px" + suffix
        self.magics = {
            "line": {
                px: self.px,
                "pxresult" + suffix: self.result,
                "pxconfig" + suffix: self.pxconfig,
                "auto" + px: self.autopx,
            },
            "cell": {px: self.cell_px},
        }
        if not suffix:
            self.magics["line"]["result"] = self.result  # its old name
        super().__init__(shell=shell)

    def _targets(self, text: str) -> Any:
        """Engines as written after --targets."""
        if "all" in text:
            return "all"
        if ":" in text:
            parts = [int(p) if p.strip() else None for p in text.strip("[]").split(":")]
            return self.view.client.ids[slice(*parts)]
        found = [int(n) for n in re.findall(r"-?\d+", text)]
        if not found:
            raise UsageError(
                f"not engines: {text!r}; use an id, a list, a slice or all"
            )
        single = re.fullmatch(r"\s*-?\d+\s*", text) is not None
        return found[0] if single else found

    @staticmethod
    def _signal(text: str) -> Any:
        return int(text) if text.isdigit() else text

    @_options(_EXECUTION)
    def pxconfig(self, line: str) -> None:
        """Set defaults of %px: targets, blocking, streaming…"""
        args = magic_arguments.parse_argstring(self.pxconfig, line)
        if args.targets:
            self.view.targets = self._targets(args.targets)
        if args.block is not None:
            self.view.block = args.block
        if args.set_verbose is not None:
            self.verbose = args.set_verbose
        if args.stream is not None:
            self.stream_output = args.stream
        if args.signal_on_interrupt is not None:
            self.signal_on_interrupt = self._signal(args.signal_on_interrupt)
        if args.progress_after_seconds is not None:
            self.progress_after_seconds = args.progress_after_seconds

    @_options(_OUTPUT)
    def result(self, line: str = "") -> None:
        """Show the output of the last %px again; waits for it if need be."""
        args = magic_arguments.parse_argstring(self.result, line)
        if self.last_result is None:
            raise UsageError(
                "nothing to show: %pxresult repeats the results of a %px, and there was none"
            )
        if args.save_name:
            self.shell.user_ns[args.save_name] = self.last_result
            return
        self.last_result.get()
        self.last_result.display_outputs(groupby=args.groupby or "type")

    @no_var_expand
    def px(self, line: str = "") -> Any:
        """Run a line of code on the engines."""
        return self.parallel_execute(line)

    @_options(
        _EXECUTION,
        _OUTPUT,
        [
            _switch(
                "--local", dest="local", value=True, help="run the cell here as well"
            )
        ],
    )
    def cell_px(self, line: str = "", cell: str = "") -> Any:
        """Run a cell on the engines."""
        args = magic_arguments.parse_argstring(self.cell_px, line)
        saved = self.view.targets, self.verbose
        if args.targets:
            self.view.targets = self._targets(args.targets)
        if args.set_verbose is not None:
            self.verbose = args.set_verbose
        signal = args.signal_on_interrupt
        block = self.view.block if args.block is None else args.block
        try:
            ar = self.parallel_execute(
                cell,
                # with --local the engines start first, and are waited for after
                block=False if args.local else block,
                groupby=args.groupby or "type",
                save_name=args.save_name,
                stream_output=args.stream,
                progress_after=args.progress_after_seconds,
                signal_on_interrupt=None if signal is None else self._signal(signal),
            )
        finally:
            self.view.targets, self.verbose = saved
        if args.local:
            self.shell.run_cell(cell)
            if block:
                ar.get()
                ar.display_outputs(args.groupby or "type")
        return None if block else ar

    def parallel_execute(
        self,
        cell: str,
        block: bool | None = None,
        groupby: str = "type",
        save_name: str | None = None,
        stream_output: bool | None = None,
        progress_after: float | None = None,
        signal_on_interrupt: Any = None,
    ) -> Any:
        """Run code on the view's engines: what %px and %%px do.

        Arguments left None take the values of %pxconfig.  Returns the
        AsyncResult unless it waits.
        """
        block = self.view.block if block is None else block
        if self.verbose:
            self._announce(block)
        result = self.view.execute(cell, silent=False, block=False)
        result._fname = "%px"
        self.last_result = result
        if save_name:
            self.shell.user_ns[save_name] = result
        if not block:
            return result
        stream = self.stream_output if stream_output is None else stream_output
        signal = (
            self.signal_on_interrupt
            if signal_on_interrupt is None
            else signal_on_interrupt
        )
        after = (
            self.progress_after_seconds if progress_after is None else progress_after
        )
        try:
            with result.stream_output() if stream else nullcontext():
                self._wait(result, after)
                self._raise_errors(result, stream)
        except KeyboardInterrupt:
            if signal is None:
                raise
            if signal in (0, "0"):
                print("interrupted: the engines go on", file=sys.stderr)
                return None
            print(f"interrupted: {signal} goes to the engines", file=sys.stderr)
            self.view.client.send_signal(signal, targets=result._targets, block=True)
        finally:
            if not stream:
                result.wait_for_output(1)
                if result.done():
                    result.display_outputs(groupby)
        return None

    def _announce(self, block: bool) -> None:
        targets = self.view.targets
        text = str(targets)
        if isinstance(targets, list) and len(targets) > _LONG:
            text = f"{str(targets[:4])[:-1]}, ..., {str(targets[-4:])[1:]}"
        kind = "Parallel" if block else "Async parallel"
        print(f"{kind} execution on engine(s): {text}")

    @staticmethod
    def _wait(result: AsyncResult, progress_after: float) -> None:
        """Wait for result and output; a progress bar appears after a while."""
        if progress_after < 0:
            result.wait()
            result.wait_for_output()
            return
        deadline = time.monotonic() + progress_after
        if progress_after > 0 and result.wait(progress_after):
            result.wait_for_output(max(deadline - time.monotonic(), 1.0))
            return
        result.wait_interactive()
        result.wait_for_output(1)

    @staticmethod
    def _raise_errors(result: AsyncResult, streamed: bool) -> None:
        try:
            result.get()
        except error.CompositeError as e:
            if streamed and result._output_ready:
                raise error.AlreadyDisplayedError(e) from None
            raise

    # %autopx is a transformation of the input: a cell becomes a call of %%px.
    # That works in every frontend, and leaves what was typed in the history.

    def autopx(self, line: str = "") -> None:
        """Send every cell to the engines, until used again."""
        if self._autopx:
            self._disable_autopx()
        else:
            self._enable_autopx()

    def _enable_autopx(self) -> None:
        def transform(lines: list[str]) -> list[str]:
            cell = "".join(lines)
            if not cell.strip() or re.match(rf"\s*%autopx{self.suffix}\b", cell):
                return lines
            magic = "px" + self.suffix
            return [f"get_ipython().run_cell_magic({magic!r}, '', {cell!r})\n"]

        # not for deciding whether more lines have to be typed
        transform.has_side_effects = True  # type: ignore[attr-defined]
        self._transform = transform
        self.shell.input_transformers_cleanup.append(transform)
        self._autopx = True
        print("%autopx enabled")

    def _disable_autopx(self) -> None:
        self.shell.input_transformers_cleanup.remove(self._transform)
        self._autopx = False
        print("%autopx disabled")
