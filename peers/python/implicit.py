"""Hypergradients by implicit differentiation in JAXopt and Optimistix.

Each method solves the lower level from the given start and differentiates f at its solution, as its documentation says.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import jaxopt
import lineax
import numpy as np
import optimistix
from jax import lax
from jaxopt import linear_solve

from statements import Array, Statement

if TYPE_CHECKING:
    from worker import Workload

Solve = Callable[[Array, Array], Array]
"""(x, start) to a lower solution, differentiable in x."""


def jaxopt_method(s: Statement, kind: str, linear: str | None, options: dict) -> Solve:
    """L-BFGS or gradient descent with implicit differentiation."""
    solvers = {
        "cg": linear_solve.solve_cg,
        "normal-cg": linear_solve.solve_normal_cg,
        "gmres": linear_solve.solve_gmres,
        "bicgstab": linear_solve.solve_bicgstab,
        "lu": linear_solve.solve_lu,
        "cholesky": linear_solve.solve_cholesky,
    }
    common: dict[str, Any] = {"maxiter": options["max_steps"], "tol": options["tolerance"]}
    if linear is not None:
        common["implicit_diff_solve"] = solvers[linear]
    # the argument that is descended comes first
    objective = lambda y, x: s.lower(x, y, s.lower_rows)
    if kind == "lbfgs":
        solver = jaxopt.LBFGS(objective, **common)
    else:
        solver = jaxopt.GradientDescent(objective, stepsize=options["step"], acceleration=False, **common)
    return lambda x, start: solver.run(start, x).params


def optimistix_method(s: Statement, linear: str | None, options: dict) -> Solve:
    """BFGS with implicit differentiation."""
    tolerance = options["tolerance"]
    adjoint = optimistix.ImplicitAdjoint()
    if linear == "svd":
        adjoint = optimistix.ImplicitAdjoint(lineax.SVD())
    elif linear == "cg":
        adjoint = optimistix.ImplicitAdjoint(lineax.CG(rtol=tolerance, atol=tolerance))
    solver = optimistix.BFGS(rtol=tolerance, atol=tolerance)
    objective = lambda y, x: s.lower(x, y, s.lower_rows)
    most = options["max_steps"]
    return lambda x, start: optimistix.minimise(objective, solver, start, args=x, adjoint=adjoint, max_steps=most).value


def unrolled(s: Statement, options: dict) -> Solve:
    """Gradient descent, differentiated step by step."""

    def solve(x: Array, start: Array) -> Array:
        descend = lambda y, _: (y - options["step"] * jax.grad(s.lower, 1)(x, y, s.lower_rows), None)
        return lax.scan(descend, start, length=options["max_steps"])[0]

    return solve


def method(s: Statement, name: str, options: dict) -> Solve:
    """A method by its name: library, lower solver and linear solver, parted by spaces."""
    match name.split():
        case ["jaxopt", kind]:
            return jaxopt_method(s, kind, None, options)
        case ["jaxopt", kind, linear]:
            return jaxopt_method(s, kind, linear, options)
        case ["optimistix"]:
            return optimistix_method(s, None, options)
        case ["optimistix", linear]:
            return optimistix_method(s, linear, options)
        case ["unrolled"]:
            return unrolled(s, options)
    raise ValueError(f"no method is called {name}")


def answer(workload: Workload, request: dict) -> dict:
    """F and its gradient at the start, the lower residual, the seconds of a warm call, and every word of warning."""
    key = json.dumps(request, sort_keys=True)
    if key not in workload.programs:
        s, arrays = workload.statement(request)
        solve = method(s, request["method"], request["options"])

        def hyper(x: Array, start: Array) -> tuple[Array, Array]:
            y = solve(x, start)
            return s.upper(x, y, s.upper_rows), y

        workload.programs[key] = jax.jit(jax.value_and_grad(hyper, has_aux=True)), s, arrays
    run, s, arrays = workload.programs[key]
    x, y = arrays["x0"], arrays["y0"]
    with warnings.catch_warnings(record=True) as words:
        warnings.simplefilter("always")
        for _ in range(request.get("warm_up", 1)):
            jax.block_until_ready(run(x, y))
        clock = time.perf_counter()
        (value, at), gradient = jax.block_until_ready(run(x, y))
        seconds = time.perf_counter() - clock
    residual = jnp.linalg.norm(jax.grad(s.lower, 1)(x, at, s.lower_rows))
    numbers = lambda a: np.asarray(a, float).tolist()
    return {
        "value": numbers(value),
        "gradient": numbers(gradient),
        "lower_gradient": numbers(residual),
        "seconds": seconds,
        "warnings": [str(word.message) for word in words],
    }
