"""Typed configurations and the recipes that fill them."""
