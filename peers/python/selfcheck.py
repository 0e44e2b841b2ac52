"""What the statements and programs promise, checked on small random data in double precision.

Derivatives are held against central differences of the levels, gathered rows against contiguous blocks, and every program
against the closed form of a problem whose answer is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

import statements
import steps
from statements import Array, Statement

# Central differences with h = 1e-5 leave h^2 times third derivatives, 1e-10, and rounding of 1e-16/h = 1e-11, of numbers of order one.
TOLERANCE = 1e-8


def examples() -> Iterator[tuple[str, Statement, int, int]]:
    """Every statement on small data, with the dimensions of x and y."""
    random = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(random.standard_normal(shape))
    quadratic = {
        f"{level}_{name}": normal(12, 5 if name in "zqa" else 3)
        for level in ("upper", "lower")
        for name in ("z", "q", "a", "w", "p", "b")
    }
    yield "quadratics", statements.quadratics(quadratic, dense=False), 3, 5
    yield "quadratics, dense", statements.quadratics(quadratic, dense=True), 3, 5
    signs = lambda n: jnp.asarray(random.choice([0.0, 1.0], n))
    logistic = {"lower_features": normal(12, 4), "lower_labels": signs(12)}
    logistic |= {"upper_features": normal(8, 4), "upper_labels": signs(8)}
    yield "logistic", statements.logistic(logistic), 4, 4
    classes = lambda n: jnp.asarray(random.integers(0, 3, n))
    cleaning = {"lower_features": normal(12, 4), "lower_labels": classes(12)}
    cleaning |= {"upper_features": normal(8, 4), "upper_labels": classes(8)}
    yield "cleaning", statements.cleaning(cleaning, classes=3, ridge=0.2), 12, 12
    manifold = {"base": normal(3, 5), "turns": normal(2, 3, 5), "labels": normal(3), "target": normal(5)}
    yield "rotating manifold", statements.rotating_manifold(manifold), 2, 5


def difference(function: Callable[[Array], Array], at: Array, along: Array) -> Array:
    """The derivative of a function along a direction, by central differences."""
    h = 1e-5
    return (function(at + h * along) - function(at - h * along)) / (2 * h)


def derivatives() -> Iterator[str]:
    """Gradients and products of every statement against differences of its levels, on a batch and on all rows."""
    random = np.random.default_rng(1)
    normal = lambda size: jnp.asarray(random.standard_normal(size))
    for name, s, m, d in examples():
        for words, take in (("all rows", lambda rows: rows), ("a batch", lambda rows: steps.gather(rows, batch(rows)))):
            x, y, v, u, w = normal(m), normal(d), normal(d), normal(m), normal(d)
            lower, upper = take(s.lower_rows), take(s.upper_rows)
            d_y, hv, jv, f_x, f_y = steps.directions(s, x, y, v, lower, upper)
            g_y = jax.grad(s.lower, 1)
            pairs = {
                "grad_y g": (d_y @ w, difference(lambda y: s.lower(x, y, lower), y, w)),
                "H v": (hv @ w, difference(lambda y: g_y(x, y, lower) @ w, y, v)),
                "J v": (jv @ u, difference(lambda x: g_y(x, y, lower) @ v, x, u)),
                "grad_x f": (f_x @ u, difference(lambda x: s.upper(x, y, upper), x, u)),
                "grad_y f": (f_y @ w, difference(lambda y: s.upper(x, y, upper), y, w)),
            }
            for oracle, (found, expected) in pairs.items():
                error = abs(found - expected) / (1 + abs(expected))
                assert error < TOLERANCE, f"{name}: {oracle} on {words} is off by {error:.1e}"
        yield f"derivatives of {name}"


def batch(rows: statements.Rows) -> Array:
    """A batch with an index that stands in it twice, or the only row."""
    n = len(next(iter(rows.values())))
    return jnp.asarray([0, n - 1, n - 1]) if n > 1 else jnp.asarray([0])


def programs() -> Iterator[str]:
    """SOBA, SABA, F2SA and BOME where F has a closed form: g = |y - x|^2/2, f = |y - c|^2/2 + |x|^2/2, so x* = c/2."""
    c = jnp.asarray([1.0, -2.0, 3.0])
    rows = {"c": jnp.tile(c, (4, 1))}
    upper = lambda x, y, rows: jnp.mean(jnp.sum((y - rows["c"]) ** 2, axis=1)) / 2 + jnp.sum(x**2) / 2
    lower = lambda x, y, rows: jnp.mean(jnp.sum((y - x + 0 * rows["c"]) ** 2, axis=1)) / 2
    s = Statement(upper, lower, rows, rows)
    count = 4000
    starts = {k: jnp.tile(jnp.asarray([0, 2], jnp.int32), count // 2) for k in ("upper", "lower")}
    loops = {f"loop_{k}": jnp.zeros((count, 5), jnp.int32) for k in ("upper", "lower_y", "lower_z")}
    take = steps.block(2)
    by = {"step_x": 0.05, "step_y": 0.2, "step_v": 0.2, "step_z": 0.2}
    cases = {
        "soba": (steps.soba(s, by | {"decay": 0.0}, take), starts, 1e-10),
        "saba": (steps.saba(s, by, 2), starts, 1e-10),
        # f + lambda g with lambda = 20: |x - x*| = O(1/lambda)
        "f2sa": (
            steps.f2sa(s, by | {"step_y": 0.04, "lambda": 20.0, "growth": 0.0, "growth_power": 1.0}, take),
            starts | loops,
            2 / 20,
        ),
        # the weight settles near 2/step_y
        "bome": (
            steps.bome(s, by | {"step_y": 0.02, "step_x": 0.02, "lower_steps": 20, "eta": 0.5, "floor": 1e-8}),
            {"step": jnp.arange(count)},
            0.2,
        ),
    }
    for name, (program, batches, tolerance) in cases.items():
        start = steps.starter(program)(jnp.zeros(3), jnp.zeros(3), rows, rows)
        x = steps.scan(program)(start, batches, rows, rows)[0]
        error = jnp.linalg.norm(x - c / 2)
        assert error < tolerance, f"{name} ends {error:.1e} from the answer, allowed are {tolerance:.1e}"
        yield f"{name} on a known answer"


def run() -> list[str]:
    """Every check; the first that fails raises."""
    return [*derivatives(), *programs()]


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    print("\n".join(run()))
