"""Suite files are read strictly: what is unknown stops before any work, with file, key and the nearest known name."""

from typing import Any

import pytest
import yaml

from bench import registry, runner
from bench.errors import InputError
from bench.seeds import data_seed
from bench.suites import DatasetItem, Suite, load_suite, resolved_text, suite_names
from bench.types import Capabilities, Meta, Method

GOOD = """
description: two methods
seed: 3
timeout: 5
datasets:
  - synthetic[n_observational=50]
  - {name: synthetic, label: none observed, parameters: {n_observational: 0}, repetitions: 2}
methods: [empty, random]
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def test_a_suite_is_read_whole(write):
    suite = load_suite(write(GOOD))
    assert (suite.name, suite.seed, suite.timeout, suite.repetitions) == ("mine", 3, 5.0, 1)
    assert suite.datasets[0].parameters == {"n_observational": 50}
    assert suite.datasets[0].label == suite.datasets[0].spec == "synthetic[n_observational=50]"
    assert (suite.datasets[1].label, suite.datasets[1].repetitions) == ("none observed", 2)
    assert [m.label for m in suite.methods] == ["empty", "random"]


def test_a_suite_survives_being_written_and_read(write):
    suite = load_suite(write(GOOD))
    assert Suite(**suite.model_dump()) == suite


@pytest.mark.parametrize("name", suite_names())
def test_a_suite_with_its_defaults_written_out_is_the_same_suite(name, tmp_path):
    suite = load_suite(name)
    path = tmp_path / "resolved.yaml"
    path.write_text(resolved_text(suite))
    assert load_suite(path) == suite
    written = yaml.safe_load(path.read_text())
    for kind in ("method", "dataset"):
        for item in written[f"{kind}s"]:
            assert set(item["parameters"]) == set(registry.entry(kind, item["name"]).defaults)


def test_a_suite_with_its_defaults_written_out_has_the_same_cells(write, tmp_path):
    suite = load_suite(write(GOOD))
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(resolved_text(suite))
    before, after = (runner.plan(s, output=tmp_path / "run", jobs=1) for s in (suite, load_suite(resolved)))
    assert [cell.cell for cell in before] == [cell.cell for cell in after]
    assert all(cell.cell for cell in before)


def test_a_default_that_no_file_can_say_is_not_written_out(write):
    @registry.register_method("odd")
    class Odd(Method):
        capabilities, meta = Capabilities(), Meta("A method of a test.")

        def __init__(self, how: Any = len, n: float = 1, k: int = 2): ...

        def fit(self, observed, *, rng, budget=None): ...

    try:
        suite = load_suite(write(GOOD.replace("[empty, random]", "[odd]")))
        assert yaml.safe_load(resolved_text(suite))["methods"][0]["parameters"] == {"k": 2}
    finally:
        del registry._entries["method"]["odd"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("timeout: 5", "timeuot: 5"), r"mine\.yaml: unknown key 'timeuot'; did you mean 'timeout'\?"),
        (("timeout: 5", "timeout: -5"), r"mine\.yaml: timeout: .*greater than 0, got -5"),
        (("seed: 3", "seed: x"), "seed: .*integer.*got 'x'"),
        (("[empty, random]", "[emty]"), r"methods\[0\]: unknown method 'emty'; did you mean 'empty'"),
        (("[empty, random]", "[empty, empty]"), "the label 'empty' stands twice"),
        (("[empty, random]", "[]"), "methods: .*at least 1"),
        (("[empty, random]", "[{name: empty, lable: x}]"), r"unknown key 'methods\[0\]\.lable'; did you mean 'label'"),
        (("[empty, random]", "[3]"), r"methods\[0\]"),
        (("n_observational=50", "n_observatoinal=50"), r"datasets\[0\]: .*'n_observatoinal'; did you mean 'n_observational'"),
        (("n_observational=50", "n_observational=many"), r"datasets\[0\]: the 'n_observational' parameter .*got 'many'"),
        (("repetitions: 2", "repetitions: 0"), r"datasets\[1\]\.repetitions"),
        (("timeout: 5", "tracks: [oracel]"), r"tracks\[0\]: .*'unknown', 'oracle' or 'graph', got 'oracel'"),
        (("timeout: 5", "base: emty"), "base: expected the label of one of the methods, got 'emty'; did you mean 'empty'"),
        (("timeout: 5", "preprocessing: {scalling: none}"), r"'preprocessing\.scalling'; did you mean 'scaling'"),
        (("timeout: 5", "plugins: [absent.py]"), r"absent\.py.*no such file"),
        (("timeout: 5", "plugins: absent.py"), "plugins: expected a list"),
        (("seed: 3", "seed: [3"), "not a YAML file"),
        (("seed: 3", "seed: &a [*a]"), "not a YAML file"),
        (("seed: 3", "3: seed"), "keys must be names, got 3"),
        (("seed: 3", "seed: 3\nseed: 4"), r"mine\.yaml: the key 'seed' stands twice, in line 4 again"),
        (("repetitions: 2", "repetitions: 2, repetitions: 3"), "the key 'repetitions' stands twice"),
        (("timeout: 5", "timeout: 5\nbudget: 6"), "budget: expected at most the timeout, 5 s, got 6"),
        (("seed: 3", "name: .."), r"name: .*got '\.\.'"),
    ],
)
def test_a_wrong_suite_is_refused_in_one_line(write, change, message):
    with pytest.raises(InputError, match=message) as caught:
        load_suite(write(GOOD.replace(*change)))
    assert "\n" not in str(caught.value)


def test_a_suite_that_extends_another_has_its_keys_where_it_lacks_its_own(write, tmp_path):
    (tmp_path / "mine.py").write_text("")
    base = load_suite(write(GOOD + "plugins: [mine.py]\n"))
    other = tmp_path / "folder" / "shorter.yaml"
    other.parent.mkdir()
    other.write_text("extends: ../mine.yaml\nrepetitions: 4\nmethods: [empty]\n")
    suite = load_suite(other)
    assert (suite.name, suite.repetitions, [m.label for m in suite.methods]) == ("shorter", 4, ["empty"])
    assert (suite.seed, suite.datasets, suite.plugins) == (base.seed, base.datasets, base.plugins)
    other.write_text("extends: quick\n")
    assert load_suite(other) == load_suite("quick").changed(name="shorter")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: mine.yaml", r"mine\.yaml: extends: a suite cannot extend itself"),
        ("extends: quik", "unknown suite 'quik'; did you mean 'quick'"),
        ("extends: absent.yaml", r"absent\.yaml' \(no such file\)"),
        ("extends: [quick]", r"mine\.yaml: extends: expected a name of a built-in suite or a suite file, got \['quick'\]"),
        ("extends: quick\nrepetitoins: 3", r"mine\.yaml: unknown key 'repetitoins'; did you mean 'repetitions'"),
    ],
)
def test_a_suite_that_extends_what_it_cannot_is_refused_in_one_line(write, text, message):
    with pytest.raises(InputError, match=message) as caught:
        load_suite(write(text))
    assert "\n" not in str(caught.value)


def test_a_dataset_may_have_a_preprocessing_of_its_own(write, tmp_path):
    """The first problem is scaled as the suite says, the second not at all; both reach the methods and the rows."""
    own = "none observed, preprocessing: {scaling: none}, family: unseen"
    suite = load_suite(write(GOOD.replace("none observed", own)))
    planned = runner.plan(suite, output=tmp_path)
    assert [suite.preprocessing_of(d).scaling for d in suite.datasets] == ["pooled", "none"]
    same = runner.plan(load_suite(write(GOOD)), output=tmp_path)
    changed = [new.problem.key != old.problem.key for new, old in zip(planned, same, strict=True)]
    assert changed == [cell.problem.dataset.label == "none observed" for cell in planned]
    rows = runner.run(suite, output=tmp_path)
    assert dict(zip(rows["dataset"], rows["family"], strict=True)) == {suite.datasets[0].label: "", "none observed": "unseen"}


def test_the_small_leaderboard_is_the_first_draw_of_the_large_one():
    large, small = load_suite("leaderboard"), load_suite("leaderboard_small")
    same = {"name": large.name, "description": large.description, "repetitions": large.repetitions}
    fast = [m for m in large.methods if m.name != "metacadi_paper"]
    assert small.changed(**same) == large.changed(methods=fast)
    assert (large.repetitions, small.repetitions) == (5, 1)
    families = [d.family for d in large.datasets]
    assert {f: families.count(f) * large.repetitions for f in families if f != "proteins"} == dict.fromkeys(
        ["linear", "networks", "expression", "fitted"], 20
    )
    assert {m.name for m in large.methods} == set(registry.methods())


@pytest.mark.parametrize(("name", "message"), [("quik", "did you mean 'quick'"), ("absent.yaml", "no such file")])
def test_an_absent_suite_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        load_suite(name)


def test_a_file_that_is_no_mapping_is_refused(write):
    with pytest.raises(InputError, match="expected a mapping"):
        load_suite(write("- a\n- b\n"))


@pytest.mark.parametrize("name", suite_names())
def test_built_in_suites_are_valid(name):
    suite = load_suite(name)
    assert suite.name == name
    assert suite.description


SLOW = {"many_variables", "gene_expression", "protocol_dcdi", "stress"}
NOT_ONLY_SIMULATED = {"thousand_environments", "quick", "sachs", "leaderboard", "leaderboard_small"}
SIMULATED = [name for name in suite_names() if name not in NOT_ONLY_SIMULATED]
ALL_METHODS_RUN = {"ablation_metacadi", "calibration", "fewshot", "metacadi_linear", "metacadi_mlp", "misspecified"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in SIMULATED])
def test_every_problem_of_the_simulated_suites_can_be_drawn(name, tmp_path):
    suite = load_suite(name)
    once = [d.model_copy(update={"repetitions": 1}) for d in suite.datasets]
    planned = runner.plan(suite.changed(datasets=once), output=tmp_path)
    assert {cell.problem.known["graph"] for cell in planned} == {"known"}
    assert not [cell.problem.skipped for cell in planned if cell.problem.skipped]
    if name in ALL_METHODS_RUN:
        assert not [cell.skipped for cell in planned if cell.track == "unknown" and cell.skipped]


def test_the_folds_of_the_sachs_suite_leave_each_condition_with_a_target_out_once(tmp_path):
    suite = load_suite("sachs")
    planned = runner.plan(suite, output=tmp_path)
    assert not [cell.problem.skipped for cell in planned if cell.problem.skipped]
    folds = [d.parameters for d in suite.datasets if "held_out_conditions" in d.parameters and "annotation" not in d.parameters]
    assert sorted(fold["held_out_conditions"] for fold in folds) == [[3], [4], [5], [6], [7]]
    for fold in folds:
        assert sorted([*fold["conditions"], *fold["held_out_conditions"]]) == [1, 2, 3, 4, 5, 6, 7]
    whole = [d.parameters for d in suite.datasets if "held_out_conditions" not in d.parameters]
    defaults = {"reference": "consensus", "annotation": "wang2017"}
    assert len({tuple((defaults | p).values()) for p in whole}) == 4
    assert "not ranked" in suite.description


@pytest.mark.parametrize("name", [name for name in suite_names() if name.startswith("protocol_")])
def test_every_protocol_says_which_paper_it_follows_and_where_it_differs(name):
    comments = "".join(line for line in suite_names()[name].read_text().splitlines() if line.startswith("#"))
    assert "Follows" in comments
    assert "On purpose different" in comments or "not comparable to the digit, since" in comments


def test_the_score_of_bacadi_is_a_column_of_its_own_suite_alone():
    with_extra = {name: load_suite(name).extra_metrics for name in suite_names() if load_suite(name).extra_metrics}
    assert with_extra == {"protocol_bacadi": ("trapezoid_auprc_bacadi", "trapezoid_target_auprc_bacadi")}


def test_every_curve_of_the_stress_suite_starts_from_the_problems_of_the_others():
    """At strength 0 the synthetic ones are one and the same problem; along a curve a repetition keeps its seed."""
    suite = load_suite("stress")
    starts = [d for d in suite.datasets if d.point.value == 0]
    assert len(starts) == 8
    synthetic = {d.data_seed(suite.seed, 0) for d in suite.datasets if d.name == "synthetic"}
    assert len(synthetic) == 1
    assert len({str(d.parameters) for d in starts if d.name == "synthetic"}) == 1
    assert all(len({d.data_seed(1, 0) for d in suite.datasets if d.point.curve == s.point.curve}) == 1 for s in starts)


CURVES = """
datasets:
  - {name: synthetic, label: drift, parameters: {n_variables: 5}, vary: {drift: [0, 0.5]}}
  - {name: synthetic, label: larger, vary: {n_variables: [5, 10, 20], n_environments: [3, 5, 9]}}
  - synthetic
