"""What a plugin says of itself, as labelled texts: one card for the terminal, the page and the files of a run."""

from __future__ import annotations

from bench.registry import Entry
from bench.types import Capabilities, Meta

DATASET_FIELDS = ("source", "licence", "citation", "known of its truth", "not known of its truth")
"""What the card of a dataset has to tell to be complete."""

_TOLD = {"required": "must be told", "optional": "may be told"}


def card(entry: Entry) -> dict[str, str]:
    """All that a plugin says of itself but its parameters: label to text, what is left unsaid left out."""
    said = _of_dataset(entry.meta) if entry.kind == "dataset" else _of_method(entry)
    return {label: text for label, text in {"summary": entry.meta.summary, **said}.items() if text}


def _of_dataset(meta: Meta) -> dict[str, str]:
    texts = (meta.source, meta.licence, meta.reference, meta.known, meta.not_known)
    return dict(zip(DATASET_FIELDS, texts, strict=True))


def _of_method(entry: Entry) -> dict[str, str]:
    meta, able = entry.meta, entry.capabilities
    return {
        "reference": meta.reference,
        "licence": meta.licence,
        "wraps": meta.wraps,
        "mechanisms": meta.mechanisms,
        "noise": meta.noise,
        "interventions": _kinds(meta),
        "complexity": meta.complexity,
        "recommended number of variables": _variables(meta),
        "capabilities": "" if able is None else ", ".join(f"{k}={getattr(able, k)}" for k in able.__slots__),
    }


def essentials(entry: Entry) -> str:
    """What tells plugins of a kind apart, in one line.

    Of a method: the model, what it needs or may be told, what it answers, numbers of variables. Of a dataset: where its samples
    come from and what is known of its truth.
    """
    if entry.kind == "dataset":
        return " · ".join(part for part in (entry.meta.source, entry.meta.known) if part)
    meta, able = entry.meta, entry.capabilities or Capabilities()
    needs = [
        *(f"{what} {_TOLD[need]}" for what, need in (("targets", able.targets), ("graph", able.graph)) if need != "ignored"),
        *(["needs observational data"] if able.needs_observational else []),
        *([f"needs {able.min_environments} environments"] if able.min_environments > 1 else []),
        *(["needs more samples than variables"] if able.needs_more_samples_than_variables else []),
        *([f"needs {able.extra}"] if able.extra else []),
    ]
    targets = f"targets ({able.target_output})"
    answers = {targets: able.estimates_targets, "few-shot": able.adapts, "density": able.density}
    parts = [
        f"{meta.mechanisms} mechanisms" if meta.mechanisms else "",
        f"{meta.noise} noise" if meta.noise else "",
        f"interventions: {_kinds(meta)}" if meta.interventions else _kinds(meta),
        *needs,
        f"edges ({able.edge_output})" + "".join(f", {what}" for what, given in answers.items() if given),
        f"d {_variables(meta)}" if meta.n_variables else "",
    ]
    return " · ".join(part for part in parts if part)


def _kinds(meta: Meta) -> str:
    if meta.interventions is None:
        return ""
    return ", ".join(kind.replace("_", " ") for kind in meta.interventions) or "no interventions"


def _variables(meta: Meta) -> str:
    if meta.n_variables is None:
        return ""
    least, most = meta.n_variables
    return f"from {least}" if most is None else f"{least} to {most}"
