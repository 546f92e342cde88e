"""The page: whole in one file, nothing from elsewhere, nothing of a plugin but text, every table there without JavaScript."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import edges_frame, reliability_frame, row, rows_frame
from page_reader import Page

from bench import about as about_module
from bench.columns import WRONG_PAIRS
from bench.differences import difference_board
from bench.errors import InputError
from bench.page import NAME, views, write_page
from bench.plots import Plots, write_plots
from bench.report import write_report
from bench.suites import load_suite
from bench.tables import Cell, Column, leaderboard, legend

HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=1">',
    "</script><script>document.title=2</script>",
    "</style></title></table><h1>",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- & &lt; '`${x}",
)


def errors_of(rows, rng):
    """The same rows with wrong pairs by kind, as scoring writes them."""
    kinds = {kind: rng.integers(0, 5, len(rows)).astype(float) for kind in WRONG_PAIRS}
    total = sum(kinds.values())
    return rows.assign(**kinds, shd=total, errors_at_targets=np.floor(total / 2))


def page_of(rows, path: Path, *, boards=(), plots=None, about=None, suite="") -> Page:
    write_page(path / NAME, rows=rows, boards=boards, plots=plots or Plots((), ()), about=about or {}, suite=suite)
    return Page.of(path / NAME)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A page with everything: two tracks, two datasets, failures, plots."""
    path = tmp_path_factory.mktemp("page")
    rows = rows_frame(("empty", "ut_igsp", "gies"), tracks=("unknown", "oracle"), repetitions=4, failures={"gies": 0.3})
    rows = errors_of(rows, np.random.default_rng(0)).assign(cell="abcdef012345")
    boards = [
        leaderboard(rows, track="unknown"),
        leaderboard(rows, track="unknown", dataset="er"),
        leaderboard(rows, track="oracle"),
    ]
    few = rows[rows["track"] == "unknown"]
    plots = write_plots(few, path / "plots", edges=edges_frame(("empty",)), reliability=reliability_frame(("ut_igsp",)))
    about = json.loads(about_module.about(load_suite("quick")))
    page = page_of(rows, path, boards=boards, plots=plots, about=about, suite="name: made-up\n")
    return rows, boards, plots, page, (path / NAME).read_text(encoding="utf-8")


# --- one file, nothing from elsewhere ---------------------------------------------------------------------------------


def test_tags_match_and_the_language_and_the_width_of_the_screen_are_said(made):
    page = made[3]
    assert page.all("html", lang="en")
    assert page.all("meta", name="viewport")
    assert len(page.all("title")) == len(page.all("h1")) == 1
    assert page.all("h1")[0][1] == "made-up"


def test_nothing_is_fetched(made):
    _, _, _, page, html = made
    addresses = [a[name] for _, a in page.elements for name in ("src", "href", "srcset", "action", "data") if name in a]
    assert addresses
    assert all(address.startswith(("#", "data:image/svg+xml;base64,")) for address in addresses)
    assert not page.all("link")
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", html)
    assert "default-src 'none'" in page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0][0]["content"]


def test_every_anchor_leads_somewhere(made):
    page = made[3]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"].removeprefix("#") for a, _ in page.all("a")} <= set(ids)


def test_the_policy_allows_the_script_and_the_style_that_are_there_and_no_other(made):
    page = made[3]
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0][0]["content"]
    for what in ("style", "script"):
        ((_, text),) = [(a, text) for a, text in page.all(what) if "type" not in a]
        hashed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{what}-src 'sha256-{hashed}'" in policy
    assert not [a for _, a in page.elements if "style" in a or any(name.startswith("on") for name in a)]


# --- nothing of a plugin but text -------------------------------------------------------------------------------------


