"""`DirectView.sync_imports`: imports that happen here and on the engines."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..serialize.canning import interactive

if TYPE_CHECKING:
    from .view import DirectView

__all__ = ["sync_imports"]


@interactive
def _remote_import(name: str, fromlist: Any, level: int) -> None:
    # Runs on the engine, in the user namespace: it may use nothing of here.
    import sys

    ns = globals()
    module = __import__(name, fromlist=fromlist, level=level)
    if fromlist:
        for key in fromlist:
            if key == "*":
                public = getattr(module, "__all__", None)
                for k in public or [k for k in vars(module) if k[0] != "_"]:
                    ns[k] = getattr(module, k)
            else:
                ns[key] = getattr(module, key)
    else:
        top = name.partition(".")[0]
        ns[top] = sys.modules[top]


@contextmanager
def sync_imports(view: DirectView, local: bool, quiet: bool) -> Iterator[None]:
    """See DirectView.sync_imports.

    ``__import__`` is replaced while the block runs; only imports written in the
    block are forwarded, told apart by their frame.
    """
    if not local:
        raise NotImplementedError(
            "local=False: imports happen here as well as on the engines"
        )
    # this generator, contextlib's __enter__, the block
    block_frame = sys._getframe(2)
    real_import = builtins.__import__
    seen: set[str] = set()
    results: list[Any] = []

    def forwarding_import(
        name: str,
        globals: Any = None,
        locals: Any = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        module = real_import(name, globals, locals, fromlist or (), level)
        if sys._getframe(1) is not block_frame or level > 0:
            return module
        key = name + ":" + ",".join(fromlist or ())
        if key in seen:
            return module
        seen.add(key)
        if not quiet:
            what = f"{','.join(fromlist)} from {name}" if fromlist else name
            print(f"importing {what} on engine(s)")
        names = list(fromlist) if fromlist else None
        # submitting imports modules of ours: not by this function
        builtins.__import__ = real_import
        try:
            results.append(view.apply_async(_remote_import, name, names, level))
        finally:
            builtins.__import__ = forwarding_import
        return module

    builtins.__import__ = forwarding_import
    try:
        yield
    finally:
        builtins.__import__ = real_import
    for ar in results:
        ar.get()
