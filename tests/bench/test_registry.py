"""Names and parameters: found, checked before any work, and refused with the nearest known name."""

from typing import Annotated, Literal

import numpy as np
import pytest
from annotated_types import Gt

from bench import registry
from bench.errors import InputError, UnknownName
from bench.types import Capabilities, Estimate, Fitted, Meta, Method

PLUGIN = """
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt

from bench.registry import register_dataset, register_method
from bench.types import Capabilities, Environment, Estimate, Fitted, Meta, Method, Observed, Problem


@register_method("{name}")
class Mine(Method):
    capabilities = Capabilities()
    meta = Meta("A method of a test.")

    def __init__(
        self, alpha: Annotated[float, Gt(0)] = 0.5, kind: Literal["one", "two"] = "one", sizes: list[int] | None = None
    ):
        self.alpha, self.kind, self.sizes = alpha, kind, sizes

    def fit(self, observed, *, rng, budget=None):
        return Fitted(Estimate(np.zeros((observed.n_variables,) * 2)))


@register_dataset("{name}_data", meta=Meta("A dataset of a test."))
def data(rng: np.random.Generator, *, n: int = 5) -> Problem:
    return Problem(Observed((Environment(rng.normal(size=(n, 2)), True),)), None)
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A registry that knows one plugin more for the length of a test."""
    registry.methods()
    monkeypatch.setattr(registry, "_entries", {kind: dict(known) for kind, known in registry._entries.items()})
    monkeypatch.setattr(registry, "_loaded_plugins", dict(registry._loaded_plugins))
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN.format(name="mine_test"))
    registry.load_plugin(file)
    return file


def test_a_plugin_file_adds_its_method_and_dataset(plugin):
    method = registry.make_method("mine_test[alpha=0.1,kind=two]", sizes=[1, 2])
    assert method.parameters() == {"alpha": 0.1, "kind": "two", "sizes": [1, 2]}
    assert registry.make_problem("mine_test_data", seed=1, n=3).observed.n_samples == 3
    assert registry.entry("method", "mine_test").source == plugin
    assert plugin in registry.loaded_plugins()
    assert registry.load_plugin(plugin) is registry.load_plugin(str(plugin))


def test_an_edited_plugin_is_loaded_again_in_place_of_what_it_was(plugin):
    former = registry.load_plugin(plugin)
    plugin.write_text(PLUGIN.format(name="renamed_test"))
    assert registry.load_plugin(plugin) is not former
    assert "renamed_test" in registry.methods()
    assert not {"mine_test", "mine_test_data"} & {*registry.methods(), *registry.datasets()}
    assert list(registry.loaded_plugins()).count(plugin) == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine_tset", "did you mean 'mine_test'"),
        ("mine_test[alhpa=1]", "did you mean 'alpha'"),
        ("mine_test[alpha=0]", "greater than 0, got 0"),
        ("mine_test[alpha=x]", "valid number.*got 'x'"),
        ("mine_test[kind=three]", "'one' or 'two', got 'three'"),
        ("mine_test[alpha", "expected name"),
        ("mine_test[alpha]", "expected name"),
        ("mine_test[alpha=[1]", "expected name|cannot read"),
        ("mine test", "expected name"),
    ],
)
def test_a_wrong_spec_is_refused_in_one_line(plugin, spec, message):
    with pytest.raises(InputError, match=message) as caught:
        registry.choose("method", spec)
    assert "\n" not in str(caught.value)


def test_values_equal_to_their_default_leave_no_trace(plugin):
    assert registry.choose("method", "mine_test[alpha=0.5]").parameters == {}
    assert registry.choose("method", "mine_test[alpha=0.5]").label == "mine_test"
    assert registry.choose("method", "mine_test", {"alpha": 1}).label == "mine_test[alpha=1.0]"


def test_numbers_that_yaml_reads_as_text_are_numbers(plugin):
    assert registry.make_method("mine_test[alpha=1e-3]").alpha == pytest.approx(1e-3)


@pytest.mark.parametrize("text", ["mine_test[alpha=0.1,sizes=[1,2]]", "mine_test[kind=two]"])
def test_a_label_makes_the_same_choice_again(plugin, text):
    choice = registry.choose("method", text)
    assert registry.choose("method", choice.label) == choice


def test_a_taken_name_is_refused(plugin, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(PLUGIN.format(name="mine_test").replace("class Mine", "class Other"))
    with pytest.raises(InputError, match=r"already registered by .*mine\.py"):
        registry.load_plugin(other)


@pytest.mark.parametrize("name", ["absent.py", "notes.txt", "broken.py"])
def test_a_plugin_that_cannot_be_loaded_says_why(tmp_path, name):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "broken.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(InputError, match=r"no such file|Python file|ModuleNotFoundError"):
        registry.load_plugin(tmp_path / name)


def test_a_method_without_capabilities_or_of_the_wrong_kind_is_refused():
    class Bare(Method):
        meta = Meta("x")

        def fit(self, observed, *, rng, budget=None):
            return Fitted(Estimate(np.zeros((1, 1))))

    with pytest.raises(InputError, match="capabilities"):
        registry.register_method("bare")(Bare)
    with pytest.raises(InputError, match=r"derived from bench\.types\.Method"):
        registry.register_method("bare")(dict)


def test_names_must_be_identifiers_and_parameters_named():
    class Loose(Method):
        capabilities, meta = Capabilities(), Meta("x")

        def __init__(self, alpha: Annotated[float, Gt(0)] = 1.0, **more: Literal["a"]):
            self.alpha = alpha

        def fit(self, observed, *, rng, budget=None):
            return Fitted(Estimate(np.zeros((1, 1))))

    with pytest.raises(InputError, match="identifiers"):
        registry.register_method("my-method")(Loose)
    with pytest.raises(InputError, match=r"name its parameters, got \*more"):
        registry.register_method("loose")(Loose)


def test_problems_depend_on_seed_and_parameters_alone(plugin):
    first, second = (registry.make_problem("mine_test_data", seed=3) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert registry.make_problem("mine_test_data", seed=4).fingerprint != first.fingerprint


def test_unknown_names_survive_pickling():
    import pickle

    error = UnknownName("method", "gis", ["gies"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_builtins_that_failed_to_import_are_asked_for_again(monkeypatch):
    def fail():
        raise InputError("half-written module")

    monkeypatch.setattr(registry, "_builtins_loaded", False)
    monkeypatch.setattr(registry, "_import_builtins", fail)
    for _ in range(2):
        with pytest.raises(InputError, match="half-written module"):
            registry.methods()
