"""What the verbs of `ipcluster` share: options, configuration, logging."""

from __future__ import annotations

import ast
import difflib
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from traitlets import Container, Dict, TraitError
from traitlets.config import Config

from ... import options
from ..config import CONTROLLER_CLASSES, config_folders, forward_old_names, load_files
from ..profile import create_profile_dir

__all__ = [
    "ALREADY_STARTED",
    "ALREADY_STOPPED",
    "MACHINE_DEFAULTS",
    "ConfigError",
    "Session",
    "cluster_rows",
    "common_rows",
    "make_command",
    "open_session",
    "trait_classes",
    "version",
]

# Exit codes that scripts rely on.
ALREADY_STARTED = 10
ALREADY_STOPPED = 11

_CLASS_NAME = re.compile(r"[A-Z]\w*$")


class ConfigError(Exception):
    """The configuration cannot be used; the text says what is wrong."""


def version() -> str:
    import roundhouse

    return getattr(roundhouse, "__version__", "unknown")


def common_rows(cls: str, **defaults: Any) -> list[Any]:
    """The rows every verb takes; `defaults` replace defaults by trait name."""
    rows: list[Any] = [*options.common_options(cls), *options.common_flags(cls)]
    for row in rows:
        name = getattr(row, "name", "").rpartition(".")[2]
        if name in defaults:
            row.default = defaults[name]
    return rows


def cluster_rows(cls: str, *, controller: bool) -> list[Any]:
    """The rows for settings of Cluster that have short names."""

    def old(trait: str) -> list[str]:
        return [f"{c}.{trait}" for c in ("IPClusterStart", "IPClusterEngines")]

    rows = [
        options.Option(
            "Cluster.n", options.integer(0), None,
            "Number of engines; one per processor if it is not given.",
            alias="n", old=old("n"),
        ),
        options.Option(
            "Cluster.engine_launcher_class", options.text, "local",
            "How engines are launched: a short name or package.module.Class.",
            alias="engines", old=old("engine_launcher_class"),
        ),
        options.Flag(
            "daemonize", {f"{cls}.daemonize": True},
            "Return when everything is up and leave it running.",
        ),
        options.Option(
            f"{cls}.daemonize", options.boolean, False,
            "Return when everything is up and leave it running.",
        ),
        options.Flag(
            "init", {f"{cls}.copy_config_files": True},
            "Write a commented ipcluster_config.py into the profile if it has none.",
        ),
        options.Option(
            f"{cls}.copy_config_files", options.boolean, False,
            "Write a commented ipcluster_config.py into the profile if it has none.",
            same=["BaseIPythonApplication.copy_config_files"],
        ),
        options.Option(
            f"{cls}.early_shutdown", options.number(0), 30,
            "If all engines end within this many seconds, something is wrong: stop everything.",
        ),
        options.Option(
            f"{cls}.auto_create", options.boolean, True,
            "Create the profile if there is none.",
        ),
    ]  # fmt: skip
    if controller:
        rows += [
            options.Option(
                "Cluster.controller_launcher_class", options.text, "local",
                "How the controller is launched: a short name or package.module.Class.",
                alias="controller", old=old("controller_launcher_class"),
            ),
            options.Option(
                "Cluster.delay", options.number(0), 0.0,
                "Seconds between the starts of the controller and the engines.",
                alias="delay", old=old("delay"),
            ),
            options.Option(
                "Cluster.controller_ip", options.text, "",
                "Address on which the controller listens; '*' is every one.",
                alias="ip", old=[*old("controller_ip"), "HubFactory.ip", "IPController.ip"],
            ),
            options.Option(
                "Cluster.controller_location", options.text, "",
                "Host name or address under which the others find the controller.",
                alias="location",
                old=[*old("controller_location"), "HubFactory.location", "IPController.location"],
            ),
        ]  # fmt: skip
    return rows


class _ClusterCommand(options.Command):
    """A Command whose --help-all lists the traits of clusters and launchers."""

    def help(self, everything: bool = False) -> str:
        text: str = super().help(everything)
        if everything and self.foreign is not None:
            text += "\n" + "\n".join(_trait_help(self._full))
        return text


def _trait_help(known: dict[str, Any]) -> Iterator[str]:
    import textwrap

    for cls in trait_classes():
        for name, trait in sorted(cls.class_own_traits(config=True).items()):
            full = f"{cls.__name__}.{name}"
            if full in known:
                continue
            yield f"  --{full}=<{type(trait).__name__}>"
            default = (
                ""
                if name in MACHINE_DEFAULTS
                else f" Default: {trait.default_value_repr()}."
            )
            yield textwrap.fill(
                " ".join((trait.help or "").split()) + default, 79,
                initial_indent="      ", subsequent_indent="      ",
            )  # fmt: skip


# Their defaults are paths of this machine.
MACHINE_DEFAULTS = ("controller_cmd", "engine_cmd", "output_file")


def trait_classes() -> list[Any]:
    """Cluster and the launcher classes of this package."""
    from ..cluster import Cluster
    from ..launcher import all_launchers

    return [Cluster, *all_launchers()]


def make_command(
    prog: str, about: str, rows: list[Any], *, traits: bool, **kwargs: Any
) -> Any:
    """A Command; with `traits`, --Class.trait of launchers is let through."""
    foreign = (lambda cls, trait: bool(_CLASS_NAME.match(cls))) if traits else None
    return _ClusterCommand(prog, about, rows, foreign=foreign, **kwargs)


