"""Smart Monitor: the flight recorder for training runs."""

__version__ = "0.1.0"
