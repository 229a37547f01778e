"""The Python client of a running installation.

>>> from goldenloop.client import Client  # doctest: +SKIP
>>> Client.of_home(".goldenloop").predict("loan", [{"amount": 1200.0, "purpose": "car"}])  # doctest: +SKIP
"""

from goldenloop.client.client import Client, Prediction

__all__ = ["Client", "Prediction"]
