"""The race of the benchmark in JAX, as somebody who knows JAX would write it: vmap over runs, scan over steps, jit.

A run is 50 epochs of the worked example: SGD with momentum at rates of its own for every step, batches of 24 in the
order of its seed, losses and hits summed over every epoch, and a validation after each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BATCH = 24


class Rows(NamedTuple):
    """Rows by seed: features ``[seeds, rows, features]`` and labels ``[seeds, rows, 1]``."""

    x: Any
    y: Any


def logits(weights: Any, x: Any) -> Any:
    """Returns those of a perceptron with one hidden layer."""
    return jax.nn.relu(x @ weights["w1"] + weights["b1"]) @ weights["w2"] + weights["b2"]


def loss_of(weights: Any, x: Any, y: Any) -> Any:
    """Returns the mean loss of a batch, and its sums of losses and hits."""
    z = logits(weights, x)
    losses = jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z)))
    return losses.mean(), jnp.stack([losses.sum(), ((z > 0) == (y > 0)).sum()])


def step(carry: Any, x: Any, y: Any, rate: Any, momentum: Any) -> Any:
    """Takes one step."""
    weights, moving = carry
    (_, sums), gradient = jax.value_and_grad(loss_of, has_aux=True)(weights, x, y)
    moving = jax.tree.map(lambda m, g: momentum * m + g, moving, gradient)
    return (jax.tree.map(lambda w, m: w - rate * m, weights, moving), moving), sums


class JaxRace:
    """Runs that train together, compiled for their number.

    Args:
        train: Rows that train, by seed.
        validation: Rows that validate, by seed.
        order: Their order in every epoch, ``[seeds, epochs, rows]``.
        weights: What each seed starts from: arrays ``[seeds, ...]`` by name.
        seeds: The seed of each run, ``[R]``.
        rates: Learning rates, ``[R, steps]``.
        momenta: Momenta, likewise.
    """

    def __init__(
        self,
        train: Rows,
        validation: Rows,
        order: np.ndarray,
        weights: dict[str, np.ndarray],
        seeds: np.ndarray,
        rates: np.ndarray,
        momenta: np.ndarray,
    ) -> None:
        rows, epochs = order.shape[2], order.shape[1]
        full = rows // BATCH
        (train, validation), order = jax.tree.map(jnp.asarray, ((train, validation), order))

        def run(weights: Any, seed: Any, rates: Any, momenta: Any) -> Any:
            own, held_out = (jax.tree.map(lambda leaf: leaf[seed], part) for part in (train, validation))

            def epoch(carry: Any, at: Any) -> Any:
                order, rates, momenta = at
                batches = order[: full * BATCH].reshape(full, BATCH)

                def one(carry: Any, now: Any) -> Any:
                    batch, rate, momentum = now
                    return step(carry, own.x[batch], own.y[batch], rate, momentum)

                carry, sums = jax.lax.scan(one, carry, (batches, rates[:full], momenta[:full]))
                sums = sums.sum(0)
                if rows % BATCH:
                    rest = order[full * BATCH :]
                    carry, last = step(carry, own.x[rest], own.y[rest], rates[full], momenta[full])
                    sums = sums + last
                return carry, (sums / rows, loss_of(carry[0], *held_out)[1] / len(held_out.x))

            start = weights, jax.tree.map(jnp.zeros_like, weights)
            (weights, _), logged = jax.lax.scan(
                epoch, start, (order[seed], rates.reshape(epochs, -1), momenta.reshape(epochs, -1))
            )
            return weights, logged

        each = {name: jnp.asarray(leaf)[seeds] for name, leaf in weights.items()}
        tables = (jnp.asarray(table, jnp.float32) for table in (rates, momenta))
        self._arguments = (each, jnp.asarray(seeds), *tables)
        self._run = jax.jit(jax.vmap(run)).lower(*self._arguments).compile()

    def __call__(self) -> Any:
        """Trains, and returns weights and curves, ``[R, ...]``."""
        return jax.tree.map(np.asarray, self._run(*self._arguments))
