"""Recipes: short YAML files of data sets, training settings and methods, and how they merge."""
