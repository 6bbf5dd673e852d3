"""IPython in an engine: cells, magics, rich output.

Imported when the first request needs it.  The shell shares its namespace with
applied functions and publishes through the engine instead of a terminal.
"""

from __future__ import annotations

import os
import signal
import sys

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Any as AnyTrait
from traitlets import Type
from traitlets.config import Config

from . import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class EngineDisplayHook(DisplayHook):
    """Values of expressions become execute_result messages."""

    engine: Any = None

    _result: Any = None
    _count = 0

    def start_displayhook(self) -> None:
        self._result = None

    def write_output_prompt(self) -> None:
        self._count = self.prompt_count

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        self._result = (format_dict, md_dict or {})

    def finish_displayhook(self) -> None:
        if self._result and self._result[0]:
            data, metadata = self._result
            content = {
                "data": data,
                "metadata": metadata,
                "execution_count": self._count,
            }
            self.engine.publish(
                "execute_result", "execute_result", jsontext.dumps(content), "{}"
            )
        self._result = None


class EngineDisplayPublisher(DisplayPublisher):
    """display() becomes display_data messages."""

    engine: Any = None

    def publish(
        self,
        data: Any,
        metadata: Any = None,
        source: Any = None,
        *,
        transient: Any = None,
        update: bool = False,
        **kwargs: Any,
    ) -> None:
        content = {
            "data": data,
            "metadata": metadata or {},
            "transient": transient or {},
        }
        msg_type = "update_display_data" if update else "display_data"
        self.engine.publish("displaypub", msg_type, jsontext.dumps(content), "{}")

    def clear_output(self, wait: bool = False) -> None:
        self.engine.publish(
            "displaypub", "clear_output", '{"wait": %s}' % ("true" if wait else "false")
        )


class DataPublisher:
    """What code written for upstream finds as get_ipython().data_pub."""

    def publish_data(self, data: Any) -> None:
        from ..datapub import publish_data

        publish_data(data)


