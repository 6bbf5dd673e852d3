"""joblib's Parallel on a view."""

import pytest

joblib = pytest.importorskip("joblib")
pytest.importorskip("cloudpickle")


def test_parallel(rc):
    rc.load_balanced_view().register_joblib_backend("view", make_default=False)
    with joblib.parallel_backend("view"):
        k = 3
        got = joblib.Parallel()(joblib.delayed(lambda x: x * k)(i) for i in range(20))
    assert got == [3 * i for i in range(20)]


def test_errors_come_through(rc):
    rc.load_balanced_view().register_joblib_backend("view")
    with (
        joblib.parallel_backend("view"),
        pytest.raises(Exception, match="ZeroDivision"),
    ):
        joblib.Parallel()(joblib.delayed(lambda x: 1 // x)(i) for i in range(3))


def test_as_many_jobs_as_engines(rc):
    from roundhouse.joblib import IPythonParallelBackend

    assert (
        IPythonParallelBackend(view=rc.load_balanced_view()).effective_n_jobs(-1) == 3
    )
    assert (
        IPythonParallelBackend(view=rc.load_balanced_view([0])).effective_n_jobs(-1)
        == 1
    )
