"""The harness: types, registry, runner, scores and what is shown of them."""