class EngineShell(InteractiveShell):
    """The interactive shell of an engine."""

    displayhook_class = Type(EngineDisplayHook)
    display_pub_class = Type(EngineDisplayPublisher)
    payload_manager: Any
    history_manager: Any
    engine_hooks = AnyTrait()

    @classmethod
    def for_engine(cls, hooks: Any) -> Any:
        """Make the one shell of this process."""
        config = Config()
        for name, traits in hooks.ipython_config.items():
            for trait, value in traits.items():
                setattr(config[_own_name(name)], trait, value)
        if "hist_file" not in config.HistoryManager:
            config.HistoryManager.hist_file = ":memory:"
        shell = cls.instance(
            config=config, user_module=hooks.user_module, user_ns=hooks.user_ns
        )
        shell._connect(hooks)
        return shell

    def _connect(self, hooks: Any) -> None:
        self.engine_hooks = hooks
        self.engine = hooks.engine
        hook: Any = self.displayhook
        publisher: Any = self.display_pub
        hook.engine = publisher.engine = hooks.engine
        self.data_pub = DataPublisher()
        configurables: list[Any] = self.configurables
        configurables.append(self.data_pub)
        self._last_error: Any = None
        try:
            from . import comms
        except ImportError:
            pass  # without the comm package there are no comms
        else:
            comms.install(hooks.engine)

    def init_sys_modules(self) -> None:
        super().init_sys_modules()
        sys.modules["__main__"] = self.user_module

    def init_hooks(self) -> None:
        super().init_hooks()
        from IPython.core import page, payloadpage

        self.set_hook("show_in_pager", page.as_hook(payloadpage.page), 99)

    def init_virtualenv(self) -> None:
        pass  # the engine's interpreter is the one its user chose

    # a kernel has no terminal

    def enable_gui(self, gui: Any = None) -> None:
        if gui not in (None, "inline", "agg"):
            print(f"engines have no event loop for gui {gui!r}", file=sys.stderr)

    def ask_exit(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def raw_input(self, prompt: str = "") -> None:
        from .hooks import _no_input

        _no_input(prompt)

    def set_next_input(self, text: str, replace: bool = False) -> None:
        self.payload_manager.write_payload(
            {"source": "set_next_input", "text": text, "replace": replace}
        )

    # errors

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        try:
            value = str(evalue)
        except Exception as e:
            value = f"(str() of the {etype.__name__} failed: {type(e).__name__})"
        content = {"traceback": list(stb), "ename": etype.__name__, "evalue": value}
        self._last_error = content
        self.engine.publish("error", "error", jsontext.dumps(content))

    # requests

    def do_execute(
        self, code: str, *, silent: bool, store_history: Any, user_expressions: Any
    ) -> Any:
        """Run a cell; returns the reply's content."""
        count = self.execution_count
        if not silent:
            content = {"code": code, "execution_count": count}
            self.engine.publish(
                "execute_input", "execute_input", jsontext.dumps(content)
            )
        self._last_error = None
        result = self.run_cell(code, store_history=store_history, silent=silent)
        reply: dict[str, Any] = {"status": "ok"}
        if not result.success:
            exc = result.error_before_exec
            if exc is None:
                exc = result.error_in_exec
            reply = self._error(exc)
        reply["execution_count"] = self.execution_count - 1
        reply["user_expressions"] = (
            self.user_expressions(user_expressions) if reply["status"] == "ok" else {}
        )
        reply["payload"] = self.payload_manager.read_payload()
        self.payload_manager.clear_payload()
        return reply

    def _error(self, exc: BaseException) -> Any:
        content = self._last_error
        self._last_error = None
        if content is None or content["ename"] != type(exc).__name__:
            name, value, lines, _ = self.engine_hooks.explain(exc)
            content = {"traceback": lines, "ename": name, "evalue": value}
        return {"status": "error", **content}

    def do_complete(self, code: str, cursor_pos: int) -> Any:
        from IPython.core.completer import provisionalcompleter, rectify_completions

        with provisionalcompleter():
            found = list(
                rectify_completions(code, self.Completer.completions(code, cursor_pos))
            )
        types = [
            {
                "start": c.start,
                "end": c.end,
                "text": c.text,
                "type": c.type,
                "signature": c.signature,
            }
            for c in found
        ]
        return {
            "matches": [c.text for c in found],
            "cursor_start": found[0].start if found else cursor_pos,
            "cursor_end": found[0].end if found else cursor_pos,
            "metadata": {"_jupyter_types_experimental": types},
        }

    def do_inspect(self, code: str, cursor_pos: int, detail_level: int) -> Any:
        from IPython.utils.tokenutil import token_at_cursor

        name = token_at_cursor(code, cursor_pos)
        try:
            data = self.object_inspect_mime(name, detail_level=detail_level)
        except KeyError:
            return {"found": False, "data": {}, "metadata": {}}
        if not self.enable_html_pager:
            data.pop("text/html", None)
        return {"found": True, "data": data, "metadata": {}}

    def do_is_complete(self, code: str) -> Any:
        status, indent = self.input_transformer_manager.check_complete(code)
        return status, " " * (indent or 0)

    def do_history(self, content: dict[str, Any]) -> Any:
        manager = self.history_manager
        raw = content.get("raw", True)
        output = content.get("output", False)
        kind = content.get("hist_access_type")
        if kind == "tail":
            found = manager.get_tail(
                content.get("n", 10), raw=raw, output=output, include_latest=True
            )
        elif kind == "range":
            found = manager.get_range(
                content.get("session", 0),
                content.get("start", 0),
                content.get("stop"),
                raw=raw,
                output=output,
            )
        elif kind == "search":
            found = manager.search(
                content.get("pattern"),
                raw=raw,
                output=output,
                n=content.get("n"),
                unique=content.get("unique", False),
            )
        else:
            raise ValueError(f"hist_access_type {kind!r} is not tail, range or search")
        return {"history": list(found)}


def _own_name(name: str) -> Any:
    """Kernel class names of upstream's configuration that mean this shell."""
    return "InteractiveShell" if name == "ZMQInteractiveShell" else name
