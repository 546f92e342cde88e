"""Every built-in dataset says where it comes from, under what licence, whom to cite, and what of its truth is known and not."""

from pathlib import Path

import pytest

import datasets
from bench import registry
from bench.cards import DATASET_FIELDS, card
from bench.types import Meta

BUILT_IN = [
    name
    for name, entry in registry.datasets().items()
    if entry.source is not None and entry.source.is_relative_to(Path(datasets.__file__).parent)
]


def missing(meta):
    """Fields of a card that a dataset leaves out."""
    told = card(registry.Entry("dataset", "any", None, meta, None, {}, {}))
    return [field for field in DATASET_FIELDS if not told.get(field)]


def test_datasets_are_found():
    assert {"synthetic", "fitted", "sachs", "table", "gene_expression", "bacadi"} <= set(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_card_of_a_dataset_is_complete(name):
    assert not missing(registry.entry("dataset", name).meta)


def test_an_incomplete_card_is_caught():
    assert missing(Meta("Some data.", "a paper", source="somewhere", known="all of it")) == ["not known of its truth"]
    assert missing(Meta("Some data.", licence="")) == list(DATASET_FIELDS)
