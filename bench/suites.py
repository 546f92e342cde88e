"""Suite files: what to run, read strictly from YAML into one frozen specification.

Keys and command-line flags have the same names. An unknown key, plugin or parameter stops before any work, with one line
that names the file, the key and the nearest known name. Parameters are resolved here, so a :class:`Suite` that exists
can be run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pydantic
import pydantic_core
import yaml
from pydantic import BaseModel, ConfigDict, Field

from bench import registry
from bench.columns import EXTRA_METRICS
from bench.errors import InputError, UnknownName, nearest
from bench.files import write_atomic
from bench.seeds import data_seed

Track = Literal["unknown", "oracle", "graph"]

BUILT_IN = Path(__file__).parent / "suites"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Item(_Strict):
    """A plugin with parameters, written ``name[param=value]`` or as a mapping; ``label`` is what tables call it."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    label: str = ""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def _resolve(self, kind: str) -> None:
        choice = registry.choose(kind, self.name, self.parameters)
        label = self.label or choice.label
        for name, resolved in (("name", choice.name), ("parameters", dict(choice.parameters)), ("label", label)):
            object.__setattr__(self, name, resolved)

    @property
    def spec(self) -> str:
        """``name[param=value]`` with the parameters that differ from their defaults."""
        return registry.Choice("", self.name, self.parameters).label


class MethodItem(_Item):
    """One method entry of a suite."""

    def model_post_init(self, context: Any, /) -> None:
        self._resolve("method")
        registry.make_method(self.name, **self.parameters)  # what its constructor refuses stops before any work as well


class CurvePoint(_Strict):
    """Where a dataset stands on a curve.

    Parameters
    ----------
    curve : str
        Label of the entry that varies something.
    factor : str
        The parameter along the axis.
    value : float
    varied : tuple of str
        Every parameter that differs between the points.
    """

    curve: str
    factor: str
    value: float
    varied: tuple[str, ...]


class Preprocessing(_Strict):
    """What happens to every problem's data before any method sees them; see ``bench.preprocessing``."""

    transform: Literal["none", "sqrt", "log1p", "auto"] = "none"
    scaling: Literal["none", "observational", "pooled"] = "pooled"


class DatasetItem(_Item):
    """One dataset entry of a suite.

    Parameters
    ----------
    repetitions : int, optional
        Replaces the suite's. Measured data are the same in each draw: 1.
    tracks : list of {"unknown", "oracle", "graph"}
        Those of the suite's tracks on which it runs; all by default.
    vary : mapping of str to list
        Makes this entry a curve, a dataset for each value: ``vary: {n_variables: [10, 20, 50]}``. The first parameter is the
        axis, whose values are rising numbers; further ones walk along, ``{n_variables: [10, 20], n_environments: [5, 10]}``.
    preprocessing : Preprocessing, optional
        Replaces the suite's, as a whole.
    family : str
        Reports add a ranked table of each family of datasets; none by default.
    point : CurvePoint, optional
        Of a dataset that came from such an entry.
    """

    repetitions: Annotated[int, Field(ge=1)] | None = None
    tracks: tuple[Track, ...] = ()
    vary: dict[str, Annotated[list[Any], Field(min_length=2)]] = Field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    family: str = ""
    point: CurvePoint | None = None

    def model_post_init(self, context: Any, /) -> None:
        self._resolve("dataset")
        if self.repetitions is None and "real" in registry.entry("dataset", self.name).tags:
            object.__setattr__(self, "repetitions", 1)
        if self.vary:
            self._check_vary()

    def _check_vary(self) -> None:
        axis, values = next(iter(self.vary.items()))
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) < len(values) or any(a >= b for a, b in pairwise(numbers)):
            raise ValueError(f"vary: the values of '{axis}', the axis, must be rising numbers, got {values}")
        short = next((k for k, v in self.vary.items() if len(v) != len(values)), None)
        if short is not None:
            raise ValueError(f"vary: '{short}' needs as many values as '{axis}', {len(values)}, got {len(self.vary[short])}")

    def points(self) -> tuple[DatasetItem, ...]:
        """The datasets of a curve; the entry itself where it varies nothing."""
        if not self.vary:
            return (self,)
        axis = next(iter(self.vary))
        return tuple(
            DatasetItem(
                name=self.name,
                parameters={**self.parameters, **dict(zip(self.vary, values, strict=True))},
                label=f"{self.label}, {axis}={values[0]:g}",
                repetitions=self.repetitions,
                tracks=self.tracks,
                preprocessing=self.preprocessing,
                family=self.family,
                point=CurvePoint(curve=self.label, factor=axis, value=values[0], varied=tuple(self.vary)),
            )
            for values in zip(*self.vary.values(), strict=True)
        )

    def data_seed(self, seed: int, repetition: int) -> int:
        """Seed of one draw. What a curve varies has no say, so that its points share all draws that the dataset keeps apart."""
        varied = self.point.varied if self.point else ()
        kept = {k: v for k, v in self.parameters.items() if k not in varied}
        return data_seed(seed, self.name, kept, repetition)


