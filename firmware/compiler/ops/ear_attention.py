"""EAR_ATTENTION: scores = q k, softmax, times v, a block of rows at a time: scores are never stored whole.

The same bytes as the chain that it replaces (`chain` of the options): transposes of q, k and v, BATCH_MATMUL,
a table perhaps, SOFTMAX, BATCH_MATMUL and the transpose of the result. The transposes become strides. Each
step is the call of its own op on matrices of one block, so every unit brings its own products. Made by
passes.attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from firmware.compiler import ops
from firmware.compiler.graph import Array, Graph, Node, Tensor
from firmware.compiler.operands import c_list, lead, product
from firmware.compiler.ops import Call, Op, refuse

LOOPS = 3  # merged stack axes
ALIGNED = 8
IN_PLACE = "EAR_ATTENTION_IN_PLACE"
BIASES = ("ADD", "MUL", "SUB")  # with a constant: a mask, a scale, relative positions


@dataclass(frozen=True)
class View:
    """Where a stack of matrices lies in a tensor: element steps of stack axes, rows and columns."""

    stack: tuple[int, ...]
    row: int
    column: int


@dataclass(frozen=True)
class Plan:
    """Sizes and strides of the whole: what passes.attention found."""

    stack: tuple[int, ...]
    rows: int
    columns: int  # of the scores
    depth: int
    width: int  # of v
    q: View
    k: View  # rows: columns of the scores
    v: View
    y: View
    biases: tuple[View, ...] = ()  # of the constants between the scores and the softmax, in their order

    @property
    def block(self) -> int:
        """Return the rows of scores that are kept at once: about as many bytes as q, k and v of a head."""
        blocks = max(1, self.rows // (2 * self.depth + self.width))
        even = -(-self.rows // blocks)
        return min(self.rows, even + even % 2)  # kernels take two rows at a time

    @property
    def bytes(self) -> int:
        """Return the scratch memory of the kernel itself: k, v, and q, scores and result of a block."""
        sizes = (self.columns * self.depth, self.columns * self.width, self.block * self.depth,
                 self.block * self.columns, self.block * self.width)  # fmt: skip
        return sum(-(-size // ALIGNED) * ALIGNED for size in sizes)

    @property
    def saves(self) -> bool:
        """Tell whether the scores of all heads would take more than that."""
        return product(self.stack) * self.rows * self.columns > self.bytes


def bias(graph: Graph, step: Node) -> int:
    """Return the constant input of a step between scores and softmax."""
    return next(i for i in step.inputs if graph.tensors[i].constant)


def _chain(node: Node) -> tuple[Node, ...]:
    chain: tuple[Node, ...] = node.options["chain"]
    return chain


def _check(graph: Graph, node: Node) -> None:
    plan: Plan = node.options["plan"]
    if len(plan.stack) > LOOPS:
        what = f"stacks of {plan.stack} take more than {LOOPS} loops"
        raise refuse(graph, node, what, "reshape them to fewer axes")
    for step in _chain(node):
        ops.OPS[step.op].check(graph, step)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    values = dict(zip(node.inputs, inputs, strict=True))
    for step in _chain(node):
        operands = [values[i] if i in values else graph.tensors[i].data for i in step.inputs]
        made = ops.OPS[step.op].meaning(graph, step, operands)  # type: ignore[arg-type]
        values.update(zip(step.outputs, made, strict=True))
    return [values[node.outputs[0]]]


def _matrix(value: Tensor, rows: int, columns: int) -> Tensor:
    return replace(value, shape=(rows, columns))


def _part(graph: Graph, step: Node, names: Sequence[str], shapes: Sequence[tuple[int, int]]) -> Call:
    """Return the call of one step on matrices of these shapes, its pointers named; scratch is `inner`."""
    ends = (*step.inputs[: len(names) - 1], step.outputs[0])
    rest = [graph.tensors[i] for i in step.inputs[len(names) - 1 :]]
    values = [_matrix(graph.tensors[i], *shape) for i, shape in zip(ends, shapes, strict=True)]
    count = len(names) - 1
    inputs = (*range(count), *range(count + 1, count + 1 + len(rest)))
    small = replace(graph, tensors=(*values, *rest), inputs=(), outputs=(), nodes=(), states=())
    made = ops.OPS[step.op].call(small, replace(step, inputs=inputs, outputs=(count,)))
    texts = {f"{{in{i}}}": name for i, name in enumerate(names[:-1])} | {
        "{out0}": names[-1],
        "{scratch}": "inner",
    }
    arguments = list(made.arguments)
    for placeholder, name in texts.items():
        arguments = [argument.replace(placeholder, name) for argument in arguments]
    constants = dict(made.constants)
    constants |= {f"in{count + i}": value.data for i, value in enumerate(rest) if value.data is not None}
    text = ", ".join(arguments)
    for name in constants:
        text = text.replace(f"{{{name}}}", f"{{{step.op.lower()}_{name}}}")
    renamed = {f"{step.op.lower()}_{name}": data for name, data in constants.items()}
    return Call(made.kernel, (f"({made.symbol}({text}))",), renamed, made.scratch)


def _biased(graph: Graph, step: Node, view: View, p: Plan, name: str) -> Call:
    """Return the call of a sum or product of a block of scores with the constant's part for them."""
    constant = bias(graph, step)
    running = next(i for i in step.inputs if i != constant)
    apart = lead(view.stack, LOOPS, 0)
    start = " + ".join(f"i{axis} * {size}" for axis, size in enumerate(apart))
    place = f"({{{name}}} + {start} + first * {view.row})"
    shape = p.block if view.row else 1, p.columns if view.column else 1
    square = p.block, p.columns
    data = graph.tensors[constant].data
    bare = list(graph.tensors)  # the kernel is given a place in the constant, not the constant
    bare[constant] = replace(graph.tensors[constant], data=None)
    part = _part(
        replace(graph, tensors=tuple(bare)),
        replace(step, inputs=(running, constant)),
        ("scores", place, "scores"),
        (square, shape, square),
    )
    assert data is not None
    return replace(part, constants={**part.constants, name: data})


