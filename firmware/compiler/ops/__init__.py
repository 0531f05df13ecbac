"""The ops: one entry each with checks, numpy meaning, C call and MACs; found by walking this folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from firmware.compiler.graph import Array, Graph, ModelError, Node, Tensor

SCALES = 1e-15, 1e8  # of a whole tensor: a ratio of three of them is a float32


@dataclass(frozen=True)
class Call:
    """One C call of a node.

    `arguments` are C expressions. In them `{in0}`, `{out0}` … stand for the pointers of the node's inputs and
    outputs (by position in `node.inputs`; a constant input is emitted once and may be named too), `{scratch}`
    for the scratch memory, and `{name}` for the constant `name`. Braces around anything else (a literal
    struct such as `(struct ear_shape){ .rows = 4 }`) stay as they are.
    """

    kernel: str  # header firmware/kernels/<kernel>.h
    arguments: tuple[str, ...]
    constants: Mapping[str, Array] = field(default_factory=dict)  # static const arrays, named per node
    scratch: int = 0  # bytes of arena needed during the call only
    function: str = ""  # C function; "" means ear_<kernel>
    # "out0" or "scratch" → bytes by which it must start before input 0 so that it may be written over it
    over: Mapping[str, int] = field(default_factory=dict)

    @property
    def symbol(self) -> str:
        """Return the name of the C function."""
        return self.function or f"ear_{self.kernel}"


@dataclass(frozen=True)
class Op:
    """What the compiler knows of one TFLite builtin op.

    `meaning(graph, node, inputs)` is the exact integer definition. `inputs` are numpy arrays in node order,
    constants included, absent ones None. With `batch`, axis 0 of the run-time inputs and outputs is 1 in the
    graph, and meaning also takes them with any number of clips there (use `x.shape`, not the graph's shape);
    without, the interpreter calls it clip by clip. `call` lowers the node to the kernels of `graph.unit`.
    """

    name: str
    versions: range
    check: Callable[[Graph, Node], None]
    meaning: Callable[[Graph, Node, Sequence[Array]], list[Array]]
    call: Callable[[Graph, Node], Call]
    macs: Callable[[Graph, Node], int]
    in_place: bool = False  # the output may overwrite input 0
    alias: bool = False  # the output is input 0
    batch: bool = False
    known: bool = False  # the outputs depend on constants and on the shapes of the inputs only
    updates: Mapping[int, int] = field(
        default_factory=dict
    )  # input of a state → output rewriting it in place


def refuse(graph: Graph, node: Node, what: str, cure: str) -> ModelError:
    """Return the error that names the node, what is wrong with it and the cure, for the caller to raise."""
    where = f" {node.name!r}" if node.name else ""
    return ModelError(f"{graph.name}: {node.op} (version {node.version}){where}: {what}: {cure}")


def tensor(graph: Graph, node: Node, position: int) -> Tensor:
    """Return the tensor at input `position` of the node; ModelError when it is absent."""
    found = optional(graph, node, position)
    if found is None:
        raise refuse(graph, node, f"input {position} is missing", "the file is damaged; export it again")
    return found


def optional(graph: Graph, node: Node, position: int) -> Tensor | None:
    """Return the tensor at input `position` of the node, None when it is absent."""
    if position >= len(node.inputs) or node.inputs[position] < 0:
        return None
    return graph.tensors[node.inputs[position]]


def output(graph: Graph, node: Node, position: int = 0) -> Tensor:
    """Return the tensor at output `position` of the node; ModelError when it is absent."""
    if position >= len(node.outputs):
        raise refuse(graph, node, f"output {position} is missing", "the file is damaged; export it again")
    return graph.tensors[node.outputs[position]]


def per_tensor(graph: Graph, node: Node, value: Tensor) -> tuple[float, int]:
    """Return (scale, zero_point) of a tensor quantised as a whole; ModelError when it is not."""
    q = value.quantisation
    if q is None or q.scale.size != 1:
        cure = "quantise the model to int8 with per-tensor activations"
        raise refuse(graph, node, f"tensor {value.name!r} has no single scale", cure)
    scale = float(q.scale[0])
    if not SCALES[0] <= scale <= SCALES[1]:
        what = f"tensor {value.name!r} has the scale {scale:.3g}, not one of {SCALES[0]:g} to {SCALES[1]:g}"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
    return scale, int(q.zero_point[0])


def require_dtype(graph: Graph, node: Node, value: Tensor, *dtypes: str) -> None:
    """Raise ModelError unless the tensor has one of the dtypes."""
    if value.dtype not in dtypes:
        cure = (
            "quantise the whole model to int8 (earkit compress, or full-integer post-training quantisation)"
        )
        raise refuse(graph, node, f"tensor {value.name!r} is {value.dtype}, not {' or '.join(dtypes)}", cure)


def require_constant(graph: Graph, node: Node, value: Tensor) -> Array:
    """Return the data of a tensor that must be known when compiling; ModelError when it is not."""
    if value.data is None:
        cure = "make it a constant of the model"
        raise refuse(graph, node, f"tensor {value.name!r} is computed at run time", cure)
    return value.data


def require_integers(graph: Graph, node: Node, position: int) -> list[int]:
    """Return the numbers of an int32 or int64 input that must be known when compiling."""
    value = tensor(graph, node, position)
    data = require_constant(graph, node, value)
    if value.dtype not in ("int32", "int64"):
        what = f"tensor {value.name!r} is {value.dtype}, not int32"
        raise refuse(graph, node, what, "the file is damaged; export it again")
    return [int(number) for number in data.reshape(-1)]


def literal(struct: str, **fields: int) -> str:
    """Return the C literal `(struct name){ .field = value, … }`: constants that specialise a kernel."""
    return f"(struct {struct}){{ {', '.join(f'.{name} = {value}' for name, value in fields.items())} }}"


def no_macs(graph: Graph, node: Node) -> int:
    """Return 0: the node moves data."""
    return 0


def lowered(graph: Graph, node: Node) -> Call:
    """Return the node's kernel call, worked out once: its constants may be the whole model."""
    known = graph.calls.get(id(node))
    if known is None:
        known = graph.calls[id(node)] = (node, OPS[node.op].call(graph, node))
    call: Call = known[1]
    return call


def _walk() -> dict[str, Op]:
    found: dict[str, Op] = {}
    for entry in sorted(pkgutil.iter_modules(__path__), key=lambda entry: entry.name):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        for op in getattr(module, "OPS", None) or (module.OP,):
            found[op.name] = op
    return found


OPS: Mapping[str, Op] = _walk()
