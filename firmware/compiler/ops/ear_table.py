"""EAR_TABLE: any function of one int8 value, looked up: 256 results of int8 or float32, or 256 a channel.

Made by passes.tables from chains of elementwise ops; input 1 is the table, indexed by the unsigned byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, require_constant, require_dtype, tensor
from firmware.compiler.ops.quantize import same_shape


def _check(graph: Graph, node: Node) -> None:
    x, table = tensor(graph, node, 0), require_constant(graph, node, tensor(graph, node, 1))
    same_shape(graph, node)
    require_dtype(graph, node, x, "int8")
    require_dtype(graph, node, output(graph, node), str(table.dtype))
    channels = (256,), (*x.shape[-1:], 256)
    if table.shape not in channels or (table.ndim > 1 and table.dtype != np.int8):
        what = f"a {table.dtype} table of {table.shape} for {x.shape}"
        raise refuse(graph, node, what, "keep 256 entries, or 256 of int8 a channel")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x, table = inputs[0].view(np.uint8), inputs[1]
    return [table[x] if table.ndim == 1 else table[np.arange(table.shape[0]), x]]


def _call(graph: Graph, node: Node) -> Call:
    x, table = tensor(graph, node, 0), tensor(graph, node, 1)
    if len(table.shape) == 1 and table.dtype == "int8":
        return Call("table", ("{in0}", "{out0}", str(x.elements), "{in1}"))
    if table.dtype == "float32":
        return Call("tables", ("{in0}", "{out0}", str(x.elements), "{in1}"), function="ear_table_of_floats")
    rows = str(x.elements // table.shape[0])
    return Call("tables", ("{in0}", "{out0}", rows, str(table.shape[0]), "{in1}"))


OP = Op("EAR_TABLE", range(1, 2), _check, _meaning, _call, no_macs, in_place=True, batch=True)
