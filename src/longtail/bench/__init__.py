"""The bench: methods x data sets x imbalance factors x seeds under one protocol, each cell trained once."""