methods: [empty]
"""


def test_an_entry_that_varies_something_is_a_dataset_for_each_value(write):
    suite = load_suite(write(CURVES))
    assert [d.label for d in suite.datasets] == [
        *("drift, drift=0", "drift, drift=0.5"),
        *(f"larger, n_variables={d}" for d in (5, 10, 20)),
        "synthetic",
    ]
    assert suite.datasets[1].parameters == {"n_variables": 5, "drift": 0.5}
    assert suite.datasets[3].parameters == {"n_environments": 5}  # ten variables are the default
    assert [d.point.value for d in suite.datasets[:5]] == [0, 0.5, 5, 10, 20]
    assert {(d.point.curve, d.point.factor) for d in suite.datasets[2:5]} == {("larger", "n_variables")}
    assert suite.datasets[5].point is None
    assert Suite(**suite.model_dump()) == suite


def test_the_points_of_a_curve_share_their_seed_and_are_drawn_at_strength_zero_as_without_the_factor(write):
    drift, drifted, *larger, plain = load_suite(write(CURVES)).datasets
    assert drift.data_seed(1, 0) == drifted.data_seed(1, 0) != drift.data_seed(1, 1)
    assert drift.data_seed(1, 0) == DatasetItem(name="synthetic", parameters={"n_variables": 5}).data_seed(1, 0)
    assert len({d.data_seed(1, 0) for d in larger} | {plain.data_seed(1, 0)}) == 1
    assert plain.data_seed(1, 0) == data_seed(1, "synthetic", {}, 0)


def test_a_dataset_runs_on_its_own_tracks_alone(write, tmp_path):
    text = "tracks: [unknown, oracle]" + CURVES.replace("parameters: {n_variables: 5}", "tracks: [oracle]")
    planned = runner.plan(load_suite(write(text)), output=tmp_path)
    assert {(cell.track, cell.problem.dataset.label) for cell in planned if "drift" in cell.problem.dataset.label} == {
        ("oracle", "drift, drift=0"),
        ("oracle", "drift, drift=0.5"),
    }
    assert {cell.track for cell in planned if cell.problem.dataset.label == "synthetic"} == {"unknown", "oracle"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[0, 0.5]", "[0]"), r"datasets\[0\]\.vary\.drift: .*at least 2"),
        (("[0, 0.5]", "[0.5, 0]"), "vary: the values of 'drift', the axis, must be rising numbers"),
        (("[0, 0.5]", "[low, high]"), "must be rising numbers"),
        (("[3, 5, 9]", "[3, 5]"), "vary: 'n_environments' needs as many values as 'n_variables', 3, got 2"),
        (("drift: [0, 0.5]", "drfit: [0, 0.5]"), "'drfit'; did you mean 'drift'"),
        (("[0, 0.5]", "[-1, 0.5]"), "datasets: the 'drift' parameter .*greater than or equal to 0"),
        (("vary: {drift", "tracks: [oracle], vary: {drift"), "tracks: 'drift, drift=0' is to run on the track 'oracle', which"),
        (("vary: {drift", "varry: {drift"), r"unknown key 'datasets\[0\]\.varry'; did you mean 'vary'"),
        (
            ("methods: [empty]", "methods: [empty]\nextra_metrics: [trapezoid]"),
            "extra_metrics: unknown extra metric 'trapezoid'",
        ),
    ],
)
def test_a_wrong_curve_or_extra_metric_is_refused_in_one_line(write, change, message):
    with pytest.raises(InputError, match=message) as caught:
        load_suite(write(CURVES.replace(*change)))
    assert "\n" not in str(caught.value)


def test_a_filter_takes_a_curve_whole_or_a_point_of_it(write):
    suite = load_suite(write(CURVES))
    assert [d.label for d in suite.selected(datasets=["larger"]).datasets] == [f"larger, n_variables={d}" for d in (5, 10, 20)]
    assert [d.point.value for d in suite.selected(datasets=["drift, drift=0.5"]).datasets] == [0.5]
    changed = suite.selected(datasets=["synthetic[n_variables=7]"]).datasets
    assert [(d.point, d.parameters["n_variables"]) for d in changed] == [(None, 7)]
    with pytest.raises(InputError, match="did you mean 'larger'"):
        suite.selected(datasets=["largr"])


def test_filters_keep_add_and_change_entries(write):
    suite = load_suite(write(GOOD))
    assert [m.label for m in suite.selected(methods=["random"]).methods] == ["random"]
    assert [d.label for d in suite.selected(datasets=["none observed"]).datasets] == ["none observed"]
    assert len(suite.selected(datasets=["synthetic"]).datasets) == 2
    by_value = suite.selected(datasets=["synthetic[n_observational=50]"]).datasets
    assert [d.parameters for d in by_value] == [{"n_observational": 50}]
    changed = suite.selected(methods=["random[edges_per_node=3]"]).methods
    assert [m.label for m in changed] == ["random[edges_per_node=3.0]"]
    default = suite.selected(datasets=["synthetic[n_observational=50,n_variables=10]"]).datasets
    assert [d.label for d in default] == ["synthetic[n_observational=50]"]  # ten variables are the default
    added = suite.selected(methods=["empty", "marginal"]).methods
    assert [m.label for m in added] == ["empty", "marginal"]


def test_a_base_that_is_filtered_out_is_no_base_any_more(write):
    suite = load_suite(write(GOOD.replace("timeout: 5", "base: empty")))
    assert suite.base == "empty"
    assert suite.selected(datasets=["synthetic"]).base == "empty"
    assert suite.selected(methods=["empty"]).base == "empty"
    assert suite.selected(methods=["random"]).base == ""


def test_a_filter_need_not_repeat_what_an_entry_says(write):
    suite = load_suite(write(GOOD.replace("synthetic[n_observational=50]", "table[path=mine.csv]")))
    assert [d.spec for d in suite.selected(datasets=["table[path=mine.csv]"]).datasets] == ["table[path=mine.csv]"]
    changed = suite.selected(datasets=["table[n_per_environment=9]"]).datasets
    assert [d.spec for d in changed] == ["table[n_per_environment=9,path=mine.csv]"]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"methods": ["randm"]}, "unknown method 'randm'; did you mean 'random'"),
        ({"datasets": ["sintetic"]}, "did you mean 'synthetic'"),
        ({"methods": ["random[edges=1]"]}, "parameter of method 'random'"),
    ],
)
def test_a_filter_that_names_nothing_is_refused(write, filters, message):
    with pytest.raises(InputError, match=message):
        load_suite(write(GOOD)).selected(**filters)


def test_command_line_values_are_checked_like_the_file(write):
    suite = load_suite(write(GOOD))
    assert suite.changed(seed=9, timeout=None).seed == 9
    with pytest.raises(InputError, match="command line: timeout"):
        suite.changed(timeout=0)


def test_measured_data_are_drawn_once_unless_asked():
    suite = Suite(
        name="x", repetitions=5, datasets=["sachs", {"name": "sachs", "label": "twice", "repetitions": 2}], methods=["empty"]
    )
    assert [d.repetitions for d in suite.datasets] == [1, 2]


def test_a_plugin_that_lies_elsewhere_stands_in_for_one_of_its_name_that_is_not_there(tmp_path):
    (tmp_path / "suite.yaml").write_text("plugins: [/absent/mine.py]\ndatasets: [synthetic]\nmethods: [empty]\n")
    mine = tmp_path / "mine.py"
    mine.write_text("")
    assert load_suite(tmp_path / "suite.yaml", moved=[tmp_path / "other.py", mine]).plugins == (mine,)
    with pytest.raises(InputError, match=r"mine\.py"):
        load_suite(tmp_path / "suite.yaml", moved=[tmp_path / "other.py"])
