"""Command lines as tables.

A command is a `Command` holding rows: `Option` (a value) and `Flag` (a switch
that sets values).  The rows are the only place where an option is declared;
parsing, defaults, ranges, help texts and suggestions all come from them.

Every option has one full name of the form ``Class.trait`` and any number of
aliases.  Accepted forms::

    --name=value  --name value  -n 4  -n=4  -n4
    --flag  --flag=False  --Class.trait=value  --Class.trait value  --

A wrong name is an error that suggests the nearest right one.  Nothing heavy is
imported: engines parse their command line with this, and start in milliseconds.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any


__all__ = [
    "Command",
    "Flag",
    "Kind",
    "Option",
    "Parsed",
    "UsageError",
    "boolean",
    "choice",
    "common_flags",
    "common_options",
    "find_ipython_dir",
    "find_profile_dir",
    "integer",
    "items",
    "load_config",
    "log_level",
    "number",
    "path",
    "text",
]


class UsageError(Exception):
    """The command line cannot be understood; the text says which word and why."""


# -- kinds of values ----------------------------------------------------------


class Kind:
    """How the text of a value becomes a Python value.

    `convert(text)` raises ValueError with a text that completes the sentence
    "--name=value: ...".  `accepts(value)` checks values that are Python objects
    already (configuration files); None is accepted where it is the default.
    """

    __slots__ = ("_convert", "describe", "many", "metavar", "types")

    def __init__(
        self,
        metavar: str,
        convert: Any,
        describe: str = "",
        types: Any = (str,),
        many: bool = False,
    ) -> None:
        self.metavar = metavar
        self.describe = describe
        self._convert = convert
        self.types = types
        self.many = many

    def convert(self, value: Any) -> Any:
        return self._convert(value)

    def coerce(self, value: Any) -> Any:
        """The value of a configuration file, checked like a typed one."""
        if isinstance(value, str):
            return self._convert(value)
        if isinstance(value, bool) and bool not in self.types:
            raise ValueError(f"{value!r} is not {self.describe or 'text'}")
        if self.types and not isinstance(value, self.types):
            raise ValueError(f"{value!r} is not {self.describe or 'text'}")
        if self.many or isinstance(value, bool):
            return value
        if isinstance(value, (int, float)):
            return self._convert(repr(value))  # once more, for the range
        return value


def _in_range(value: Any, low: Any, high: Any) -> Any:
    if low is not None and value < low:
        raise ValueError(f"{value} is below the smallest value, {low}")
    if high is not None and value > high:
        raise ValueError(f"{value} is above the largest value, {high}")
    return value


def _range_text(noun: str, low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{noun} from {low} to {high}"
    if low is not None:
        return f"{noun}, {low} or more"
    if high is not None:
        return f"{noun}, at most {high}"
    return noun


def integer(low: int | None = None, high: int | None = None) -> Kind:
    """Whole numbers from low to high, both included."""
    describe = _range_text("a whole number", low, high)

    def convert(s: str) -> Any:
        try:
            value = int(s)
        except ValueError:
            raise ValueError(f"{s!r} is not {describe}") from None
        return _in_range(value, low, high)

    return Kind("INT", convert, describe, (int,))


def number(low: float | None = None, high: float | None = None) -> Kind:
    """Numbers from low to high, both included; never nan."""
    describe = _range_text("a number", low, high)

    def convert(s: str) -> Any:
        try:
            value = float(s)
        except ValueError:
            raise ValueError(f"{s!r} is not {describe}") from None
        if value != value:
            raise ValueError(f"{s!r} is not {describe}")
        return _in_range(value, low, high)

    return Kind("NUMBER", convert, describe, (int, float))


_BOOLEANS = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


def _to_bool(s: str) -> Any:
    try:
        return _BOOLEANS[s.lower()]
    except KeyError:
        raise ValueError(f"{s!r} is not True or False") from None


boolean = Kind("BOOL", _to_bool, "True or False", (bool,))
text = Kind("TEXT", str, "text")
path = Kind("PATH", os.path.expanduser, "a path", (str, os.PathLike))


def choice(*names: str, fold: bool = True) -> Any:
    """One of a few names; upper and lower case are the same unless fold=False."""
    known = {(n.lower() if fold else n): n for n in names}

    def convert(s: str) -> Any:
        try:
            return known[s.lower() if fold else s]
        except KeyError:
            raise ValueError(
                f"{s!r} is not one of {', '.join(names)}{_suggest(s, names)}"
            ) from None

    return Kind("|".join(names), convert, "one of " + ", ".join(names))


def _to_items(s: str) -> Any:
    s = s.strip()
    if s[:1] in ("[", "(", "{"):
        import ast

        try:
            return ast.literal_eval(s)
        except (ValueError, SyntaxError):
            raise ValueError(f"{s!r} is not a Python list or dict") from None
    return [s]


# Several values: repeat the option, or give one Python list.
items = Kind("ITEM", _to_items, "a list", (list, tuple, dict, set), many=True)

_LEVELS = {
    "DEBUG": 10,
    "INFO": 20,
    "WARN": 30,
    "WARNING": 30,
    "ERROR": 40,
    "CRITICAL": 50,
}


def _to_level(s: str) -> Any:
    if s.upper() in _LEVELS:
        return _LEVELS[s.upper()]
    try:
        return _in_range(int(s), 0, 100)
    except ValueError:
        raise ValueError(
            f"{s!r} is not a level: 0 to 100, or DEBUG, INFO, WARN, ERROR, CRITICAL"
        ) from None


log_level = Kind("LEVEL", _to_level, "a log level", (int,))


# -- rows ---------------------------------------------------------------------


class Option:
    """One value a command takes.

    name     "Class.trait"
    kind     a Kind
    default  used when nobody says otherwise; never converted
    help     one or two sentences
    alias    names for "--alias"; one letter makes "-a"
    old      full names of earlier versions that mean the same (a warning)
    same     further full names that mean the same (no warning)
    env      environment variable that replaces the default
    """

    __slots__ = ("alias", "default", "env", "help", "kind", "name", "old", "same")

    def __init__(
        self,
        name: str,
        kind: Any,
        default: Any,
        help: Any,
        *,
        alias: Any = (),
        old: Any = (),
        same: Any = (),
        env: Any = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.help = help
        self.alias = (alias,) if isinstance(alias, str) else tuple(alias)
        self.old = tuple(old)
        self.same = tuple(same)
        self.env = env


class Flag:
    """A switch: sets full names to fixed values."""

    __slots__ = ("alias", "help", "sets")

    def __init__(self, alias: Any, sets: Any, help: Any) -> None:
        self.alias = (alias,) if isinstance(alias, str) else tuple(alias)
        self.sets = dict(sets)
        self.help = help


class Parsed:
    """What a command line said.

    given     full name -> value, only what was typed
    foreign   "Class.trait" -> raw text, for classes the command lets through
    args      positional words
    rest      words after "--" (None if there was none)
    warnings  sentences for the log
    """

    __slots__ = ("args", "foreign", "given", "rest", "warnings")

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.foreign: dict[str, str] = {}
        self.args: list[str] = []
        self.rest: list[str] | None = None
        self.warnings: list[str] = []


def _suggest(word: str, known: Any) -> Any:
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _spell(alias: Any) -> Any:
    return ("-" if len(alias) == 1 else "--") + alias


# -- commands -----------------------------------------------------------------


class Command:
    """A command's table and everything derived from it.

    prog      name shown in texts
    about     first paragraph of the help
    rows      Options and Flags
    args      metavar of positional words; None: there are none
    rest      metavar of what follows "--"; None: nothing may
    foreign   callable(cls, trait) -> bool: let --cls.trait=value of a class that
              is not in the table through, as text
    examples  lines for the end of the help
    """

    def __init__(
        self,
        prog: str,
        about: str,
        rows: Any,
        *,
        args: Any = None,
        rest: Any = None,
        foreign: Any = None,
        examples: Any = (),
    ) -> None:
        self.prog = prog
        self.about = about
        self.options = [r for r in rows if isinstance(r, Option)]
        self.flags = [r for r in rows if isinstance(r, Flag)]
        self.args = args
        self.rest = rest
        self.foreign = foreign
        self.examples = tuple(examples)
        self._full: dict[str, Option] = {}
        self._alias: dict[str, Option] = {}
        self._flag: dict[str, Flag] = {}
        for row in self.options:
            for name in (row.name, *row.same, *row.old):
                if name in self._full:
                    raise ValueError(f"{prog}: {name} is declared twice")
                self._full[name] = row
            for name in row.alias:
                self._declare(self._alias, name, row)
        for flag in self.flags:
            for name in flag.alias:
                self._declare(self._flag, name, flag)
            for name in flag.sets:
                if name not in self._full:
                    raise ValueError(
                        f"{prog}: flag {flag.alias[0]} sets unknown {name}"
                    )

    def _declare(self, table: Any, name: str, row: Any) -> None:
        if name in table:
            raise ValueError(f"{self.prog}: {_spell(name)} is declared twice")
        table[name] = row

    # parsing

    def parse(self, argv: Sequence[str]) -> Any:
        """Read the words after the command's name.  Raises UsageError."""
        out = Parsed()
        i = 0
        while i < len(argv):
            word = argv[i]
            i += 1
            if word == "--":
                if self.rest is None:
                    raise UsageError("'--': this command takes nothing after it")
                out.rest = list(argv[i:])
                break
            if len(word) < 2 or word[0] != "-" or _is_number(word):
                if self.args is None:
                    raise UsageError(f"unexpected argument {word!r}{self._near(word)}")
                out.args.append(word)
                continue
            i += self._take(out, word, argv[i] if i < len(argv) else None)
        return out

    def _take(self, out: Any, word: str, following: Any) -> Any:
        """Store one option; returns how many following words it used."""
        short = not word.startswith("--")
        name, eq, value = word.lstrip("-").partition("=")
        if (
            short
            and len(name) > 1
            and name not in self._alias
            and name not in self._flag
            and name[0] in self._alias
        ):
            name, eq, value = word[1], "=", word[2:]  # -n4; a "=" is the value's
        if name in self._flag and not (name in self._alias and eq):
            self._switch(out, word, name, eq, value)
            return 0
        row = self._alias.get(name)
        if row is None and "." in name:
            row = self._full.get(name)
            if row is not None and name in row.old:
                out.warnings.append(f"--{name} is an old name; use --{row.name}")
            if row is None and self._lets_through(name):
                used, value = self._value(word, eq, value, following)
                out.foreign[name] = value
                return used
        if row is None:
            raise UsageError(
                f"unknown option {word.partition('=')[0]}{self._near(name)}"
            )
        alone = following is None or following.lower() not in _BOOLEANS
        if row.kind is boolean and not eq and alone:
            out.given[row.name] = True
            return 0
        used, value = self._value(word, eq, value, following)
        self._store(out.given, row, value, word.partition("=")[0])
        return used

    def _lets_through(self, name: str) -> bool:
        cls, _, trait = name.rpartition(".")
        return bool(self.foreign and cls and trait and self.foreign(cls, trait))

    @staticmethod
    def _value(word: str, eq: Any, value: Any, following: Any) -> Any:
        if eq:
            return 0, value
        if following is None or (following.startswith("--") and following != "--"):
            raise UsageError(f"{word}: a value is missing")
        return 1, following

    @staticmethod
    def _store(given: Any, row: Any, value: Any, spelled: str) -> None:
        try:
            value = row.kind.convert(value)
        except ValueError as e:
            raise UsageError(f"{spelled}: {e}") from None
        if (
            row.kind.many
            and isinstance(value, list)
            and isinstance(given.get(row.name), list)
        ):
            value = given[row.name] + value
        given[row.name] = value

    def _switch(self, out: Any, word: str, name: str, eq: Any, value: Any) -> None:
        row = self._flag[name]
        if not eq:
            out.given.update(row.sets)
            return
        try:
            on = _to_bool(value)
        except ValueError as e:
            raise UsageError(f"{word.partition('=')[0]}: {e}") from None
        for full, setting in row.sets.items():
            if on:
                out.given[full] = setting
            elif isinstance(setting, bool):
                out.given[full] = not setting
            else:
                out.given.pop(full, None)

    def _near(self, name: str) -> Any:
        known = {}
        for n in (*self._alias, *self._flag, "help", "help-all", "version"):
            known[n] = _spell(n)
        for n in self._full:
            known[n] = "--" + n
        import difflib

        near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
        return (
            f"; did you mean {known[near[0]]}?" if near else f"; see {self.prog} --help"
        )

    # values

    def values(self, parsed: Any = None, config: Any = None) -> Any:
        """Full name -> value: command line, else config, else environment,
        else default.

        `config` is a dict of class name to dict of traits, as load_config
        returns it.  Raises UsageError for a config value of the wrong kind.
        """
        out: dict[str, Any] = {}
        for row in self.options:
            value = os.environ.get(row.env) if row.env else None
            if value:
                self._store(out, row, value, f"environment variable {row.env}")
            else:
                out[row.name] = row.default
            for full in (*row.old, *row.same, row.name):
                cls, _, trait = full.rpartition(".")
                traits = (config or {}).get(cls, {})
                if trait in traits:
                    out[row.name] = self._coerce(row, full, traits[trait])
        if parsed is not None:
            out.update(parsed.given)
        return out

    @staticmethod
    def _coerce(row: Any, full: Any, value: Any) -> Any:
        if value is None or (
            isinstance(value, type(row.default)) and value == row.default
        ):
            return value
        try:
            return row.kind.coerce(value)
        except ValueError as e:
            raise UsageError(f"c.{full}: {e}") from None

    # help

    def help(self, everything: bool = False) -> Any:
        """The text of --help, or with everything=True of --help-all."""
        out = [self.usage(), "", _wrap(self.about, "", 79), ""]
        out.append("Options")
        for flag in self.flags:
            out.append("  " + ", ".join(_spell(a) for a in flag.alias))
            out.append(_wrap(flag.help, "      ", 79))
        shown = [r for r in self.options if r.alias]
        for row in shown:
            out.extend(self._option_help(row, ", ".join(_spell(a) for a in row.alias)))
        out += [
            "  -h, --help", "      Show this text and exit.",
            "  --help-all", "      Show every option there is and exit.",
            "  --version", "      Show the version and exit.",
        ]  # fmt: skip
        if everything:
            out += [
                "",
                "All settings, as --Class.trait=value or c.Class.trait in a file",
            ]
            for row in self.options:
                out.extend(self._option_help(row, "--" + row.name))
        else:
            out += ["", f"{self.prog} --help-all lists every setting."]
        if self.examples:
            out += ["", "Examples", *("  " + e for e in self.examples)]
        return "\n".join(out) + "\n"

    def usage(self) -> str:
        words = [f"usage: {self.prog} [options]"]
        if self.args:
            words.append(f"[{self.args}]")
        if self.rest:
            words.append(f"[-- {self.rest}]")
        return " ".join(words)

    @staticmethod
    def _option_help(row: Any, spelled: str) -> Iterator[Any]:
        note = ""
        if row.default not in (None, "", [], {}, ()):
            note = f" Default: {row.default}."
        if row.env:
            note += f" Environment: {row.env}."
        yield f"  {spelled}={row.kind.metavar}"
        yield _wrap(row.help + note, "      ", 79)

    # running

    def start(self, argv: Sequence[str] | None = None, version: Any = None) -> Any:
        """parse() for a main program: answers --help, --help-all and --version,
        prints usage errors on stderr, and exits then; else returns Parsed.
        """
        argv = list(sys.argv[1:] if argv is None else argv)
        own = argv[: argv.index("--")] if "--" in argv else argv
        if "--help-all" in own:
            sys.stdout.write(self.help(everything=True))
            raise SystemExit(0)
        if "--help" in own or "-h" in own:
            sys.stdout.write(self.help())
            raise SystemExit(0)
        if "--version" in own:
            if version is None:
                from . import __version__ as version
            sys.stdout.write(f"{version}\n")
            raise SystemExit(0)
        try:
            return self.parse(argv)
        except UsageError as e:
            sys.stderr.write(f"{self.prog}: {e}\n")
            raise SystemExit(2) from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _wrap(paragraph: Any, indent: Any, width: Any) -> Any:
    import textwrap

    return textwrap.fill(
        " ".join(paragraph.split()),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
    )


