"""BALMS: bilevel training of sample rates and example weights."""
