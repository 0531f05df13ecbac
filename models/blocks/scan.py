"""The selective scan: exact, in memory that grows with time by the size of its inputs alone.

All functions take and give (batch, time, channels) Δ and u, (batch, time, states) B and C, and the rates A,
(channels, states) or (states,).
"""

from __future__ import annotations

from typing import Any

from keras import ops

# keras.ops.scan wants what a step gives to be shaped as what it hands on, so here both are the same values.
UNROLLED = 128  # steps; a scan that is no longer has no loop in its graph, which int8 and compilers can read
CHUNK = 32  # steps whose states are in memory at once


def selective_scan(
    delta: Any, u: Any, into: Any, out: Any, rates: Any, *, reverse: bool, training: bool
) -> Any:
    """Return y of h = exp(Δ·A)·h + Δ·u·B, y = Σ C·h over the states, from h = 0; `reverse`: from the end."""
    time = u.shape[1]
    if training or time is None or time > UNROLLED:
        return _in_chunks(delta, u, into, out, rates, reverse)
    wide = ops.expand_dims(delta, -1)
    decay = ops.exp(wide * rates)
    fresh = wide * ops.expand_dims(into, 2) * ops.expand_dims(u, -1)
    kept, new = ops.unstack(decay, axis=1), ops.unstack(fresh, axis=1)
    order = range(time)[::-1] if reverse else range(time)
    states: list[Any] = [None] * time
    h = None
    for t in order:
        h = new[t] if h is None else kept[t] * h + new[t]
        states[t] = h
    return ops.sum(ops.stack(states, axis=1) * ops.expand_dims(out, 2), axis=-1)


def _in_chunks(delta: Any, u: Any, into: Any, out: Any, rates: Any, reverse: bool) -> Any:
    """Return the scan, chunk after chunk; its gradient computes the states of each chunk again."""
    time = u.shape[1]
    count = -(-time // CHUNK)
    length = -(-time // count)
    spare = count * length - time  # steps that keep everything and add nothing

    def parts(x: Any) -> Any:
        x = ops.flip(x, 1) if reverse else x
        x = ops.pad(x, ((0, 0), (0, spare), (0, 0)))
        return ops.transpose(ops.reshape(x, (-1, count, length, x.shape[-1])), (1, 0, 2, 3))

    rates = rates[:, None] if len(rates.shape) == 1 else ops.transpose(rates)
    y = _scanned(parts(delta), parts(u), parts(into), parts(out), rates)
    y = ops.reshape(ops.transpose(y, (1, 0, 2, 3)), (-1, count * length, u.shape[-1]))[:, :time]
    return ops.flip(y, 1) if reverse else y


def _states(delta: Any, u: Any, into: Any, rates: Any, h: Any) -> tuple[list[Any], list[Any]]:
    """Return what is kept in each step of a chunk, and the states (batch, states, channels) after each."""
    kept = ops.unstack(ops.exp(delta[:, :, None] * rates), axis=1)
    fresh = ops.unstack((delta * u)[:, :, None] * into[..., None], axis=1)
    every = []
    for a, new in zip(kept, fresh, strict=True):
        h = a * h + new
        every.append(h)
    return kept, every


def _scanned(delta: Any, u: Any, into: Any, out: Any, rates: Any) -> Any:
    """Return y of chunks (chunks, batch, time, …); rates (states, channels) or (states, 1)."""

    @ops.custom_gradient
    def scan(delta: Any, u: Any, into: Any, out: Any, rates: Any) -> Any:
        def step(carry: Any, chunk: Any) -> tuple[Any, Any]:
            (delta, u, into, out), start = chunk, carry[0]
            _, every = _states(delta, u, into, rates, start)
            y = ops.sum(ops.stack(every, axis=1) * out[..., None], axis=2)
            return (every[-1], y), (start, y)

        zero = ops.zeros_like(into[0, :, 0, :, None] * u[0, :, 0, None])
        _, (starts, y) = ops.scan(step, (zero, ops.zeros_like(u[0])), (delta, u, into, out))

        def grad(*args: Any, upstream: Any = None) -> Any:
            dy = args[0] if upstream is None else upstream
            return _gradient(dy, starts, delta, u, into, out, rates)

        return y, grad

    return scan(delta, u, into, out, rates)


def _gradient(dy: Any, starts: Any, delta: Any, u: Any, into: Any, out: Any, rates: Any) -> tuple[Any, ...]:
    """Return the gradients of all five inputs of a scan, from the last chunk to the first."""
    axes = (0, 1) if rates.shape[-1] > 1 else (0, 1, 3)

    def step(carry: Any, chunk: Any) -> tuple[Any, Any]:
        g, drates = carry[:2]  # g: of the loss by the last state of the chunk
        dy, start, delta, u, into, out = chunk
        kept, every = _states(delta, u, into, rates, start)
        before, slopes, decays = [start, *every[:-1]], [], []
        for t in reversed(range(len(every))):
            g = g + dy[:, t, None] * out[:, t, :, None]
            slopes.append(g)
            g = g * kept[t]
            decays.append(g * before[t])  # by Δ·A
        slope, decay = ops.stack(slopes[::-1], axis=1), ops.stack(decays[::-1], axis=1)
        weighed = ops.sum(slope * into[..., None], axis=2)
        ddelta = ops.sum(decay * rates, axis=2) + weighed * u
        dinto = ops.sum(slope * (delta * u)[:, :, None], axis=3)
        dout = ops.sum(ops.stack(every, axis=1) * dy[:, :, None], axis=3)
        drates = drates + ops.reshape(ops.sum(decay * delta[:, :, None], axis=axes), rates.shape)
        made = (g, drates, ddelta, weighed * delta, dinto, dout)
        return made, made

    carry = tuple(map(ops.zeros_like, (starts[0], rates, delta[0], u[0], into[0], out[0])))
    chunks = (dy, starts, delta, u, into, out)
    (_, drates, *_), (_, _, *found) = ops.scan(step, carry, chunks, reverse=True)
    return (*found, drates)