def test_whatever_a_plugin_named_or_said_is_text(tmp_path):
    rows = rows_frame(HOSTILE[:3], HOSTILE[3:5], repetitions=3, failures={HOSTILE[0]: 0.5})
    rows = errors_of(rows, np.random.default_rng(0)).assign(suite=HOSTILE[5], dataset_spec=HOSTILE[1])
    rows.loc[rows["status"] != "ok", "reason"] = HOSTILE[2]
    boards = [leaderboard(rows, track="unknown"), leaderboard(rows, track="unknown", dataset=HOSTILE[3])]
    plots = write_plots(rows, tmp_path / "plots", edges=edges_frame((HOSTILE[0],), dataset=HOSTILE[3]))
    card = {"summary": HOSTILE[0], HOSTILE[1]: HOSTILE[2]}
    about = {"methods": {HOSTILE[0]: card}, "datasets": {HOSTILE[3]: card}, "versions": {"python": HOSTILE[1]}}
    page = page_of(rows, tmp_path, boards=boards, plots=plots, about=about, suite="\n".join(HOSTILE))
    assert page.all("h1")[0][1] == HOSTILE[5]
    assert len(page.all("script")) == 2
    assert all(a["src"].startswith("data:image/svg+xml;base64,") for a, _ in page.all("img"))
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert {text for _, text in page.all("option")} >= set(HOSTILE[3:5])
    assert {a["data-name"] for a, _ in page.all("tr") if "data-name" in a} == set(HOSTILE[:3])
    assert page.all("pre")[-1][1] == "\n".join(HOSTILE)
    assert HOSTILE[2] in [text for _, text in page.all("td")]
    assert HOSTILE[2] in [text for _, text in page.all("dd")]
    data = json.loads(page.all("script", type="application/json")[0][1])
    methods = next(c for c in data["columns"] if c["head"] == "method")
    assert set(methods["texts"]) == set(HOSTILE[:3])


# --- what is there ----------------------------------------------------------------------------------------------------


def test_every_table_is_there_without_javascript_with_every_text(made):
    rows, boards, _, page, _ = made
    sections = page.all("section", **{"class": "board"})
    for board in boards:
        scope = (board.scope["track"], board.scope["dataset"])
        (text,) = [t for a, t in sections if (a["data-track"], a["data-dataset"]) == scope and board.title in t]
        for column in board.columns():
            assert column.head in text
            for cell in column.cells:
                assert cell.text in text
                assert cell.interval in text
        assert all(note in text for note in board.notes)
    assert "hidden" in page.all("p", **{"class": "controls"})[0][0]
    assert "hidden" in page.all("div", id="explorer")[0][0]
    assert f"all {len(rows)} rows needs JavaScript" in page.all("noscript")[0][1]
    lines = [text for _, text in page.all("li")]
    assert all(line in lines for line in legend(boards))


def test_an_interval_is_drawn_where_it_lies_on_the_scale_of_its_column():
    cells = (
        Cell("1", "[0, 2]", span=(0.0, 1.0, 2.0)),
        Cell("9", "[8, 10]", span=(8.0, 9.0, 10.0)),
        Cell("5", span=(np.nan, 5.0, np.nan)),
        Cell("–"),
    )
    first, second, third, none = views._entries(Column("SHD", cells))
    assert (first.bar.low, first.bar.value, first.bar.high) == (0, 10, 20)
    assert (second.bar.low, second.bar.value, second.bar.high) == (80, 90, 100)
    assert third.bar is None
    assert [e.key for e in (first, second, third, none)] == [1, 9, 5, None]


def test_bars_of_times_are_on_a_log_scale_so_that_one_slow_method_does_not_hide_the_others():
    cells = tuple(Cell("–", "[…]", span=(0.5 * x, x, 2 * x)) for x in (0.002, 0.02, 20.0))
    places = [entry.bar.value for entry in views._entries(Column("fit time", cells, by_factors=True))]
    assert places == [pytest.approx(100 * np.log(x / 0.001) / np.log(40 / 0.001), abs=0.06) for x in (0.002, 0.02, 20.0)]
    with_zero = (*cells, Cell("0", "[0, 0]", span=(0.0, 0.0, 0.0)))
    assert views._entries(Column("fit time", with_zero, by_factors=True))[-1].bar.value == 0


