"""The engine: a Python process that runs other people's calls.

``python -m roundhouse.engine`` (command ``ipengine``) starts one.  The loop is
C (`roundhouse._core.run_engine`); this package holds what it needs from
Python.  Nothing here imports IPython, numpy or traitlets before user code asks
for them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# The hooks of the engine that runs in this process, set by `hooks.Hooks.start`.
_current: Any = None


def current() -> Any:
    """The `Hooks` of this process's engine; RuntimeError if there is none."""
    if _current is None:
        raise RuntimeError("this process is not a Roundhouse engine")
    return _current