def _steps(graph: Graph, node: Node) -> list[Call]:
    """Return the calls on one block: scores, what is between, softmax, times v."""
    p: Plan = node.options["plan"]
    inside = [step for step in _chain(node) if step.op != "TRANSPOSE"]
    scores, *between, values = inside
    square = p.block, p.columns
    upright = replace(scores, options={**scores.options, "adj_x": False, "adj_y": True})
    first = _part(
        graph, upright, ("rows", "k_all", "scores"), ((p.block, p.depth), (p.columns, p.depth), square)
    )
    views = iter(p.biases)
    middle = [
        _biased(graph, step, next(views), p, f"bias{i}")
        if step.op in BIASES
        else _part(graph, step, ("scores", "scores"), (square, square))
        for i, step in enumerate(between)
    ]
    plain = replace(values, options={**values.options, "adj_x": False, "adj_y": False})
    shapes = (square, (p.columns, p.width), (p.block, p.width))
    last = _part(graph, plain, ("scores", "v_all", "result"), shapes)
    return [first, *middle, last]


def _call(graph: Graph, node: Node) -> Call:
    p: Plan = node.options["plan"]
    steps = _steps(graph, node)
    fields = [f".stack = {c_list(lead(p.stack, LOOPS, 1))}"]
    for name in "qkvy":
        view: View = getattr(p, name)
        fields += [f".{name}_stack = {c_list(lead(view.stack, LOOPS, 0))}", f".{name}_row = {view.row}"]
        fields += [f".{name}_column = {view.column}"]
    fields += [f".{name} = {getattr(p, name)}" for name in ("rows", "columns", "depth", "width", "block")]
    shape = "((struct ear_attention){ " + ", ".join(fields) + " })"
    between = "(" + ", ".join(step.arguments[0] for step in steps[1:-1]) + ")"
    scratch = p.bytes + max(step.scratch for step in steps)
    arguments = ("{in0}", "{in1}", "{in2}", "{out0}", "{scratch}", shape)
    constants = {name: data for step in steps for name, data in step.constants.items()}
    texts = (steps[0].arguments[0], between, steps[-1].arguments[0])
    return Call("attention", (*arguments, *texts), constants, scratch, "EAR_ATTENTION")


def _macs(graph: Graph, node: Node) -> int:
    return sum(ops.OPS[step.op].macs(graph, step) for step in _chain(node))


OPS = (
    Op("EAR_ATTENTION", range(1, 2), _check, _meaning, _call, _macs),
    Op(IN_PLACE, range(1, 2), _check, _meaning, _call, _macs, in_place=True),
)


def name(plan: Plan) -> str:
    """Return the op for a plan: the result may overwrite q where it lies as q does."""
    same = plan.q == plan.y and plan.depth == plan.width
    whole = all(step or size == 1 for step, size in zip(plan.q.stack, plan.stack, strict=True))
    return IN_PLACE if same and whole else "EAR_ATTENTION"
