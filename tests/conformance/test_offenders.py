"""Each conformance check catches the offender planted for it, and lets the honest plugins pass."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench import registry
from bench.errors import InputError, UnknownName
from bench.testing import (
    ConformanceError,
    check_dataset,
    check_method,
    checks_for_dataset,
    checks_for_method,
    compare,
    fresh_process,
    run_checks,
)

OFFENDERS = Path(__file__).resolve().parents[1] / "offenders"


@pytest.fixture(autouse=True)
def offenders(monkeypatch):
    """Register the offenders for one test only; no other test may meet them."""
    registry.methods()
    monkeypatch.setattr(registry, "_entries", {kind: dict(known) for kind, known in registry._entries.items()})
    monkeypatch.setattr(registry, "_loaded_plugins", dict(registry._loaded_plugins))
    for file in ("methods.py", "datasets.py"):
        registry.load_plugin(OFFENDERS / file)


def failures(reports):
    return {report.check: report.message for report in reports if not report.good}


ONE_BROKEN_PROMISE = [
    ("changes_a_parameter_in_init", "parameters_are_stored_untouched"),
    ("works_in_init", "parameters_are_stored_untouched"),
    ("annotates_nothing", "parameters_are_annotated"),
    ("says_nothing_of_itself", "description_is_one_line"),
    ("cannot_travel", "pickles"),
    ("calls_scores_binary", "capabilities_are_true"),
    ("calls_target_scores_binary", "capabilities_are_true"),
    ("hides_that_it_adapts", "capabilities_are_true"),
    ("changes_a_parameter_in_fit", "fit_changes_no_parameter"),
    ("unlocks_and_changes_its_input", "inputs_are_left_alone"),
    ("prints", "nothing_is_printed"),
    ("prints_below_python", "nothing_is_printed"),
    ("warns", "no_warning_is_raised"),
    ("learns_from_fit_to_fit", "same_rng_same_answer"),
    ("draws_from_numpy", "global_random_state_is_untouched"),
    ("draws_from_random", "global_random_state_is_untouched"),
    ("draws_from_torch", "global_random_state_is_untouched"),
    ("reads_global_state", "global_random_state_is_untouched"),
    ("hashes_a_text", "fresh_process_same_answer"),
    ("draws_but_calls_itself_deterministic", "rng_is_not_needed"),
    ("favours_the_first_variable", "variable_order_does_not_matter"),
    ("favours_low_columns_at_random", "variable_order_does_not_matter"),
    ("favours_the_first_environment", "environment_order_does_not_matter"),
    ("favours_low_environments_at_random", "environment_order_does_not_matter"),
    ("hides_that_it_was_cut_short", "budget_is_honoured"),
    ("peeks_at_targets", "told_targets_are_ignored"),
    ("peeks_at_the_graph", "told_graph_is_ignored"),
    ("turns_the_told_graph", "told_graph_is_repeated"),
    ("doubts_the_graph_that_it_needs", "told_graph_is_repeated"),
    ("trusts_low_columns_where_told", "variable_order_does_not_matter_where_the_graph_is_told"),
    ("calls_targets_backwards_where_told", "targets_beat_chance_where_the_graph_is_told"),
    ("adapts_to_one_environment_only", "adapt_answers"),
    ("remembers_what_it_adapted_to", "adapt_leaves_its_parent_unchanged"),
    ("answers_density_in_single_precision", "density_has_the_right_shape"),
    ("answers_infinite_density", "density_has_the_right_shape"),
    ("centres_the_samples_it_judges", "density_takes_each_sample_alone"),
    ("points_edges_backwards", "edges_beat_chance"),
    ("calls_targets_backwards", "targets_beat_chance"),
    ("admits_too_much", "edges_beat_chance"),
    ("admits_what_nobody_asks", "edges_beat_luck"),
    *(
        (f"stumbles[over={over},how={how}]", f"survives_{over}")
        for over, how in (
            ("one_environment", "KeyError"),
            ("single_sample_environment", "two lines"),
            ("nothing_known_observational", "invalid estimate"),
            ("constant_column", "KeyError"),
            ("duplicated_column", "KeyError"),
            ("more_variables_than_samples", "KeyError"),
            ("single_variable", "KeyError"),
            # Refused in one line, but not declared in the capabilities, so that a run would not skip them.
            ("one_environment", "politely"),
            ("nothing_known_observational", "politely"),
        )
    ),
]


@pytest.mark.parametrize(("offender", "check"), ONE_BROKEN_PROMISE)
def test_method_that_breaks_one_promise_fails_that_check_and_no_other(offender, check):
    found = failures(check_method(offender, raise_on_failure=False))
    assert list(found) == [check], found


SEVERAL_BROKEN_PROMISES = [
    ("returns_an_array", "estimate_has_the_right_shape"),
    ("forgets_an_environment", "estimate_has_the_right_shape"),
    ("writes_into_its_input", "inputs_are_left_alone"),
    ("drifts_from_adaptation_to_adaptation", "adapt_leaves_its_parent_unchanged"),
]


@pytest.mark.parametrize(("offender", "check"), SEVERAL_BROKEN_PROMISES)
def test_method_whose_fault_spreads_fails_its_check_among_others(offender, check):
    found = failures(check_method(offender, raise_on_failure=False))
    assert check in found


def test_method_that_outlives_its_budget_is_ended_and_fails_that_check_alone(monkeypatch):
    monkeypatch.setattr(fresh_process, "HANG_SECONDS", 3.0)
    found = failures(check_method("does_not_look_at_the_clock", raise_on_failure=False))
    assert list(found) == ["budget_is_honoured"]
    assert "no answer within 3 s" in found["budget_is_honoured"]


@pytest.mark.parametrize(
    "honest",
    [
        "honest",
        "honest[strength=2]",
        "draws_fairly",
        "says_that_it_was_cut_short",
        "needs_targets",
        "welcomes_the_graph",
        "needs_the_graph",
        "admits_its_failure",
        "says_what_it_refuses",
        "stumbles[over=constant_column,how=politely]",
    ],
)
def test_method_that_keeps_its_promises_passes(honest):
    check_method(honest)


def test_coin_flips_stay_within_the_margin_of_equivariance_and_a_preference_leaves_it():
    """The margin is four standard deviations of pure noise; 300 comparisons must all stay inside."""
    rng = np.random.default_rng(0)
    flips = rng.integers(0, 2, (300, 2, 4, 20)).astype(float)
    distances = np.array([compare.squared_distance(first, second) for first, second in flips])
    assert distances.std() < compare.EXPECTED_DISTANCE / 4
    assert abs(distances.mean()) < 4 * distances.std() / np.sqrt(300)
    assert distances.max() < compare.EXPECTED_DISTANCE
    flips[:, 0, :, :10] = 1
    flips[:, 1, :, :10] = 0
    assert min(compare.squared_distance(first, second) for first, second in flips) > compare.EXPECTED_DISTANCE


def test_every_method_check_has_an_offender():
    caught = {check for _, check in ONE_BROKEN_PROMISE + SEVERAL_BROKEN_PROMISES}
    known = {name for spec in ("honest", "draws_fairly") for name, _ in checks_for_method(registry.make_method(spec))}
    assert known <= caught, known - caught


ONE_BROKEN_DATASET_PROMISE = [
    ("annotates_no_parameter", "parameters_are_annotated"),
    ("has_no_summary", "description_is_one_line"),
    ("hashes_its_name", "fresh_process_same_problem"),
    ("draws_globally", "global_random_state_is_untouched"),
    ("reads_the_global_state", "global_random_state_is_untouched"),
    ("prints_its_progress", "nothing_is_printed"),
    ("warns_of_something", "no_warning_is_raised"),
    ("tells_its_targets", "targets_are_not_told"),
    ("intervenes_in_observational_data", "observational_environments_have_no_targets"),
    ("holds_out_infinity", "held_out_samples_are_finite"),
    ("ignores_its_parameters", "parameters_matter"),
    ("has_a_cycle", "truth_is_acyclic"),
    ("holds_out_training_samples", "held_out_samples_are_fresh"),
    ("keeps_the_causal_order", "variable_order_tells_nothing"),
    ("lists_targets_in_order", "target_order_tells_nothing"),
    ("names_variables_alike", "names_are_distinct"),
    ("calls_an_idle_environment_interventional", "interventional_environments_have_targets"),
    ("moves_what_no_target_reaches", "what_targets_do_not_reach_is_invariant"),
    ("turns_its_edges", "what_targets_do_not_reach_is_invariant"),
    ("lists_its_environments_in_another_order", "what_targets_do_not_reach_is_invariant"),
    ("names_targets_that_do_not_change", "targets_change"),
    ("moves_children_beyond_their_parents", "mechanisms_of_non_targets_are_invariant"),
    ("is_another_than_its_golden_digest", "golden_digest"),
]


@pytest.mark.parametrize(("offender", "check"), ONE_BROKEN_DATASET_PROMISE)
def test_dataset_that_breaks_one_promise_fails_that_check_and_no_other(offender, check):
    found = failures(check_dataset(offender, raise_on_failure=False))
    assert list(found) == [check], found


SEVERAL_BROKEN_DATASET_PROMISES = [
    ("counts_its_draws", "same_seed_same_problem"),
    ("ignores_its_seed", "seeds_give_other_problems"),
    ("hides_its_truth", "truth_is_acyclic"),
]


@pytest.mark.parametrize(("offender", "check"), SEVERAL_BROKEN_DATASET_PROMISES)
def test_dataset_whose_fault_spreads_fails_its_check_among_others(offender, check):
    assert check in failures(check_dataset(offender, raise_on_failure=False))


@pytest.mark.parametrize("honest", ["honest_chain", "honest_chain[n_samples=5]", "measured"])
def test_dataset_that_keeps_its_promises_passes(honest):
    check_dataset(honest)


def test_every_dataset_check_has_an_offender():
    caught = {check for _, check in ONE_BROKEN_DATASET_PROMISE + SEVERAL_BROKEN_DATASET_PROMISES}
    known = {name for name, _ in checks_for_dataset(registry.choose("dataset", "honest_chain"))}
    assert {"golden_digest", "mechanisms_of_non_targets_are_invariant"} <= known
    assert known <= caught, known - caught


def test_failures_are_raised_together_with_a_line_each():
    with pytest.raises(
        ConformanceError, match=r"prints fails 1 of \d+ checks:\n  nothing_is_printed: the method prints 'epoch 1'"
    ):
        check_method("prints")


def test_method_from_a_notebook_is_told_to_move_into_a_file(monkeypatch):
    monkeypatch.setattr(registry.entry("method", "honest").factory, "__module__", "__main__")
    found = failures(check_method("honest", raise_on_failure=False))
    assert "put it into a file" in found["fresh_process_same_answer"]


def test_run_prints_one_line_per_check_and_returns_whether_all_are_good():
    written = io.StringIO()
    good = run_checks([("method", "honest"), ("method", "prints")], console=Console(file=written, width=200))
    lines = written.getvalue().splitlines()
    n_checks = len(list(checks_for_method(registry.make_method("honest"))))
    assert not good
    assert len(lines) == 2 * (n_checks + 1) + 1
    assert [line for line in lines if line.strip().startswith("failed")] == [
        line for line in lines if "nothing_is_printed" in line and "epoch 1" in line
    ]
    assert lines[-1] == f"{2 * n_checks - 1} of {2 * n_checks} checks hold, 1 does not"
    assert run_checks([("dataset", "honest_chain[n_samples=5]")], console=Console(file=io.StringIO()))


def test_markup_is_never_printed():
    for markup in (True, False):
        written = io.StringIO()
        run_checks([("method", "prints")], console=Console(file=written, width=200, markup=markup))
        assert written.getvalue().startswith("method prints\n  passed ")


def test_a_method_without_a_valid_answer_is_told_once(monkeypatch):
    monkeypatch.setattr(registry.entry("method", "honest").factory, "fit", lambda self, observed, *, rng, budget=None: [[0.0]])
    written = io.StringIO()
    assert not run_checks([("method", "honest")], console=Console(file=written, width=200))
    failed = [line for line in written.getvalue().splitlines() if line.startswith("  failed")]
    assert len(failed) == 1
    assert "fit must return a Fitted that holds an Estimate, got list" in failed[0]
    assert re.search(r"\n  \d+ further failures, most for want of a valid answer", written.getvalue())


def test_a_parameter_that_is_not_stored_is_one_line(monkeypatch):
    class Forgetful(registry.entry("method", "honest").factory):
        def __init__(self, level: float = 0.1) -> None:
            self.alpha = level

    with pytest.raises(InputError, match=r"must keep its parameter 'level' as self\.level, found no such attribute"):
        check_method(Forgetful())


def test_run_refuses_an_unknown_name_before_any_check():
    with pytest.raises(UnknownName, match="did you mean 'honest'"):
        run_checks([("method", "prints"), ("method", "honst")], console=Console(file=io.StringIO()))
