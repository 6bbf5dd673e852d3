"""Views: ways to run things on sets of engines.

A DirectView sends to each of its engines; a BroadcastView does so through the
controller's broadcast; a LoadBalancedView leaves the choice to the task
scheduler.  All of them pack a call once and hand the buffers to the core.
"""

from .balanced import LoadBalancedView
from .baseview import View
from .broadcast import BroadcastView
from .chunks import LazyMapIterator
from .direct import DirectView
from .executor import ViewExecutor

__all__ = [
    "BroadcastView",
    "DirectView",
    "LazyMapIterator",
    "LoadBalancedView",
    "View",
    "ViewExecutor",
]
