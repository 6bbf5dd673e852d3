"""Running a dask cluster on the engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..serialize.canning import interactive

if TYPE_CHECKING:
    from .client import Client

__all__ = ["become_dask", "stop_dask"]


@interactive
def _start_worker(address: str, nanny: bool, kwargs: dict[str, Any]) -> None:
    # Runs on the engine: it may use nothing of here.
    import asyncio
    import os
    import sys
    import threading

    import distributed

    if hasattr(sys, "_roundhouse_dask"):
        print("the engine is a dask worker already", file=sys.stderr)
        return
    kwargs.setdefault("local_directory", os.getcwd())
    ready = threading.Event()
    state: dict[str, Any] = {}

    async def serve() -> None:
        try:
            state["loop"] = asyncio.get_running_loop()
            state["stop"] = asyncio.Event()
            kind = distributed.Nanny if nanny else distributed.Worker
            async with kind(address, **kwargs):
                ready.set()
                await state["stop"].wait()
        except BaseException as e:
            state["error"] = e
        finally:
            ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    state["thread"] = thread
    if not ready.wait(60):
        raise TimeoutError(f"the dask worker did not reach {address} in 60 s")
    if "error" in state:
        raise state["error"]
    sys._roundhouse_dask = state  # type: ignore[attr-defined]


@interactive
def _stop_worker() -> None:
    # Runs on the engine: it may use nothing of here.
    import sys

    state = getattr(sys, "_roundhouse_dask", None)
    if state is None:
        return
    del sys._roundhouse_dask  # type: ignore[attr-defined]
    state["loop"].call_soon_threadsafe(state["stop"].set)
    state["thread"].join(30)


def become_dask(
    client: Client,
    targets: Any,
    nanny: bool,
    scheduler_args: dict[str, Any],
    worker_args: dict[str, Any],
) -> Any:
    """See Client.become_dask."""
    import distributed  # type: ignore[import-not-found,unused-ignore]

    view = client.direct_view(targets)
    reply, _ = client._query(
        "become_dask_request", {"scheduler_args": dict(scheduler_args)}
    )
    address = reply.get("address") or f"{reply['ip']}:{reply['port']}"
    worker_args.setdefault("nthreads", 1)
    view.apply_sync(_start_worker, address, nanny, worker_args)
    return distributed.Client(address)


def stop_dask(client: Client, targets: Any) -> None:
    """See Client.stop_dask."""
    view = client.direct_view(targets)
    client._query("stop_distributed_request", {})
    view.apply_sync(_stop_worker)
