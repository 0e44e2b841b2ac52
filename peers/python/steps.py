"""SOBA, SABA, F2SA and BOME: one step each as a pure function, many of them as one compiled scan.

Update rules and signs are those of the library's solvers of the same name (v solves H v = grad_y f), so that both can be
held against one another iterate by iterate. Batches come as arrays that were drawn beforehand: drawing them costs these
programs nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from statements import Array, Rows, Statement

Carry = Any
Step = Callable[[Carry, dict[str, Array], Rows, Rows], Carry]
"""(carry, batches of this step, all upper rows, all lower rows) to the next carry."""


@dataclasses.dataclass(frozen=True)
class Program:
    """What a solver starts from, and its step."""

    init: Callable[[Array, Array, Rows, Rows], Carry]
    """(x, y, all upper rows, all lower rows) to the first carry."""
    step: Step


def gather(rows: Rows, batch: Array) -> Rows:
    """The rows with these indices; all of them lie in bounds."""
    take = lambda a: a.at[batch].get(mode="promise_in_bounds", wrap_negative_indices=False)
    return jax.tree.map(take, rows)


def block(size: int) -> Callable[[Rows, Array], Rows]:
    """`size` rows that stand together, from a first one."""

    def rows_from(rows: Rows, first: Array) -> Rows:
        return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, first, size), rows)

    return rows_from


def schedule(setting: float | dict, k: Array, dtype: Any) -> Array:
    """A step size at step k: a number, or initial/(1 + k/scale)^power."""
    if isinstance(setting, (int, float)):
        return jnp.asarray(setting, dtype)
    if setting["schedule"] == "constant":
        return jnp.asarray(setting["value"], dtype)
    assert setting["schedule"] == "polynomial", setting
    return (setting["initial"] * (1 + k / setting["scale"]) ** -setting["power"]).astype(dtype)


def directions(s: Statement, x: Array, y: Array, v: Array, lower: Rows, upper: Rows) -> tuple[Array, ...]:
    """grad_y g, H v, J v, grad_x f and grad_y f; the first three in one linearisation."""
    d_y, pull = jax.vjp(lambda x, y: jax.grad(s.lower, 1)(x, y, lower), x, y)
    jv, hv = pull(v)
    f_x, f_y = jax.grad(s.upper, (0, 1))(x, y, upper)
    return d_y, hv, jv, f_x, f_y


def soba(s: Statement, settings: dict, take: Callable) -> Program:
    """One stochastic step of x, y and v at once."""

    def init(x: Array, y: Array, upper: Rows, lower: Rows) -> Carry:
        del upper, lower
        return x, y, jnp.zeros_like(y), jnp.zeros((), y.dtype)

    def step(carry: Carry, batch: dict[str, Array], upper: Rows, lower: Rows) -> Carry:
        x, y, v, k = carry
        d_y, hv, jv, f_x, f_y = directions(s, x, y, v, take(lower, batch["lower"]), take(upper, batch["upper"]))
        shrink = (k + 1) ** -settings["decay"]
        return (
            x - settings["step_x"] * shrink * (f_x - jv),
            y - settings["step_y"] * shrink * d_y,
            v - settings["step_v"] * shrink * (hv - f_y),
            k + 1,
        )

    return Program(init, step)


def saba(s: Statement, settings: dict, size: int) -> Program:
    """SOBA with a SAGA memory of one row for each full block of `size` terms that stand together.

    The start asks for every block and moves along the full averages, as the library's first step does, so that a scan
    begins with the second one. The memory is read before it is written, and nothing of the old one is used afterwards;
    XLA for processors copies it at every step all the same, as its compiled text shows. Mutable references, scatters, flat
    tables and optimisation barriers in place of this form were tried, and copy as well.
    """
    take = block(size)
    names = ("y", "h", "j", "fx", "fy")
    terms = lambda rows: len(next(iter(rows.values())))

    def init(x: Array, y: Array, upper: Rows, lower: Rows) -> Carry:
        v = jnp.zeros_like(y)
        means = dict(zip(names, directions(s, x, y, v, lower, upper), strict=True))
        x_next = x - settings["step_x"] * (means["fx"] - means["j"])
        y_next, v_next = y - settings["step_y"] * means["y"], settings["step_v"] * (means["fy"] - means["h"])
        of_lower = lambda first: directions(s, x, y, v, take(lower, first), take(upper, 0))[:3]
        of_upper = lambda first: directions(s, x, y, v, take(lower, 0), take(upper, first))[3:]
        blocks = lambda rows: size * jnp.arange(terms(rows) // size, dtype=jnp.int32)
        answers = (*lax.map(of_lower, blocks(lower)), *lax.map(of_upper, blocks(upper)))
        memory = {name: (table, means[name]) for name, table in zip(names, answers, strict=True)}
        return x_next, y_next, v_next, memory

    def step(carry: Carry, batch: dict[str, Array], upper: Rows, lower: Rows) -> Carry:
        x, y, v, memory = carry
        rows = take(lower, batch["lower"]), take(upper, batch["upper"])
        estimates = {}
        updated = {}
        for name, new in zip(names, directions(s, x, y, v, *rows), strict=True):
            level, first = (upper, batch["upper"]) if name[0] == "f" else (lower, batch["lower"])
            table, mean = memory[name]
            change = new - lax.dynamic_index_in_dim(table, first // size, keepdims=False)
            estimates[name] = mean + change
            table = lax.dynamic_update_index_in_dim(table, new, first // size, 0)
            updated[name] = table, mean + (size / terms(level)) * change
        return (
            x - settings["step_x"] * (estimates["fx"] - estimates["j"]),
            y - settings["step_y"] * estimates["y"],
            v - settings["step_v"] * (estimates["h"] - estimates["fy"]),
            updated,
        )

    return Program(init, step)


def f2sa(s: Statement, settings: dict, take: Callable) -> Program:
    """K steps each of y on f + lambda g and of z on g, then one of x; lambda grows."""
    f_x, f_y = jax.grad(s.upper, 0), jax.grad(s.upper, 1)
    g_x, g_y = jax.grad(s.lower, 0), jax.grad(s.lower, 1)

    def init(x: Array, y: Array, upper: Rows, lower: Rows) -> Carry:
        del upper, lower
        return x, y, y, jnp.asarray(settings["lambda"], y.dtype), jnp.zeros((), y.dtype)

    def step(carry: Carry, batch: dict[str, Array], upper: Rows, lower: Rows) -> Carry:
        x, y, z, weight, k = carry
        by = {name: schedule(settings[f"step_{name}"], k, y.dtype) for name in "xyz"}

        def below(pair: Carry, batch: dict[str, Array]) -> tuple[Carry, None]:
            y, z = pair
            d = f_y(x, y, take(upper, batch["upper"])) + weight * g_y(x, y, take(lower, batch["lower_y"]))
            return (y - by["y"] * d, z - by["z"] * g_y(x, z, take(lower, batch["lower_z"]))), None

        loops = {name: batch[f"loop_{name}"] for name in ("upper", "lower_y", "lower_z")}
        (y, z), _ = lax.scan(below, (y, z), loops)
        rows = take(lower, batch["lower"])
        d = f_x(x, y, take(upper, batch["upper"])) + weight * (g_x(x, y, rows) - g_x(x, z, rows))
        weight_next = weight + settings["growth"] / (k + 1) ** settings["growth_power"]
        return x - by["x"] * d, y, z, weight_next, k + 1

    return Program(init, step)


def bome(s: Statement, settings: dict) -> Program:
    """T steps of z on g, then a step of (x, y) along grad f + lambda grad(g(x, y) - g(x, z)); full batches."""

    def init(x: Array, y: Array, upper: Rows, lower: Rows) -> Carry:
        del upper, lower
        return x, y, y

    def step(carry: Carry, batch: dict[str, Array], upper: Rows, lower: Rows) -> Carry:
        del batch
        x, y, z = carry
        descend = lambda _, z: z - settings["step_z"] * jax.grad(s.lower, 1)(x, z, lower)
        z = lax.fori_loop(0, int(settings["lower_steps"]), descend, z)
        f_x, f_y = jax.grad(s.upper, (0, 1))(x, y, upper)
        gap_x, gap_y = jax.grad(s.lower, (0, 1))(x, y, lower)
        gap_x = gap_x - jax.grad(s.lower, 0)(x, z, lower)
        squared = gap_x @ gap_x + gap_y @ gap_y
        slope = f_x @ gap_x + f_y @ gap_y
        weight = jnp.maximum(0, (settings["eta"] * squared - slope) / (squared + settings["floor"]))
        return x - settings["step_x"] * (f_x + weight * gap_x), y - settings["step_y"] * (f_y + weight * gap_y), z

    return Program(init, step)


def starter(program: Program) -> Callable[[Array, Array, Rows, Rows], Carry]:
    """A function that makes first carries, each with memory of its own throughout, as a scan writes into it."""
    init = jax.jit(program.init)
    return lambda *start: jax.block_until_ready(jax.tree.map(jnp.copy, init(*start)))


def scan(program: Program) -> Callable[[Carry, dict[str, Array], Rows, Rows], Carry]:
    """All steps for which there are batches, as one compiled function; the carry it is given is used up."""

    def run(carry: Carry, batches: dict[str, Array], upper: Rows, lower: Rows) -> Carry:
        return lax.scan(lambda c, b: (program.step(c, b, upper, lower), None), carry, batches)[0]

    return jax.jit(run, donate_argnums=0)
