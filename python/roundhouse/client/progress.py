"""Progress bars, by tqdm where it is installed."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["progress"]


class _Quiet:
    """Counts like a tqdm bar and shows nothing."""

    def __init__(self, total: int | None = None, initial: int = 0, **_: Any) -> None:
        self.total = total
        self.n = initial

    def update(self, n: int = 1) -> None:
        self.n += n

    def close(self) -> None:
        """Nothing to close."""


def progress(*args: Any, widget: bool | None = None, **kwargs: Any) -> Any:
    """A tqdm progress bar.

    Parameters
    ----------
    widget : bool, optional
        A notebook widget; by default in an IPython kernel that has widgets.
    args, kwargs
        As for tqdm: total, unit, desc, initial…
    """
    kwargs.setdefault("file", sys.stdout)
    if widget is None:
        from .display import in_kernel

        widget = in_kernel()
    try:
        if widget:
            try:
                from tqdm.notebook import tqdm_notebook

                kwargs["file"] = sys.stdout
                kwargs["delay"] = 0
                bar = tqdm_notebook(*args, **kwargs)
                return bar
            except ImportError:  # no ipywidgets
                kwargs["file"] = sys.stderr
                kwargs.pop("delay", None)
        from tqdm import tqdm

        return tqdm(*args, **kwargs)
    except ImportError:
        kwargs.pop("file", None)
        return _Quiet(*args, **kwargs)
