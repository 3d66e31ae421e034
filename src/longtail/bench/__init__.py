"""Benchmarks: methods x data sets x imbalance factors x seeds under one protocol. Each cell is trained once."""
