"""Runs: resolve a configuration, train, and read a finished run folder."""