class Session:
    """One run of a verb.

    Attributes
    ----------
    parsed : options.Parsed
    values : dict
        Of the command's own settings, by full name.
    config : Config
        For Cluster and launchers: files, then command line.
    profile_dir, cluster_id : str
    log : logging.Logger
    log_file : str
        Where it goes; '' is stderr.
    """

    def __init__(self, cls: str, command: Any, parsed: Any) -> None:
        self.cls = cls
        self.command = command
        self.parsed = parsed
        self.values: dict[str, Any] = command.values(parsed)
        self.profile_dir = options.find_profile_dir(self.values, cls)
        self.config = Config()
        self.log = logging.getLogger("ipcluster")
        self.log_file = ""

    def get(self, trait: str) -> Any:
        """A setting of the command's own class."""
        return self.values[f"{self.cls}.{trait}"]

    @property
    def cluster_id(self) -> str:
        cluster_id: str = self.get("cluster_id")
        return cluster_id

    def profile_is_chosen(self) -> bool:
        """Whether somebody named a profile or its folder."""
        default = {f"{self.cls}.profile": "default", f"{self.cls}.profile_dir": ""}
        return any(self.values[k] != v for k, v in default.items())

    def fail(self, text: str, code: int = 1) -> NoReturn:
        self.log.critical("%s", text)
        raise SystemExit(code)


def open_session(cls: str, command: Any, argv: list[str]) -> Session:
    """Parse, read the configuration, change folder and set up logging."""
    parsed = command.start(argv, version=version())
    session = Session(cls, command, parsed)
    if session.get("ipython_dir"):
        os.environ["IPYTHONDIR"] = options.find_ipython_dir(session.get("ipython_dir"))
    sentences = [*parsed.warnings, *_load(session)]
    if session.get("work_dir"):
        try:
            os.chdir(session.get("work_dir"))
        except OSError as e:
            raise ConfigError(f"--work-dir: {e.filename}: {e.strerror}") from None
    _set_up_log(session)
    if session.get("log_url"):
        sentences.append(
            "log lines are not published over the network; use --log-to-file"
        )
    for sentence in sentences:
        session.log.warning("%s", sentence)
    return session


def _load(session: Session) -> list[str]:
    """Merge files and command line into session.config and session.values."""
    folders = config_folders(session.profile_dir)
    try:
        config = load_files(folders, "ipcluster_config", session.get("config_file"))
    except Exception as e:
        where = (
            f"line {e.lineno} of {e.filename}: " if isinstance(e, SyntaxError) else ""
        )
        raise ConfigError(f"configuration: {where}{type(e).__name__}: {e}") from e
    said = forward_old_names(config)
    try:
        session.values = session.command.values(session.parsed, config)
    except options.UsageError as e:
        raise ConfigError(str(e)) from None
    for full, value in session.parsed.given.items():
        section, _, trait = full.rpartition(".")
        if section != session.cls:
            config[section][trait] = value
    for full, text in session.parsed.foreign.items():
        section, _, trait = full.rpartition(".")
        config[section][trait] = text
    said += forward_old_names(config)
    session.config = config
    if session.parsed.foreign:
        _check_foreign(session)
    return said


def _check_foreign(session: Session) -> None:
    """Refuse --Class.trait of classes and traits that do not exist."""
    from ..launcher.registry import find_launcher_class

    classes: dict[str, Any] = {c.__name__: c for c in trait_classes()}
    for kind in ("engine", "controller"):
        name = session.config.Cluster.get(f"{kind}_launcher_class")
        if isinstance(name, str):
            try:
                chosen = find_launcher_class(name, kind)
            except (KeyError, ImportError) as e:
                raise ConfigError(e.args[0]) from None
            classes.update(
                {c.__name__: c for c in chosen.__mro__ if hasattr(c, "class_traits")}
            )
    for full, text in session.parsed.foreign.items():
        section, _, trait = full.rpartition(".")
        if section in CONTROLLER_CLASSES:
            continue
        cls = classes.get(section)
        known = [
            f"{c}.{t}"
            for c, k in classes.items()
            for t in k.class_trait_names(config=True)
        ]
        if cls is None or full not in known:
            near = difflib.get_close_matches(full, known, n=1, cutoff=0.5)
            hint = f"; did you mean --{near[0]}?" if near else ""
            sys.stderr.write(f"{session.command.prog}: unknown option --{full}{hint}\n")
            raise SystemExit(2)
        try:
            session.config[section][trait] = _convert(cls.class_traits()[trait], text)
        except (ValueError, TypeError, TraitError) as e:
            sys.stderr.write(f"{session.command.prog}: --{full}: {e}\n")
            raise SystemExit(2) from None


def _convert(trait: Any, text: str) -> Any:
    """The value that a text on the command line means for a trait."""
    if isinstance(trait, (Container, Dict)) and text.lstrip()[:1] in ("[", "(", "{"):
        try:
            value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            raise ValueError(f"{text!r} is not a Python list or dict") from None
    elif isinstance(trait, Container):
        value = [text]
    else:
        value = trait.from_string(text)
    return value


class _Formatter(logging.Formatter):
    """``2024-05-06 07:08:09.123 [Name] text``, the severe ones with their level."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname} | " if record.levelno >= logging.WARNING else ""
        text = f"{stamp}.{int(record.msecs):03d} [{record.name}] {level}{record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def _set_up_log(session: Session) -> None:
    log = session.log
    log.setLevel(session.get("log_level"))
    log.propagate = False
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if session.get("log_to_file"):
        name = f"ipcluster-{session.cluster_id}-{os.getpid()}.log".replace("--", "-")
        create_profile_dir(session.profile_dir)
        session.log_file = os.path.join(session.profile_dir, "log", name)
        handler = logging.FileHandler(session.log_file)
    handler.setFormatter(_Formatter())
    log.handlers[:] = [handler]
