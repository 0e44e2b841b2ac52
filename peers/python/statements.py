"""The workloads as JAX functions, stated from their formulas.

A level is the mean of a function over rows of data, plus terms that belong to every row. Levels take the rows that they
average over, so that one statement serves full batches, gathered batches and contiguous blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array
Rows = dict[str, Array]
Level = Callable[[Array, Array, Rows], Array]


@dataclasses.dataclass(frozen=True)
class Statement:
    """f (upper) and g (lower) as functions of (x, y, rows), and all rows of each."""

    upper: Level
    lower: Level
    upper_rows: Rows
    lower_rows: Rows


def quadratics(arrays: dict[str, Array], *, dense: bool) -> Statement:
    """Both levels: mean of y'A_i y/2 + x'B_i x/2 + x'C_i y + a_i'y + b_i'x, A_i = z_i z_i', B_i = w_i w_i', C_i = p_i q_i'.

    `dense` writes the matrices out, as benchmarks state them: 100 x 100 numbers each. Otherwise the factors are used.
    """

    def rows(level: str) -> Rows:
        part = {name: arrays[f"{level}_{name}"] for name in ("z", "q", "a", "w", "p", "b")}
        if not dense:
            return part
        outer = jax.vmap(jnp.outer)
        matrices = {"A": outer(part["z"], part["z"]), "B": outer(part["w"], part["w"]), "C": outer(part["p"], part["q"])}
        return matrices | {"a": part["a"], "b": part["b"]}

    def factored(x: Array, y: Array, rows: Rows) -> Array:
        products = (rows["z"] @ y) ** 2 / 2 + (rows["w"] @ x) ** 2 / 2 + (rows["p"] @ x) * (rows["q"] @ y)
        return jnp.mean(products + rows["a"] @ y + rows["b"] @ x)

    def full(x: Array, y: Array, rows: Rows) -> Array:
        products = (rows["A"] @ y) @ y / 2 + (rows["B"] @ x) @ x / 2 + (rows["C"] @ y) @ x
        return jnp.mean(products + rows["a"] @ y + rows["b"] @ x)

    level = full if dense else factored
    return Statement(level, level, rows("upper"), rows("lower"))


def logistic(arrays: dict[str, Array]) -> Statement:
    """g = mean log(1 + exp(-b a'y)) + sum exp(x_j) y_j^2/2, f = the mean over the validation rows."""

    def loss(y: Array, rows: Rows) -> Array:
        return jnp.mean(jax.nn.softplus(-rows["labels"] * (rows["features"] @ y)))

    def upper(x: Array, y: Array, rows: Rows) -> Array:
        del x
        return loss(y, rows)

    def lower(x: Array, y: Array, rows: Rows) -> Array:
        return loss(y, rows) + jnp.sum(jnp.exp(x) * y**2) / 2

    def rows(level: str) -> Rows:
        # classes 0 and 1 as -1 and 1
        return {"features": arrays[f"{level}_features"], "labels": 2 * arrays[f"{level}_labels"] - 1}

    return Statement(upper, lower, rows("upper"), rows("lower"))


def cleaning(arrays: dict[str, Array], *, classes: int, ridge: float) -> Statement:
    """g = mean sigmoid(x_i) CE_i + ridge |y|^2, f = mean CE over the validation rows; y is classes x features."""

    def losses(y: Array, rows: Rows) -> Array:
        logits = rows["features"] @ y.reshape(classes, -1).T
        chosen = jnp.take_along_axis(logits, rows["labels"][:, None], axis=1)[:, 0]
        return jax.nn.logsumexp(logits, axis=1) - chosen

    def upper(x: Array, y: Array, rows: Rows) -> Array:
        del x
        return jnp.mean(losses(y, rows))

    def lower(x: Array, y: Array, rows: Rows) -> Array:
        weights = jax.nn.sigmoid(x.at[rows["index"]].get(mode="promise_in_bounds"))
        return jnp.mean(weights * losses(y, rows)) + ridge * jnp.sum(y**2)

    def rows(level: str) -> Rows:
        features, labels = arrays[f"{level}_features"], arrays[f"{level}_labels"]
        index = jnp.arange(len(labels), dtype=jnp.int32)
        return {"features": features, "labels": labels.astype(jnp.int32), "index": index}

    return Statement(upper, lower, rows("upper"), rows("lower"))


def rotating_manifold(arrays: dict[str, Array]) -> Statement:
    """g = |A(x) y - b|^2/2 with A(x) = A_0 + sum x_k A_k, f = |y - t|^2/2; one row each."""

    def upper(x: Array, y: Array, rows: Rows) -> Array:
        del x
        return jnp.sum((y - rows["target"][0]) ** 2) / 2

    def lower(x: Array, y: Array, rows: Rows) -> Array:
        matrix = rows["base"][0] + jnp.tensordot(x, rows["turns"][0], axes=1)
        return jnp.sum((matrix @ y - rows["labels"][0]) ** 2) / 2

    part = {name: a[None] for name, a in arrays.items() if name in ("target", "base", "turns", "labels")}
    return Statement(upper, lower, {"target": part["target"]}, {k: part[k] for k in ("base", "turns", "labels")})


def state(name: str, arrays: dict[str, Array], settings: dict) -> Statement:
    """The statement of a workload by its name."""
    match name:
        case "quadratics":
            return quadratics(arrays, dense=settings.get("dense", False))
        case "ijcnn1":
            return logistic(arrays)
        case "hyper-cleaning":
            return cleaning(arrays, classes=int(settings["classes"]), ridge=settings["ridge"])
        case "rotating-manifold":
            return rotating_manifold(arrays)
    raise ValueError(f"no statement is called {name}")