def test_the_columns_of_costs_and_no_others_are_on_a_log_scale():
    rows = rows_frame(("a", "b"), ("er",), repetitions=6).assign(base="a")
    boards = {
        "fit time (s) ↓": leaderboard(rows, track="unknown"),
        "fit time, ratio ↓": difference_board(rows, "a", track="unknown"),
    }
    for head, board in boards.items():
        assert [column.head for column in board.columns() if column.by_factors] == [head]
    by_time = leaderboard(rows, track="unknown", metrics=["shd"], sort_by="fit_seconds")
    assert [column.head for column in by_time.columns() if column.by_factors] == ["fit time (s) ↓"]


def test_a_name_may_break_after_a_comma_or_a_bracket_alone(tmp_path):
    name = "ut_igsp[alpha=0.01,bootstrap=20]"
    rows = errors_of(rows_frame((name,), ("er",), repetitions=2), np.random.default_rng(0))
    page_of(rows, tmp_path, boards=[leaderboard(rows, track="unknown")])
    html = (tmp_path / NAME).read_text(encoding="utf-8")
    assert html.count(">ut_igsp[<wbr>alpha=0.01,<wbr>bootstrap=20]") == 2  # in the ranked table and that of errors


def test_every_plot_is_inside_with_its_title_and_caption_for_those_who_cannot_see_it(made):
    _, _, plots, page, _ = made
    images = {a["src"]: a["alt"] for a, _ in page.all("img")}
    stems = [p for p in plots.written if p.suffix == ".svg"]
    assert len(images) == len(stems)
    for path in stems:
        alt = images["data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()]
        assert alt == ". ".join(plots.captions[path.stem])
    heads = [text for _, text in page.all("h3")]
    for kind in ("Scores", "Critical differences of mean ranks", "Few-shot curves", "Accuracy against run time", "Calibration"):
        assert kind in heads


def test_errors_by_kind_add_up_to_the_distance_and_so_do_those_at_targets_and_elsewhere(made):
    rows = made[0]
    for of_track in views.errors(rows):
        assert len(of_track["rows"]) == rows["method"].nunique()
        for line in of_track["rows"]:
            ok = rows[(rows["track"] == of_track["track"]) & (rows["method"] == line["method"]) & (rows["status"] == "ok")]
            assert line["n"] == len(ok)
            start, length = line["bars"][-1]
            assert start + length <= 100.01
            total = ok["shd"].mean()
            assert float(line["total"]) == pytest.approx(total, abs=0.051)
            assert sum(map(float, line["sizes"])) == pytest.approx(total, abs=0.2)
            assert float(line["at_targets"]) + float(line["elsewhere"]) == pytest.approx(total, abs=0.1)


def test_failures_are_listed_with_their_messages_up_to_a_limit(made, tmp_path, monkeypatch):
    rows, *_, page, _ = made
    failed = rows[rows["status"] != "ok"]
    assert f"{len(failed)} of the rows failed. " in page.all("section", id="failures")[0][1]
    assert len([t for _, t in page.all("td") if t == "made-up timeout"]) == len(failed)
    monkeypatch.setattr(views, "MOST_FAILURES", 2)
    page = page_of(rows, tmp_path)
    assert f"{len(failed)} of the rows failed; the first 2 of them. " in page.all("section", id="failures")[0][1]


def test_problems_say_how_much_their_scales_give_away(made):
    text = made[3].all("section", id="problems")[0][1]
    for said in ("var-sortability, raw units", "R²-sortability", "chance level of edge AP", "0.9", "0.6"):
        assert said in text


def test_cards_and_versions_and_the_suite_are_there(made):
    page, html = made[3:]
    text = page.all("section", id="datasets")[0][1] + page.all("section", id="methods")[0][1]
    about = json.loads(about_module.about(load_suite("quick")))
    assert set(about["methods"]) == {item.label for item in load_suite("quick").methods}
    for cards in (about["datasets"], about["methods"]):
        for label, card in cards.items():
            assert label in text
            assert all(said in text for said in card.values())
    assert about["versions"]["numpy"] in page.all("section", id="made")[0][1]
    assert "name: made-up" in html


def test_ten_thousand_rows_are_data_and_not_elements(tmp_path):
    rows = rows_frame([f"method_{m}" for m in range(20)], ("er", "sf", "chain", "tree", "mlp"), repetitions=100)
    assert len(rows) == 10_000
    page = page_of(rows, tmp_path)
    assert len(page.all("tr")) < 50
    data = json.loads(page.all("script", type="application/json")[0][1])
    assert data["n"] == 10_000
    for column in data["columns"]:
        assert len(column.get("codes", column.get("values"))) == 10_000
    assert (tmp_path / NAME).stat().st_size < 2e6


def test_rows_that_were_cut_short_say_so_and_where_none_was_there_is_no_column(tmp_path):
    rows = rows_frame(("a", "b"), ("er",), repetitions=2)
    assert "cut short" not in [column["head"] for column in views.cells(rows)["columns"]]
    rows["cut_short"] = [True, False, False, False]
    (column,) = [c for c in views.cells(rows)["columns"] if c["head"] == "cut short"]
    assert [column["texts"][code] for code in column["codes"]] == ["best so far", "", "", ""]


def test_a_row_without_most_columns_is_enough(tmp_path):
    few = pd.DataFrame([row("empty", "p0", status="error")])[["track", "dataset", "problem", "method", "status", "reason"]]
    page = page_of(few, tmp_path)
    assert "made-up error" in page.all("section", id="failures")[0][1]
    assert not page.all("section", id="errors")


# --- in a run ---------------------------------------------------------------------------------------------------------


def test_a_report_writes_its_page_with_the_cards_that_the_run_left(tmp_path):
    rows_frame(("empty",), ("er",), repetitions=2, sizes=()).to_parquet(tmp_path / "rows.parquet")
    assert tmp_path / NAME in write_report(tmp_path)
    assert not Page.of(tmp_path / NAME).all("section", id="methods")
    (tmp_path / "about.json").write_text('{"methods": {"empty": {"summary": "No edge."}}}')
    (tmp_path / "suite.yaml").write_text("name: mine\n")
    write_report(tmp_path)
    page = Page.of(tmp_path / NAME)
    assert "No edge." in page.all("section", id="methods")[0][1]
    assert "name: mine" in page.all("section", id="made")[0][1]


def test_a_broken_file_of_cards_is_one_line(tmp_path):
    rows_frame(("empty",), ("er",), repetitions=2, sizes=()).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "about.json").write_text("{")
    with pytest.raises(InputError, match=r"about\.json: expected JSON, could not read it"):
        write_report(tmp_path)


def test_of_pictures_of_single_problems_the_page_holds_some_and_names_the_rest(tmp_path):
    """A run of many datasets would be a page of ten megabytes."""
    files = [tmp_path / f"{stem}.svg" for stem in ("scores-x", *(f"edges-{k:02}" for k in range(9)))]
    for file in files:
        file.write_text("<svg/>")
    plots = Plots(tuple(files), ("ranks: too few",))
    found = {kind: len(pictures) for kind, pictures in views.pictures(plots)}
    assert found == {"Scores": 1, "Edge probabilities beside the truth": views.MOST_SINGLE_PROBLEMS}
    shown = views.page(rows_frame(("empty",), repetitions=1), [], plots, {}, "")
    assert shown["left_out"] == ["ranks: too few", "edge probabilities of 3 further problems (too many for one page)"]
