"""Run a graph of tasks, prove that its order was kept, and draw what happened.

    python dag.py                        32 tasks, 128 dependencies, 4 engines
    python dag.py --nodes 100 --edges 400 --seed 2 --out dag.png

In the picture x is the time a task started and y how long it ran, so all arrows
point to the right; the colour is the engine.  Then the manual's graph of five
tasks runs, each of its inner tasks failing in turn, and who else cannot run is
compared with what the edges say.
"""

from __future__ import annotations

import argparse
import random

import networkx as nx
import roundhouse as ipp


def random_dag(nodes: int, edges: int, rng: random.Random) -> nx.DiGraph:
    """A random directed graph without cycles: edges go from lower to higher."""
    possible = [(a, b) for b in range(nodes) for a in range(b)]
    graph = nx.DiGraph()
    graph.add_nodes_from(range(nodes))
    graph.add_edges_from(rng.sample(possible, min(edges, len(possible))))
    return graph


def random_wait(seconds):
    """A job: sleeps up to so long."""
    import random
    import time

    time.sleep(random.uniform(0, seconds))


def submit(view, graph: nx.DiGraph, jobs: dict) -> dict:
    """One task per node, after those of its predecessors; results by node."""
    results = {}
    for node in nx.topological_sort(graph):
        before = [results[n] for n in graph.predecessors(node)]
        function, *args = jobs[node]
        with view.temp_flags(after=before, block=False):
            results[node] = view.apply(function, *args)
    return results


def validate_tree(graph: nx.DiGraph, results: dict) -> None:
    """Every task started after its predecessors were completed."""
    for parent, node in graph.edges:
        started = results[node].metadata.started
        finished = results[parent].metadata.completed
        assert started > finished, f"{node} should have waited for {parent}"


def draw(graph: nx.DiGraph, results: dict, path: str) -> None:
    """Write the picture to a file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    metadata = {node: results[node].metadata for node in graph}
    zero = min(md.started for md in metadata.values())
    pos = {
        node: (
            (md.started - zero).total_seconds(),
            (md.completed - md.started).total_seconds(),
        )
        for node, md in metadata.items()
    }
    figure, axes = plt.subplots(figsize=(10, 6))
    nx.draw_networkx(
        graph,
        pos,
        ax=axes,
        node_color=[metadata[node].engine_id for node in graph],
        cmap=plt.get_cmap("gist_rainbow"),
        edge_color="0.8",
        font_size=8,
    )
    axes.tick_params(left=True, bottom=True, labelleft=True, labelbottom=True)
    axes.set(xlabel="started, s", ylabel="ran, s")
    figure.savefig(path)
    plt.close(figure)


# The manual's graph: 1 and 2 come after 0, 3 after both of them, 4 after 1.
FIVE = nx.DiGraph([(0, 1), (0, 2), (1, 3), (2, 3), (1, 4)])


def work():
    """A job that succeeds."""


def fail():
    """A job that does not."""
    raise RuntimeError("this one fails")


def outcomes(view, failing: int) -> dict[int, str]:
    """Run the five tasks with one that fails; how each ended."""
    jobs = {node: (fail if node == failing else work,) for node in FIVE}
    results = submit(view, FIVE, jobs)
    view.wait(list(results.values()))
    ended = {}
    for node in sorted(results):
        exc = results[node].exception()
        ended[node] = "ok" if exc is None else exc.ename
    return ended


def check_failures(view) -> None:
    """Of each task that fails, exactly its descendants become impossible."""
    for failing in sorted(FIVE):
        ended = outcomes(view, failing)
        print(f"{failing} fails:", ", ".join(f"{n} {e}" for n, e in ended.items()))
        impossible = {n for n, e in ended.items() if e == "ImpossibleDependency"}
        assert impossible == nx.descendants(FIVE, failing)
        assert ended[failing] == "RuntimeError"


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("-n", "--engines", type=int, default=4)
    p.add_argument("--nodes", type=int, default=32)
    p.add_argument("--edges", type=int, default=128)
    p.add_argument("--seconds", type=float, default=0.2, help="longest task")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--out", default="dag.png", help="where to write the picture")
    args = p.parse_args()

    graph = random_dag(args.nodes, args.edges, random.Random(args.seed))
    with ipp.Cluster(n=args.engines) as rc:
        view = rc.load_balanced_view()
        jobs = {node: (random_wait, args.seconds) for node in graph}
        results = submit(view, graph, jobs)
        view.wait(list(results.values()))
        for result in results.values():
            result.get()  # raises if one failed
        validate_tree(graph, results)
        print(f"{len(graph)} tasks kept the order of {graph.size()} dependencies")
        draw(graph, results, args.out)
        print(f"picture: {args.out}")
        check_failures(view)


if __name__ == "__main__":
    main()
