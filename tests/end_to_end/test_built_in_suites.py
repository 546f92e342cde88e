"""The built-in suites as they ship, whole: minutes, so `make test-slow` runs them."""

import pytest

from bench import runner
from bench.columns import FAILURES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_quick_ends_well_and_its_floors_are_floors(tmp_path):
    rows = runner.run("quick", output=tmp_path, jobs=2)
    assert not rows["status"].isin(FAILURES).any()
    assert set(rows.loc[rows["status"] == "skipped", "method"]) == {"gies"}  # on the track that hides the targets
    unknown = rows[rows["track"] == "unknown"]
    shd = unknown[unknown["dataset"] != "sachs"].groupby("method")["shd_interventional"].mean()
    assert shd.idxmin() == "metacadi"
    assert shd["empty"] < shd["random"]


def test_linear_reaches_the_published_order_of_methods(tmp_path):
    """Means over 20 problems; a mean of SHD has a standard error of about .5 at d = 10 and 1.5 at d = 20."""
    methods = ["ut_igsp", "jci_pc", "empty"]
    rows = runner.run("linear", output=tmp_path, jobs=2, methods=methods)
    mean = rows[rows["track"] == "unknown"].groupby(["dataset", "method"])[["shd", "target_f1"]].mean()
    limits = {"hard, d=10": (3.6, 0.87), "shift, d=10": (5.4, 0.82), "hard, d=20": (11.3, 0.81), "shift, d=20": (13.5, 0.81)}
    for dataset, (shd, target_f1) in limits.items():
        ours = mean.loc[dataset, "ut_igsp"]
        assert ours["shd"] <= shd + (1.0 if "d=10" in dataset else 3.0), dataset
        assert ours["target_f1"] >= target_f1 - 0.04, dataset
        assert ours["shd"] < mean.loc[dataset, "jci_pc"]["shd"] < mean.loc[dataset, "empty"]["shd"]
