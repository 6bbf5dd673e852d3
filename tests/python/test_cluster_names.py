"""Launchers by name, configuration files and profiles."""

import os
import types

import pytest
from roundhouse.cluster import config as cluster_config
from roundhouse.cluster.launcher import (
    abbreviate_launcher_class,
    find_launcher_class,
    launcher_names,
    registry,
)
from roundhouse.cluster.launcher.local import LocalEngineSetLauncher
from roundhouse.cluster.profile import (
    abbreviate_profile_dir,
    all_profile_dirs,
    create_profile_dir,
    default_profile_dir,
    locate_profiles,
)
from traitlets.config import Config


@pytest.mark.parametrize(
    "name",
    [
        "local",
        "Local",
        "LOCAL",
        "LocalEngineSet",
        "LocalEngineSetLauncher",
        "roundhouse.cluster.launcher.LocalEngineSetLauncher",
        "roundhouse.cluster.launcher.local:LocalEngineSetLauncher",
        "ipyparallel.cluster.launcher.LocalEngineSetLauncher",
        "ipyparallel.cluster.launcher:LocalEngineSetLauncher",
        "ipyparallel.apps.launcher.LocalEngineSetLauncher",
        "IPython.parallel.apps.launcher.LocalEngineSetLauncher",
    ],
)
def test_names_of_one_launcher(name):
    assert find_launcher_class(name, "engine") is LocalEngineSetLauncher
    assert find_launcher_class(name, "EngineSet") is LocalEngineSetLauncher


def test_wrong_names():
    with pytest.raises(KeyError, match=r"'nope'; there are .*local"):
        find_launcher_class("nope", "engine")
    with pytest.raises(ImportError):
        find_launcher_class("no.such.module.Launcher", "engine")
    with pytest.raises(ImportError, match="no launcher"):
        find_launcher_class("roundhouse.cluster.launcher.None", "engine")
    with pytest.raises(ValueError, match="kind"):
        find_launcher_class("local", "client")


class Foreign:
    def start(self): ...

    def stop(self): ...


def test_launchers_of_other_packages(monkeypatch):
    def point(name, value):
        return types.SimpleNamespace(name=name, value=value, load=lambda: Foreign)

    groups = {
        "ipyparallel.engine_launchers": [
            point("Cloud", f"{__name__}:Foreign"),
            point("ssh9", "ipyparallel.cluster.launcher:SSHEngineSetLauncher"),
            point("local", f"{__name__}:Foreign"),
        ],
        "roundhouse.engine_launchers": [],
    }
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: groups.get(group, [])
    )
    registry._entry_points.cache_clear()
    try:
        assert find_launcher_class("cloud", "engine") is Foreign
        assert find_launcher_class("local", "engine") is LocalEngineSetLauncher
        assert "cloud" in launcher_names("engine")
        assert "ssh9" not in launcher_names("engine")
        assert abbreviate_launcher_class(Foreign) == "cloud"
    finally:
        registry._entry_points.cache_clear()


@pytest.mark.parametrize("kind", ["engine", "controller"])
def test_every_builtin_name_goes_there_and_back(kind):
    for name in registry.BUILTIN[kind]:
        cls = find_launcher_class(name, kind)
        assert abbreviate_launcher_class(cls) == name
        assert find_launcher_class(cls.__name__, kind) is cls


def test_every_exported_launcher_can_be_loaded():
    from roundhouse.cluster import launcher

    for name in launcher.__all__:
        assert getattr(launcher, name) is not None
    with pytest.raises(AttributeError):
        _ = launcher.NoSuchLauncher


# -- configuration -------------------------------------------------------------


def test_present_names_win_over_old_ones():
    config = Config()
    config.Cluster.n = 1
    config.IPClusterEngines.n = 2
    said = cluster_config.forward_old_names(config)
    assert config.Cluster.n == 1
    assert said == ["IPClusterEngines.n is an old name; use Cluster.n"]
    assert cluster_config.forward_old_names(config) == []


def test_settings_that_stay_where_they_are():
    config = Config()
    config.IPClusterStart.early_shutdown = 3
    assert cluster_config.forward_old_names(config) == []
    assert config.IPClusterStart.early_shutdown == 3


def test_mpiexec_launchers():
    config = Config()
    config.MPIExecEngineSetLauncher.mpi_args = ["-x"]
    said = cluster_config.forward_old_names(config)
    assert config.MPIEngineSetLauncher.mpi_args == ["-x"]
    assert said == ["MPIExecEngineSetLauncher is an old name; use MPIEngineSetLauncher"]


def test_json_then_python_then_extra(tmp_path):
    (tmp_path / "ipcluster_config.json").write_text(
        '{"Cluster": {"n": 1, "delay": 1, "controller_ip": "json"}}'
    )
    (tmp_path / "ipcluster_config.py").write_text(
        "c.Cluster.n = 2\nc.Cluster.delay = 2\n"
    )
    extra = tmp_path / "extra.py"
    extra.write_text("c.Cluster.n = 3\n")
    config = cluster_config.load_files([str(tmp_path)], "ipcluster_config", str(extra))
    assert config.Cluster == {"n": 3, "delay": 2, "controller_ip": "json"}
    with pytest.raises(FileNotFoundError, match="missing"):
        cluster_config.load_files([], "x", str(tmp_path / "missing.py"))


def test_a_broken_file_is_an_error(tmp_path):
    (tmp_path / "ipcluster_config.py").write_text("c.Cluster.n = 1 +\n")
    with pytest.raises(SyntaxError):
        cluster_config.load_profile_config(str(tmp_path))


# -- profiles ------------------------------------------------------------------


@pytest.fixture
def top(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.delenv("IPP_PROFILE_DIR", raising=False)
    return tmp_path


def test_profile_folders(top, monkeypatch):
    assert default_profile_dir() == str(top / "profile_default")
    assert default_profile_dir("x") == str(top / "profile_x")
    assert all_profile_dirs() == []
    for name in ("b", "a"):
        create_profile_dir(str(top / f"profile_{name}"))
    (top / "profile_file").write_text("")
    assert all_profile_dirs() == [str(top / "profile_a"), str(top / "profile_b")]
    assert locate_profiles(["a"]) == [str(top / "profile_a")]
    with pytest.raises(FileNotFoundError, match="profile_c"):
        locate_profiles(["a", "c"])
    monkeypatch.setenv("IPP_PROFILE_DIR", "/given")
    assert default_profile_dir() == "/given"
    assert default_profile_dir("x") == str(top / "profile_x")


def test_layout_and_modes(top):
    path = top / "profile_x"
    create_profile_dir(str(path))
    create_profile_dir(str(path))
    assert sorted(os.listdir(path)) == ["log", "pid", "security", "startup"]
    assert (path / "security").stat().st_mode & 0o777 == 0o700


def test_abbreviations(top, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert abbreviate_profile_dir(str(top / "profile_x")) == "x"
    assert abbreviate_profile_dir("/home/me/profile_x") == "~/profile_x"
    assert abbreviate_profile_dir("/home/meadow") == "/home/meadow"


def test_the_session_of_ipython_decides(top, monkeypatch):
    shell = types.SimpleNamespace(
        ipython_dir="/ip", profile_dir=types.SimpleNamespace(location="/ip/profile_s")
    )
    module = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(__import__("sys").modules, "IPython", module)
    assert default_profile_dir() == "/ip/profile_s"
    assert default_profile_dir("x") == "/ip/profile_x"
