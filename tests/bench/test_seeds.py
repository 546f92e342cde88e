"""Seeds are hashes of named axes: stable for ever, and free of the method where every method must meet the same draws."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from bench.seeds import canonical, data_seed, derive_seed, generator, method_seed


def test_seeds_never_change():
    """Golden values: a change here changes every draw of every suite."""
    assert derive_seed("data", 0, "synthetic", {}, 0) == 6251859031316910678
    assert data_seed(0, "synthetic", {"d": 10}, 3) == derive_seed("data", 0, "synthetic", {"d": 10}, 3)


def test_seeds_are_the_same_in_a_process_with_another_hash_seed():
    code = "from bench.seeds import derive_seed; print(derive_seed('x', {'b': 1, 'a': {2, 1}}))"
    command = [sys.executable, "-c", code]
    printed = {subprocess.run(command, env={"PYTHONHASHSEED": s}, capture_output=True, text=True).stdout for s in "12"}
    assert printed == {f"{derive_seed('x', {'b': 1, 'a': {2, 1}})}\n"}


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.booleans() | st.text(max_size=5), max_size=5))
def test_the_order_of_parameters_does_not_matter(parameters):
    turned = dict(reversed(parameters.items()))
    assert canonical(turned) == canonical(parameters)
    assert 0 <= derive_seed(parameters) < 2**63


def test_every_axis_counts():
    base = data_seed(0, "a", {}, 0)
    others = [data_seed(1, "a", {}, 0), data_seed(0, "b", {}, 0), data_seed(0, "a", {"x": 1}, 0), data_seed(0, "a", {}, 1)]
    methods = [method_seed(base, "m", {}), method_seed(base, "n", {}), method_seed(base, "m", {"x": 1})]
    assert len({base, *others, *methods}) == 8
    assert generator("a").integers(2**62) == generator("a").integers(2**62)
