"""The version, kept here so that the build and the package read the same line."""

__version__ = "0.2.0"
