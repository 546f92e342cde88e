"""Methods and datasets by name.

A plugin is one file: ``@register_method("name")`` on a :class:`bench.types.Method` subclass, or ``@register_dataset("name")``
on a function ``(rng, *, parameters) -> Problem``. Built-ins live in the packages ``methods`` and ``datasets`` and are
imported on the first question; others come from ``--plugin file.py`` or from installed packages through the entry-point
groups ``cadibench.methods`` and ``cadibench.datasets``.

Parameter values are checked against the annotations of the constructor or function, so a wrong one costs nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
import threading
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import pydantic
import yaml

from bench.errors import BenchError, InputError, UnknownName
from bench.seeds import canonical, derive_seed
from bench.sortability import sortability
from bench.types import Capabilities, Meta, Method, Problem

MethodClass = TypeVar("MethodClass", bound=type[Method])
DatasetFunction = TypeVar("DatasetFunction", bound=Callable[..., Problem])


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered plugin: how to make it, what it says of itself, and where its source lies."""

    kind: str
    name: str
    factory: Callable[..., Any]
    meta: Meta
    source: Path | None
    defaults: Mapping[str, Any]
    hints: Mapping[str, Any]
    capabilities: Capabilities | None = None
    builds_on: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    golden: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A plugin with checked parameters; those equal to their default are left out, so a new parameter changes no seed."""

    kind: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``name[param=value]``, the form that the command line takes.

        Examples
        --------
        >>> Choice("method", "random", {"edges_per_node": 2.0}).label
        'random[edges_per_node=2.0]'
        """
        if not self.parameters:
            return self.name
        inner = ",".join(f"{k}={_literal(v)}" for k, v in sorted(self.parameters.items()))
        return f"{self.name}[{inner}]"


def _literal(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)


_entries: dict[str, dict[str, Entry]] = {"method": {}, "dataset": {}}
_loaded_plugins: dict[Path, tuple[ModuleType, str]] = {}
"""By file: its module, and the hash of what was loaded."""
_builtins_loaded = False
_loading = threading.RLock()
"""Threads of one worker wait until the first of them has imported everything."""


def register_method(name: str) -> Callable[[MethodClass], MethodClass]:
    """Class decorator: make a :class:`Method` known under ``name``.

    Raises
    ------
    InputError
        If the name is taken, or the class lacks ``capabilities`` or ``meta``.
    """

    def decorate(cls: MethodClass) -> MethodClass:
        if not (inspect.isclass(cls) and issubclass(cls, Method)):
            raise InputError(f"method '{name}' must be a class derived from bench.types.Method, got {cls!r}")
        for attribute, kind in (("capabilities", Capabilities), ("meta", Meta)):
            value = getattr(cls, attribute, None)
            if not isinstance(value, kind):
                raise InputError(f"method '{name}' must declare '{attribute}' of type {kind.__name__}, got {value!r}")
        cls.name = name
        builds_on = tuple(getattr(cls, "builds_on", ()))
        _add(_entry("method", name, cls, cls.meta, cls.__init__, capabilities=cls.capabilities, builds_on=builds_on))
        return cls

    return decorate


def register_dataset(
    name: str, *, meta: Meta, tags: frozenset[str] | set[str] = frozenset(), golden: str = ""
) -> Callable[[DatasetFunction], DatasetFunction]:
    """Function decorator: make ``function(rng, **parameters) -> Problem`` known under ``name``.

    Parameters
    ----------
    name : str
        Unique among datasets.
    meta : Meta
        Summary, reference, licence.
    tags : set of str
        ``"real"`` for measured data, ``"linear"`` where every mechanism is linear with noise of constant variance.
    golden : str
        Digest of the problem of seed 0 under the defaults, as ``test-plugin`` tells it: where it is given, a change of the
        dataset, on purpose or by another version of a package, does not go unnoticed.
    """

    def decorate(function: DatasetFunction) -> DatasetFunction:
        _add(_entry("dataset", name, function, meta, function, skip=1, tags=frozenset(tags), golden=golden))
        return function

    return decorate