# -- what every command has ---------------------------------------------------


def common_options(cls: str) -> list[Option]:
    """Rows every command takes; `cls` is the command's own class name."""

    def row(
        trait: Any,
        kind: Any,
        default: Any,
        help: Any,
        alias: Any,
        *bases: Any,
        env: Any = None,
    ) -> Any:
        same = [f"{b}.{trait}" for b in bases]
        return Option(
            f"{cls}.{trait}", kind, default, help, alias=alias, same=same, env=env
        )

    ipython = "BaseIPythonApplication"
    parallel = "BaseParallelApplication"
    return [
        row("profile", text, "default", "Name of the profile.", "profile", ipython, parallel),
        row(
            "profile_dir", path, "", "Folder of the profile; wins over --profile.",
            "profile-dir", "ProfileDir", parallel, env="IPP_PROFILE_DIR",
        ),
        row(
            "ipython_dir", path, "",
            "Folder that holds the profiles; ~/.ipython if neither this nor IPYTHONDIR is set.",
            "ipython-dir", ipython, parallel,
        ),
        row(
            "cluster_id", text, "", "Tells several clusters of one profile apart.",
            "cluster-id", parallel, env="IPP_CLUSTER_ID",
        ),
        row(
            "log_level", log_level, 20, "Least severe messages to log.",
            "log-level", "Application", parallel,
        ),
        row("log_to_file", boolean, False, "Log to a file in the profile's log folder.", (), parallel),
        row("clean_logs", boolean, False, "Remove old log files at start.", "clean-logs", parallel),
        row("log_url", text, "", "Address of a log collector.", "log-url", parallel),
        row("work_dir", path, "", "Folder to change to at start.", "work-dir", parallel),
        row("config_file", path, "", "A configuration file to read as well.", "config", ipython),
    ]  # fmt: skip


