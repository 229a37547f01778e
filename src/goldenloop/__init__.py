"""goldenloop: the whole machine-learning loop on one machine.

Importing this package costs next to nothing; its rooms are imported where they are used.
"""

__version__ = "0.1.0"