def _entry(kind: str, name: str, factory: Any, meta: Meta, signature_of: Any, skip: int = 1, **more: Any) -> Entry:
    if not name.isidentifier():
        raise InputError(f"{kind} names must be identifiers (letters, digits, _), got '{name}'")
    parameters = list(inspect.signature(signature_of).parameters.values())[skip:]
    for p in parameters:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.annotation is not p.empty:
            raise InputError(f"{kind} '{name}' must name its parameters, got *{p.name}")
    parameters = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    hints = typing.get_type_hints(signature_of, include_extras=True) if not _is_slot_wrapper(signature_of) else {}
    return Entry(
        kind=kind,
        name=name,
        factory=factory,
        meta=meta,
        source=_source(factory),
        defaults={p.name: p.default for p in parameters},
        hints={p.name: hints.get(p.name, Any) for p in parameters},
        **more,
    )


def _source(factory: Any) -> Path | None:
    try:
        found = inspect.getsourcefile(factory)
    except (OSError, TypeError):  # defined at a prompt
        return None
    return Path(found).resolve() if found else None


def _is_slot_wrapper(function: Any) -> bool:
    return function is object.__init__


def _add(entry: Entry) -> None:
    known = _entries[entry.kind].get(entry.name)
    if known is not None and (known.source, known.factory.__qualname__) != (entry.source, entry.factory.__qualname__):
        raise InputError(f"{entry.kind} '{entry.name}' is already registered by {known.source}; choose another name")
    _entries[entry.kind][entry.name] = entry


def _load_builtins() -> None:
    global _builtins_loaded
    with _loading:
        if not _builtins_loaded:
            _builtins_loaded = True  # from the start: a plugin may ask the registry while it is imported
            try:
                _import_builtins()
            except BaseException:
                _builtins_loaded = False  # else every later question would find nothing, and not say why
                raise


def _import_builtins() -> None:
    for package_name in ("methods", "datasets"):
        package = importlib.import_module(package_name)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package_name}.{module.name}")
    for group in ("cadibench.methods", "cadibench.datasets"):
        for point in importlib.metadata.entry_points(group=group):
            try:
                point.load()
            except BenchError:
                raise
            except Exception as reason:
                raise InputError(
                    f"entry point '{point.name}' of {group} ({point.value}) failed to load: {reason!r}"
                ) from reason


def load_plugin(path: str | Path) -> ModuleType:
    """Import a plugin file; again only where it was edited meanwhile, and then what it registers replaces what it did.

    Raises
    ------
    InputError
        If there is no such file, or it fails to import.
    """
    with _loading:
        return _load_file(Path(path).resolve(), str(path))


def _load_file(file: Path, path: str) -> ModuleType:
    if not file.is_file() or file.suffix != ".py":
        raise InputError(f"--plugin expects a Python file, got '{path}'" + ("" if file.exists() else " (no such file)"))
    _load_builtins()
    content = hashlib.blake2b(file.read_bytes(), digest_size=12).hexdigest()
    if file in _loaded_plugins:
        former, known = _loaded_plugins[file]
        if known == content:
            return former
        _forget(file)
    name = f"cadibench_plugin_{file.stem}_{hashlib.blake2b(str(file).encode(), digest_size=4).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BenchError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as reason:
        del sys.modules[name]
        raise InputError(f"plugin '{path}' failed to import: {type(reason).__name__}: {reason}") from reason
    _loaded_plugins[file] = module, content
    return module


def _forget(file: Path) -> None:
    del _loaded_plugins[file]
    for kind in _entries.values():
        for name in [e.name for e in kind.values() if e.source == file]:
            del kind[name]


def loaded_plugins() -> dict[Path, str]:
    """Files given to :func:`load_plugin`, in order, with the hash of what was loaded; a child process loads the same."""
    return {file: content for file, (_, content) in _loaded_plugins.items()}


def methods() -> dict[str, Entry]:
    """Every known method by name."""
    _load_builtins()
    return dict(sorted(_entries["method"].items()))


def datasets() -> dict[str, Entry]:
    """Every known dataset by name."""
    _load_builtins()
    return dict(sorted(_entries["dataset"].items()))


def entry(kind: str, name: str) -> Entry:
    """Look a plugin up by kind ("method" or "dataset") and name."""
    known = methods() if kind == "method" else datasets()
    if name not in known:
        raise UnknownName(kind, name, known)
    return known[name]


