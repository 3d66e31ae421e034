"""Fuzz of the readers: damaged inputs, made from a seed, go through the command line as a user would call it.

`python -m tests.fuzz --help` runs it. Each case is accepted (exit code 0), refused (exit code 2 with one message that
names the input, and nothing written), or something else, which is a fault.
"""
