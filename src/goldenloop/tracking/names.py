"""Names for runs that nobody named, so that people can speak of them."""

from __future__ import annotations

import random

_QUALITIES = (
    "amber", "brave", "brisk", "calm", "candid", "clear", "crisp", "deep", "eager", "early", "even", "fair", "fleet", "fond", "fresh",
    "gentle", "glad", "grand", "green", "hardy", "honest", "keen", "kind", "late", "light", "lively", "loyal", "lucid", "mellow", "mild",
    "neat", "noble", "patient", "plain", "proud", "quick", "quiet", "rapid", "ready", "rich", "round", "sharp", "sober", "solid", "steady",
    "still", "sunny", "swift", "tidy", "true", "vivid", "warm", "wise",
)  # fmt: skip
_THINGS = (
    "alder", "arrow", "badger", "beacon", "birch", "bridge", "brook", "cedar", "cliff", "cloud", "comet", "coral", "crane", "delta",
    "dune", "falcon", "fern", "field", "finch", "fjord", "grove", "harbor", "hazel", "heron", "hill", "island", "juniper", "lake", "lark",
    "ledge", "linden", "maple", "marsh", "meadow", "mesa", "moss", "oak", "orchard", "otter", "pebble", "pine", "pond", "reef", "ridge",
    "river", "robin", "sparrow", "spruce", "stone", "summit", "tern", "valley", "willow", "wren",
)  # fmt: skip


def random_name() -> str:
    """Two words and a number, such as `steady-heron-412`."""
    return f"{random.choice(_QUALITIES)}-{random.choice(_THINGS)}-{random.randrange(1_000)}"