def parse_spec(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``name[param=value,other=[1, 2]]`` into the name and its parameters; values are YAML.

    Raises
    ------
    InputError
        If the text has not that form.

    Examples
    --------
    >>> parse_spec("ut_igsp[alpha=0.001,ci_data=pooled]")
    ('ut_igsp', {'alpha': 0.001, 'ci_data': 'pooled'})
    >>> parse_spec("empty")
    ('empty', {})
    """
    name, bracket, rest = text.strip().partition("[")
    form = f"expected name[param=value,...], got '{text}'"
    if bracket and not rest.endswith("]"):
        raise InputError(form)
    parameters: dict[str, Any] = {}
    for part in _split_commas(rest[:-1]) if bracket else []:
        key, equals, value = part.partition("=")
        if not equals or not key.strip().isidentifier():
            raise InputError(form)
        try:
            parameters[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"{form}: cannot read the value of '{key.strip()}'") from None
    if not name.isidentifier():
        raise InputError(form)
    return name, parameters


def _split_commas(text: str) -> list[str]:
    """Split at the commas outside any bracket."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [p for p in [*parts, text[start:]] if p.strip()]


def choose(kind: str, spec: str, parameters: Mapping[str, Any] | None = None) -> Choice:
    """Resolve a name and check its parameters, without making anything.

    Raises
    ------
    UnknownName
        If the plugin or a parameter is unknown; the message names the nearest.
    InputError
        If a value does not fit its annotation, or a required parameter is missing.
    """
    name, given = parse_spec(spec)
    plugin = entry(kind, name)
    given |= dict(parameters or {})
    checked: dict[str, Any] = {}
    for key, value in given.items():
        if key not in plugin.defaults:
            raise UnknownName(f"parameter of {kind} '{name}':", key, plugin.defaults)
        checked[key] = _checked(plugin, key, value)
    for key, default in plugin.defaults.items():
        if default is inspect.Parameter.empty and key not in checked:
            raise InputError(f"{kind} '{name}' needs the parameter '{key}'")
    explicit = {k: v for k, v in checked.items() if canonical(v) != canonical(plugin.defaults[k])}
    return Choice(kind, name, explicit)


def _checked(plugin: Entry, key: str, value: Any) -> Any:
    hint = plugin.hints[key]
    try:
        return pydantic.TypeAdapter(hint).validate_python(value)
    except pydantic.ValidationError as reason:
        problems = "; ".join(_problem(e) for e in reason.errors()[:3])
        raise InputError(f"the '{key}' parameter of {plugin.kind} '{plugin.name}': {problems}, got {value!r} instead") from None


def _problem(error: Any) -> str:
    where = ".".join(str(x) for x in error["loc"] if not str(x).startswith("function-"))
    text = str(error["msg"])
    text = text[0].lower() + text[1:]
    return f"{where}: {text}" if where else text


def make_method(spec: str, **parameters: Any) -> Method:
    """Make a method from its name, or from ``name[param=value]``.

    Raises
    ------
    InputError
        As :func:`choose`, or if the constructor refuses.

    Examples
    --------
    >>> make_method("empty").name
    'empty'
    >>> make_method("emty")
    Traceback (most recent call last):
    ...
    bench.errors.UnknownName: unknown method 'emty'; did you mean 'empty'? ...
    """
    choice = choose("method", spec, parameters)
    try:
        method: Method = entry("method", choice.name).factory(**choice.parameters)
    except BenchError:
        raise
    except Exception as reason:
        text = " ".join(f"{type(reason).__name__}: {reason}".split())
        raise InputError(f"method '{choice.label}' cannot be made: {text}") from reason
    return method


def make_problem(spec: str, *, seed: int, **parameters: Any) -> Problem:
    """Draw a problem in raw units; the same seed and parameters give the same problem.

    Where the true graph is known its ``diagnostics`` gain ``varsortability`` and ``r2_sortability`` (of the raw data).
    """
    choice = choose("dataset", spec, parameters)
    rng = np.random.default_rng(derive_seed("problem", seed))
    problem: Problem = entry("dataset", choice.name).factory(rng, **choice.parameters)
    return with_sortability(problem)


def with_sortability(problem: Problem) -> Problem:
    """The same problem with its sortability diagnostics, computed on the data as they are now."""
    if problem.truth is None or problem.truth.adjacency is None:
        return problem
    found = sortability(problem.observed, problem.truth.adjacency)
    return dataclasses.replace(problem, diagnostics={**problem.diagnostics, **found})
