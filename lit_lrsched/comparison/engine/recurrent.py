"""torch's recurrent layers as loops over the steps of a sequence: torch.func has no rule for the layers themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

#: Takes the input's share of the gates, the states and the weights of a layer; returns the new states.
Cell = Callable[[tuple[Tensor, ...], tuple[Tensor, ...], Sequence[Tensor]], tuple[Tensor, ...]]


def gru(*args: Any) -> Any:
    """Computes ``torch.gru``: outputs and final state."""
    return _layers(_gru_cell, 1, *args)


def lstm(*args: Any) -> Any:
    """Computes ``torch.lstm``: outputs, final state and final cell."""
    return _layers(_lstm_cell, 2, *args)


def rnn_tanh(*args: Any) -> Any:
    """Computes ``torch.rnn_tanh``: outputs and final state."""
    return _layers(_plain_cell(torch.tanh), 1, *args)


def rnn_relu(*args: Any) -> Any:
    """Computes ``torch.rnn_relu``: outputs and final state."""
    return _layers(_plain_cell(torch.relu), 1, *args)


def gru_cell(input: Tensor, state: Tensor, *weights: Tensor | None) -> Tensor:
    """Computes ``torch.gru_cell``: the new state."""
    return _one_step(_gru_cell, input, (state,), weights)[0]


def lstm_cell(input: Tensor, states: Sequence[Tensor], *weights: Tensor | None) -> tuple[Tensor, ...]:
    """Computes ``torch.lstm_cell``: the new state and cell."""
    return _one_step(_lstm_cell, input, tuple(states), weights)


def rnn_tanh_cell(input: Tensor, state: Tensor, *weights: Tensor | None) -> Tensor:
    """Computes ``torch.rnn_tanh_cell``: the new state."""
    return _one_step(_plain_cell(torch.tanh), input, (state,), weights)[0]


def rnn_relu_cell(input: Tensor, state: Tensor, *weights: Tensor | None) -> Tensor:
    """Computes ``torch.rnn_relu_cell``: the new state."""
    return _one_step(_plain_cell(torch.relu), input, (state,), weights)[0]


def _one_step(
    cell: Cell, input: Tensor, state: tuple[Tensor, ...], weights: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    given = [weight for weight in weights if weight is not None]
    return _layer(cell, input[None], state, given, biased=len(given) == 4, backward=False)[1]


def _layers(
    cell: Cell,
    states: int,
    input: Tensor,
    start: Any,
    weights: Any,
    biased: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
) -> Any:
    if isinstance(weights, Tensor):
        return NotImplemented  # a packed sequence, whose lengths are values
    started = (start,) if isinstance(start, Tensor) else start
    x = input.transpose(0, 1) if batch_first else input
    each = len(weights) // (layers * (2 if bidirectional else 1))
    final: list[tuple[Tensor, ...]] = []
    for layer in range(layers):
        directions = []
        for backward in (False, True) if bidirectional else (False,):
            place = len(final)
            state = tuple(part[place] for part in started)
            outputs, state = _layer(cell, x, state, weights[place * each : (place + 1) * each], biased, backward)
            directions.append(outputs)
            final.append(state)
        x = torch.cat(directions, dim=-1)
        if layer < layers - 1:
            x = dropped(x, dropout, train)
    return (x.transpose(0, 1) if batch_first else x, *(torch.stack(parts) for parts in zip(*final, strict=True)))


def _layer(
    cell: Cell, x: Tensor, state: tuple[Tensor, ...], weights: Sequence[Tensor], biased: bool, backward: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    into, *others = weights
    given = F.linear(x, into, others[1] if biased else None)
    # Split, not sliced, and before the loop: the gradient of a slice fills a tensor with zeros first.
    parts = _gates(given, state[0]) if cell is _gru_cell else (given,)
    steps = list(zip(*(part.unbind() for part in parts), strict=True))
    outputs = []
    for step in reversed(steps) if backward else steps:
        state = cell(step, state, others)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backward else outputs), state


def _recurrent(state: Tensor, others: Sequence[Tensor]) -> Tensor:
    # Of four or five weights the third and the fourth are biases.
    return F.linear(state, others[0], others[2] if len(others) > 2 else None)


def _plain_cell(activation: Callable[[Tensor], Tensor]) -> Cell:
    return lambda given, state, others: (activation(given[0] + _recurrent(state[0], others)),)


def _gates(both: Tensor, state: Tensor) -> tuple[Tensor, ...]:
    size = state.shape[-1]
    return torch.split(both, [2 * size, size], dim=-1)


def _gru_cell(given: tuple[Tensor, ...], state: tuple[Tensor, ...], others: Sequence[Tensor]) -> tuple[Tensor, ...]:
    hidden = state[0]
    gates, new = _gates(_recurrent(hidden, others), hidden)
    reset, update = torch.sigmoid(given[0] + gates).chunk(2, dim=-1)
    new = torch.tanh(given[1] + reset * new)
    return (new + update * (hidden - new),)


def _lstm_cell(given: tuple[Tensor, ...], state: tuple[Tensor, ...], others: Sequence[Tensor]) -> tuple[Tensor, ...]:
    hidden, memory = state
    enter, forget, new, out = (given[0] + _recurrent(hidden, others)).chunk(4, dim=-1)
    memory = torch.sigmoid(forget) * memory + torch.sigmoid(enter) * torch.tanh(new)
    hidden = torch.sigmoid(out) * torch.tanh(memory)
    projected = len(others) in (2, 4)
    return (F.linear(hidden, others[-1]) if projected else hidden, memory)


def dropped(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Computes ``dropout``. torch's own draws in place, which torch.func refuses for a tensor that all runs share."""
    if not training or p == 0:
        return input
    out = input * 0.0 if p == 1 else torch.where(torch.rand_like(input) >= p, input, 0.0) * (1 / (1 - p))
    return input.copy_(out) if inplace else out
