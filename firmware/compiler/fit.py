"""Whether a model fits a board, in numbers; and the sizes of what was built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boards import Board
from boards.errors import UserError
from firmware.compiler import emit, ends
from firmware.compiler.arenas import GUARD_BYTES
from firmware.compiler.elf import Elf
from firmware.compiler.graph import Graph
from firmware.compiler.link_script import HANDOVER_BYTES, STATIC_BYTES
from firmware.compiler.ops import OPS
from firmware.compiler.plan import Plan
from firmware.compiler.weights import Constant

OVERFLOW = re.compile(r"region '?`?(FLASH|RAM)'?:? .*?(\d+) bytes")


def check_fits(graph: Graph, planned: Plan, board: Board, frontend_tables: Mapping[str, Any] | None) -> None:
    """Raise UserError when arena and stack cannot fit the RAM, or weights the flash, even without code."""
    guards = 2 * GUARD_BYTES * len(planned.arenas)
    ram = planned.arena + planned.state + guards + board.stack + HANDOVER_BYTES
    last = planned.arenas[-1] + 2 * GUARD_BYTES
    room = [board.ram_memory.size, *(memory.size for memory in board.more_ram.values())]
    if ram > sum(room) or (len(planned.arenas) > 1 and last > room[len(planned.arenas) - 1]):
        raise _too_big_for_ram(graph, planned, board, ram)
    weights = emit.constant_bytes(graph, frontend_tables)
    if weights > board.app_size:
        raise _too_big_for_flash(graph, board, weights)


def regions(graph: Graph, board: Board) -> tuple[int, ...]:
    """Return the bytes that arenas may take in each region of the board's RAM, the fastest first."""
    kept = sum(graph.tensors[state.read].bytes for state in graph.states)
    first = board.ram_memory.size - board.stack - HANDOVER_BYTES - STATIC_BYTES - kept
    others = [memory.size - 2 * GUARD_BYTES for memory in board.more_ram.values()]
    return (max(first, 0), *others)


def copied(graph: Graph, planned: Plan, board: Board) -> tuple[str, ...]:
    """Return the constants to be copied from slow flash to RAM, the most used first, as many as fit.

    Of a board whose flash waits no longer than its RAM, none.
    """
    if board.flash_memory.wait <= board.ram_memory.wait:
        return ()
    kept = planned.arenas[0] + 2 * GUARD_BYTES + planned.state
    room = board.ram_memory.size - board.stack - HANDOVER_BYTES - STATIC_BYTES - kept
    chosen = []
    for constant in sorted(emit.constants(graph), key=lambda c: -_heat(graph, c)):
        if constant.data.nbytes + 8 <= room:
            room -= constant.data.nbytes + 8
            chosen.append(constant.name)
    return tuple(chosen)


def _heat(graph: Graph, constant: Constant) -> float:
    """Return the work for each byte of a constant: its name tells the first node that uses it."""
    node = graph.nodes[int(constant.name[1:].split("_")[0])]
    return OPS[node.op].macs(graph, node) / constant.data.nbytes


@contextmanager
def explain_overflow(graph: Graph, planned: Plan, board: Board) -> Iterator[None]:
    """Turn the linker's message that a region overflowed into the numbers and the cure."""
    try:
        yield
    except UserError as error:
        found = OVERFLOW.search(str(error))
        if found is None:
            raise
        excess = int(found[2])
        if found[1] == "RAM":
            raise _too_big_for_ram(graph, planned, board, board.ram_memory.size + excess) from None
        raise _too_big_for_flash(graph, board, board.app_size + excess) from None


def _too_big_for_ram(graph: Graph, planned: Plan, board: Board, needed: int) -> UserError:
    worst = max(planned.lifetimes, key=lambda alive: sum(size for _, _, size in alive))
    name, _, largest = max(worst, key=lambda block: block[2])
    size = board.ram_memory.size + sum(memory.size for memory in board.more_ram.values())
    numbers = f"{graph.name} needs {_kb(needed)} RAM, {board.name} has {_kb(size)}"
    return UserError(
        f"{numbers} (largest: {name}, {_kb(largest)}): "
        "use a smaller --size, a shorter input, or another --board"
    )


def _too_big_for_flash(graph: Graph, board: Board, needed: int) -> UserError:
    largest = max((t for t in graph.tensors if t.constant), key=lambda t: t.bytes)
    numbers = f"{graph.name} needs {_kb(needed)} flash, {board.name} has {_kb(board.app_size)} for it"
    return UserError(
        f"{numbers} (largest: {largest.name}, {_kb(largest.bytes)}): use a smaller --size, or another --board"
    )


def _kb(size: int) -> str:
    return f"{size / 1024:.0f} KB" if size >= 10240 else f"{size / 1024:.1f} KB"


def sizes(
    folder: Path,
    graph: Graph,
    planned: Plan,
    board: Board,
    frontend_tables: Mapping[str, Any] | None,
    seconds: float,
) -> dict[str, Any]:
    """Return the object of `compile --json` for the build in `folder`; bytes, exact from the linked ELF."""
    sections = Elf((folder / "firmware.elf").read_bytes()).sections()
    flash = (folder / "firmware.bin").stat().st_size
    weights = emit.constant_bytes(graph, frontend_tables)
    static = (
        sum(section.size for section in sections if section.name in (".data", ".bss"))
        - planned.arenas[0]
        - planned.state
    )
    ram = {"arena": planned.arena, "state": planned.state, "static": static, "stack": board.stack}
    return {
        "board": board.name,
        "core": board.core,
        "proof": board.proof,
        "flash_bytes": {"code": flash - weights, "weights": weights, "total": flash},
        "ram_bytes": {**ram, "total": sum(ram.values())},
        "arena_bytes": dict(zip(("ram", *board.more_ram), planned.arenas, strict=False)),
        "seconds": round(seconds, 3),
        **work(graph, planned),
    }


def work(graph: Graph, planned: Plan) -> dict[str, Any]:
    """Return what `compile --json` says of a model on any board: ends, operations, least memory."""
    nodes = [
        {"name": node.name, "op": node.op, "macs": OPS[node.op].macs(graph, node)}
        for node in emit.compiled_nodes(graph)
    ]
    return {
        "inputs": ends.records(graph, graph.inputs),
        "outputs": ends.records(graph, graph.outputs),
        "lower_bound_bytes": planned.lower_bound,
        "macs": sum(int(str(node["macs"])) for node in nodes),
        "ops": nodes,
    }
