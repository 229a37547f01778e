"""Tables whose truth is known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def customers(rows: int, *, seed: int = 0, shift: float = 0.0) -> pa.Table:
    """Rows whose answer follows from a number and a town; a fifth of `holes` is missing; `at` is in seconds, hourly."""
    random = np.random.default_rng(seed)
    number = random.normal(loc=shift, size=rows)
    town = random.choice(["north", "south", "west"], size=rows)
    answer = np.where(number + (town == "north") + random.normal(scale=0.4, size=rows) > 0.5, "yes", "no")
    holes = [None if hole < 0.2 else value for hole, value in zip(random.random(rows), number * 2, strict=True)]
    times = np.arange(rows) * 3600 + 1_700_000_000
    who = [f"c{place % 40}" for place in range(rows)]
    return pa.table({"at": times, "who": who, "number": number, "town": town, "holes": holes, "answer": answer})


def prices(rows: int, *, seed: int = 0) -> pa.Table:
    """Rows whose price is three times the size, and 10 more in the city."""
    random = np.random.default_rng(seed)
    size = random.uniform(10, 100, size=rows)
    place = random.choice(["city", "land"], size=rows)
    price = 3 * size + 10 * (place == "city") + random.normal(scale=2, size=rows)
    return pa.table({"size": size, "place": place, "price": price})