def common_flags(cls: str) -> list[Flag]:
    """Switches every command takes."""
    level = f"{cls}.log_level"
    return [
        Flag("debug", {level: 10}, "Log everything (log level 10)."),
        Flag("quiet", {level: 50}, "Log only what is critical (log level 50)."),
        Flag("log-to-file", {f"{cls}.log_to_file": True}, "Log to a file in the profile's log folder."),
    ]  # fmt: skip


def find_ipython_dir(given: str = "") -> str:
    """The folder of profiles: given, $IPYTHONDIR or ~/.ipython."""
    return os.path.abspath(
        os.path.expanduser(given or os.environ.get("IPYTHONDIR") or "~/.ipython")
    )


def find_profile_dir(values: dict[str, Any], cls: str) -> str:
    """The folder of the profile chosen by the values of common_options(cls)."""
    given = values[f"{cls}.profile_dir"]
    if given:
        return os.path.abspath(os.path.expanduser(str(given)))
    base = find_ipython_dir(values[f"{cls}.ipython_dir"])
    return os.path.join(base, "profile_" + (values[f"{cls}.profile"] or "default"))


def load_config(*paths: Any) -> Any:
    """Evaluate configuration files (``c.Class.trait = value``) in order.

    Files that do not exist are passed over; traitlets is imported only if one
    does.  Returns {class name: {trait: value}}.
    """
    found = [os.path.abspath(p) for p in paths if p and os.path.isfile(p)]
    if not found:
        return {}
    from traitlets.config.loader import Config, LazyConfigValue, PyFileConfigLoader

    merged = Config()
    for p in found:
        loader = PyFileConfigLoader(os.path.basename(p), path=os.path.dirname(p))
        merged.merge(loader.load_config())
    out: dict[str, Any] = {}
    for cls, traits in merged.items():
        if not isinstance(traits, Config):
            continue
        for trait, value in traits.items():
            if isinstance(value, LazyConfigValue):
                value = value.get_value([] if value._extend or value._prepend else None)
            out.setdefault(cls, {})[trait] = value
    return out