class Suite(_Strict):
    """A whole run: problems × methods × tracks.

    Parameters
    ----------
    name : str
        Also the folder of its results.
    description : str
    seed : int
        Root of every seed.
    repetitions : int
        Draws per dataset.
    reseed : int
        Another number gives the methods other seeds on the same problems: what changes then is their own chance.
    tracks : list of {"unknown", "oracle", "graph"}
        "unknown" hides targets and graph; "oracle" tells the targets to the methods that can use them, marked in every table;
        "graph" tells the true graph, hides the targets, and skips the methods that cannot use it.
    preprocessing : Preprocessing
    timeout : float or None
        Seconds allowed per fit, adaptation or refit; then the process is killed.
    memory : float or None
        Resident memory allowed to the process tree of a fit, MiB.
    budget : float or None
        Soft limit told to the method, seconds; None is 80% of ``timeout``.
    plugins : list of path
        Files with further plugins, relative to the suite file.
    datasets, methods : list
        ``name[param=value]``, or a mapping with ``name``, ``parameters``, ``label`` (for datasets also ``repetitions``,
        ``tracks``, ``vary``, ``preprocessing`` and ``family``, see :class:`DatasetItem`).
    base : str
        Label of a method to which reports compare all others, problem by problem; empty for none.
    extra_metrics : list of str
        Of ``bench.columns.EXTRA_METRICS``: scores of a paper that this suite follows, and that no other should report.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    description: str = ""
    seed: int = 0
    repetitions: Annotated[int, Field(ge=1)] = 1
    reseed: Annotated[int, Field(ge=0)] = 0
    tracks: Annotated[tuple[Track, ...], Field(min_length=1)] = ("unknown",)
    preprocessing: Preprocessing = Preprocessing()
    timeout: Annotated[float, Field(gt=0)] | None = 300.0
    memory: Annotated[float, Field(gt=0)] | None = None
    budget: Annotated[float, Field(gt=0)] | None = None
    plugins: tuple[Path, ...] = ()
    datasets: Annotated[tuple[DatasetItem, ...], Field(min_length=1)]
    methods: Annotated[tuple[MethodItem, ...], Field(min_length=1)]
    base: str = ""
    extra_metrics: tuple[str, ...] = ()

    @pydantic.field_validator("datasets", mode="after")
    @classmethod
    def _curves_have_points(cls, entries: tuple[DatasetItem, ...]) -> tuple[DatasetItem, ...]:
        return tuple(point for entry in entries for point in entry.points())

    @pydantic.field_validator("extra_metrics", mode="after")
    @classmethod
    def _extra_metrics_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in EXTRA_METRICS:
                raise UnknownName("extra metric", name, EXTRA_METRICS)
        return names

    @pydantic.model_validator(mode="after")
    def _labels_are_unique(self) -> Suite:
        for kind in ("methods", "datasets"):
            labels = [item.label for item in getattr(self, kind)]
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f"{kind}: the label '{twice[0]}' stands twice; give one of them its own 'label'")
        if len(set(self.tracks)) < len(self.tracks):
            raise ValueError("tracks: each track may stand once")
        for item in self.datasets:
            absent = next((track for track in item.tracks if track not in self.tracks), None)
            if absent is not None:
                raise ValueError(f"tracks: '{item.label}' is to run on the track '{absent}', which the suite does not have")
        if self.budget is not None and self.timeout is not None and self.budget > self.timeout:
            raise ValueError(f"budget: expected at most the timeout, {self.timeout:g} s, got {self.budget:g}")
        labels = [item.label for item in self.methods]
        if self.base and self.base not in labels:
            close = nearest(self.base, labels)
            hint = f"; did you mean '{close}'?" if close else ""
            raise ValueError(f"base: expected the label of one of the methods, got '{self.base}'{hint}")
        return self

    def changed(self, **values: Any) -> Suite:
        """The same suite with some keys replaced and checked again; None leaves a key as it is.

        Raises
        ------
        InputError
            If a value does not fit.
        """
        given = {k: v for k, v in values.items() if v is not None}
        return _validated({**{k: getattr(self, k) for k in type(self).model_fields}, **given}, "command line")

    def preprocessing_of(self, dataset: DatasetItem) -> Preprocessing:
        """Its own, or that of the suite."""
        return dataset.preprocessing or self.preprocessing

    def selected(self, methods: Sequence[str] = (), datasets: Sequence[str] = ()) -> Suite:
        """Keep the entries that the filters name.

        Parameters
        ----------
        methods, datasets : sequence of str
            A label, that of a curve (all its points), a name (every entry of that plugin), or ``name[param=value]`` (that
            plugin with those parameters on top of the entry's own). A registered plugin that the suite lacks is added.
            Empty keeps all.

        Raises
        ------
        UnknownName
            If a filter names nothing.
        """
        chosen = _select(self.methods, methods, "method") or self.methods
        return self.changed(
            methods=chosen,
            datasets=_select(self.datasets, datasets, "dataset") or None,
            base=self.base if self.base in {item.label for item in chosen} else "",
        )

    def with_methods(self, names: Sequence[str]) -> Suite:
        """Add registered methods that no entry uses yet."""
        used = {m.name for m in self.methods}
        new = tuple(_with_parameters(MethodItem, {"name": n}, {}) for n in names if n not in used)
        return self.changed(methods=(*self.methods, *new)) if new else self


def _select(items: Sequence[Any], filters: Sequence[str], kind: str) -> tuple[Any, ...]:
    make = MethodItem if kind == "method" else DatasetItem
    found: dict[str, Any] = {}
    for text in filters:
        exact = [i for i in items if text in (i.label, _curve(i))]
        if exact:
            found |= {i.label: i for i in exact}
            continue
        name, parameters = registry.parse_spec(text)
        known = registry.methods() if kind == "method" else registry.datasets()
        if name not in known:
            raise UnknownName(kind, name, {*known, *(i.label for i in items), *filter(None, map(_curve, items))})
        same = [i for i in items if i.name == name]
        changed = [_with_parameters(make, i.model_dump(exclude={"label", "point"}), parameters) for i in same]
        matches = [i for i, c in zip(same, changed, strict=True) if i.parameters == c.parameters]
        matches = matches or changed[:1] or [_with_parameters(make, {"name": name}, parameters)]
        found |= {i.label: i for i in matches}
    return tuple(found.values())


def _curve(item: Any) -> str:
    point = getattr(item, "point", None)
    return point.curve if point else ""


def _with_parameters(make: type[_Item], entry: dict[str, Any], parameters: dict[str, Any]) -> _Item:
    try:
        return make(**entry | {"parameters": {**entry.get("parameters", {}), **parameters}})
    except pydantic.ValidationError as reason:
        raise InputError(_one_line(reason)) from None


def suite_names() -> dict[str, Path]:
    """Built-in suites by name."""
    return {p.stem: p for p in sorted(BUILT_IN.glob("*.yaml"))}


def load_suite(name_or_path: str | Path, *, moved: Sequence[Path] = ()) -> Suite:
    """Read a built-in suite by name, or a suite file by path.

    A file with the key ``extends`` (a name, or a file beside it) has that suite's keys where it does not have its own.
    ``moved`` are plugin files that stand in for those of the same file name that the suite names and that are not there.

    Raises
    ------
    InputError
        If the file cannot be read or something in it is unknown; one line with file, key and the nearest known name.
    """
    path = _suite_path(str(name_or_path))
    content = _read(path, moved)
    for plugin in content["plugins"]:
        registry.load_plugin(plugin)
    return _validated(content, str(path))


def _suite_path(text: str, beside: Path = Path()) -> Path:
    """File of a built-in suite by name, or a path, relative to ``beside``."""
    path = Path(text)
    if path.suffix not in (".yaml", ".yml"):
        known = suite_names()
        if text not in known:
            raise UnknownName("suite", text, known)
        return known[text]
    return beside / path


def _key_that_stands_twice(node: yaml.Node | None) -> str | None:
    """Of the mappings below a node of YAML, whose loader takes the last of equal keys; what ``<<`` brings may be replaced."""
    if isinstance(node, yaml.MappingNode):
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        seen: set[str] = set()
        for key in keys:
            if key.value in seen:
                return f"the key '{key.value}' stands twice, in line {key.start_mark.line + 1} again"
            seen.add(key.value)
    below = [] if node is None or isinstance(node, yaml.ScalarNode) else node.value
    parts = [part for entry in below for part in (entry if isinstance(entry, tuple) else (entry,))]
    return next(filter(None, map(_key_that_stands_twice, parts)), None)


def _read(path: Path, moved: Sequence[Path], extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a suite file says, on top of the one that it extends; plugins as absolute paths."""
    if not path.is_file():
        raise InputError(f"expected a suite file, got '{path}' (no such file)")
    if path.resolve() in extended_by:
        raise InputError(f"{path}: extends: a suite cannot extend itself, directly or through others")
    try:
        text = path.read_text(encoding="utf-8")
        twice = _key_that_stands_twice(yaml.compose(text, yaml.SafeLoader))
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as reason:
        raise InputError(f"{path}: not a YAML file: {' '.join(str(reason).split())}") from None
    if twice:
        raise InputError(f"{path}: {twice}")
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected a mapping with the keys {', '.join(Suite.model_fields)}, got {type(content).__name__}"
        )
    odd = next((key for key in content if not isinstance(key, str)), None)
    if odd is not None:
        raise InputError(f"{path}: keys must be names, got {odd!r}")
    plugins = content.get("plugins", [])
    if not isinstance(plugins, list) or not all(isinstance(p, str) for p in plugins):
        raise InputError(f"{path}: plugins: expected a list of paths, got {plugins!r}")
    content["plugins"] = [_plugin_file(path.parent / p, moved) for p in plugins]
    content.setdefault("name", path.stem)
    if "extends" not in content:
        return content
    other = content.pop("extends")
    if not isinstance(other, str):
        raise InputError(f"{path}: extends: expected a name of a built-in suite or a suite file, got {other!r}")
    base = _read(_suite_path(other, path.parent), moved, (*extended_by, path.resolve()))
    return {**base, **content, "plugins": list(dict.fromkeys([*base["plugins"], *content["plugins"]]))}


