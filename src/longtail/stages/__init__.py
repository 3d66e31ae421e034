"""Stages of a recipe: each turns a model into a better-balanced model."""
