"""The version of the package; told in pickles, too."""

__version__ = "0.1.0"