def _plugin_file(named: Path, moved: Sequence[Path]) -> Path:
    other = next((file for file in moved if file.name == named.name and not named.exists()), named)
    return other.resolve()


SUITE_FILE = "suite.yaml"
"""In a run directory, the suite as it was run: the parts chosen, parameters resolved, curves as their points."""


def save_suite(run: Path, suite: Suite) -> Path:
    """Write the suite into a run directory; :func:`load_suite` reads it back."""
    return write_atomic(run / SUITE_FILE, yaml.safe_dump(suite.model_dump(mode="json"), sort_keys=False))


def resolved_text(suite: Suite) -> str:
    """The suite as a file with every parameter, defaults included: what was run is told where defaults are others by then.

    Read back it is the same suite, whose cells have the same hashes: parameters equal to their defaults are left out again.
    """
    content = suite.model_dump(mode="json")
    for kind in ("dataset", "method"):
        for item in content[f"{kind}s"]:
            item["parameters"] = _every_parameter(kind, item["name"], item["parameters"])
    return yaml.safe_dump(content, sort_keys=False)


def _every_parameter(kind: str, name: str, explicit: dict[str, Any]) -> dict[str, Any]:
    """In the plugin's order; a default that a file cannot say, since it is read back as another value, is left out."""
    found = {}
    for key, default in registry.entry(kind, name).defaults.items():
        if key in explicit:
            found[key] = explicit[key]
            continue
        with contextlib.suppress(InputError, pydantic_core.PydanticSerializationError):
            value = pydantic_core.to_jsonable_python(default)
            if key not in registry.choose(kind, name, {**explicit, key: value}).parameters:
                found[key] = value
    return found


def _validated(content: dict[str, Any], where: str) -> Suite:
    try:
        return Suite(**content)
    except pydantic.ValidationError as reason:
        raise InputError(f"{where}: {_one_line(reason)}") from None


def _one_line(reason: pydantic.ValidationError) -> str:
    """The first problem of a validation, with its key and the nearest known one."""
    error = reason.errors()[0]
    location = [x for x in error["loc"] if x != ""]
    key = "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in location).lstrip(".")
    if error["type"] == "extra_forbidden":
        known = _known_keys(location)
        close = nearest(str(location[-1]), known)
        hint = f"; did you mean '{close}'?" if close else ""
        return f"unknown key '{key}'{hint} Known: {', '.join(sorted(known))}"
    message = str(error["msg"]).removeprefix("Value error, ")
    got = "" if error["type"] in ("value_error", "missing") else f", got {error['input']!r}"
    return f"{key}: {message}{got}" if key else message


def _known_keys(location: Sequence[Any]) -> list[str]:
    owner: type[BaseModel] = Suite
    for step in location[:-1]:
        if isinstance(step, int):
            continue
        annotation = owner.model_fields[str(step)].annotation
        owner = next(
            (a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)), owner
        )
    return list(owner.model_fields)
