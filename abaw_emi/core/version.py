"""The version of this package, which every record carries."""

from importlib.metadata import version

VERSION = version("abaw-emi")
