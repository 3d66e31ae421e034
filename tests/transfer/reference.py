"""SMART's step written from the paper, image by image and entry by entry, in float64 NumPy."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
EPS = 1e-5


def class_statistics(features: list[Array]) -> tuple[Array, Array]:
    """Mean and covariance over all positions (rows) of all images of a class."""
    rows = np.concatenate(features)
    return rows.mean(axis=0), np.cov(rows.T, bias=True).reshape(rows.shape[1], rows.shape[1])


def emphasized(products: Array, tau: float, row_max: bool = True) -> Array:
    """Eqs. 4 and 5: softmax over each row of the products, times the products."""
    out = np.zeros_like(products)
    for i, row in enumerate(products):
        exponents = tau * row / (max(abs(row)) if row_max else 1.0)
        gamma = np.exp(exponents - exponents.max())
        out[i] = gamma / gamma.sum() * row
    return out


def correlation(covariance: Array) -> Array:
    std = np.sqrt(np.diag(covariance))
    return covariance / np.outer(std, std)


def root(matrix: Array, power: float) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors @ np.diag(values**power) @ vectors.T)


def matrix(tail: Array, head: Array, scale: str, tau: float = 10.0, shrinkage: float = 0.1) -> Array:
    """Return A, which is applied to the rows (f - mean) / sqrt(variance + eps)."""
    std = np.sqrt(np.diag(tail) + EPS)
    if scale == "optimal-transport":
        shrunk = (1 - shrinkage) * tail + shrinkage * np.trace(tail) / len(tail) * np.eye(len(tail))
        half, inverse = root(shrunk, 0.5), root(shrunk, -0.5)
        return np.diag(std) @ (inverse @ root(half @ head @ half, 0.5) @ inverse).T
    if scale == "correlation":
        return emphasized(correlation(tail).T @ correlation(head), tau) @ np.diag(np.sqrt(np.diag(head)))
    own = emphasized(tail.T @ head, tau)
    if scale == "spectral":
        return np.asarray(own / np.linalg.svd(own)[1][0])
    if scale == "trace":
        standardized = tail / np.outer(std, std)
        return np.asarray(own * np.sqrt(np.trace(head) / np.trace(own.T @ standardized @ own)))
    return own


def changed(rows: Array, mean: Array, tail: Array, a: Array, clamp: float) -> Array:
    """Eq. 6, row by row."""
    std = np.sqrt(np.diag(tail) + EPS)
    return np.stack([np.clip((row - mean) / std, -clamp, clamp) @ a + mean for row in rows])
