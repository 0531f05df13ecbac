"""Outside dialects in the firmware: which there are, and the dialect.h that tells them of board and model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import firmware
from boards import Board
from boards.errors import UserError
from firmware.compiler import ends
from firmware.compiler.graph import Graph

MODELS = {"kws": "kws01", "vww": "vww01", "ad": "ad01", "ic": "ic01", "sww": "sww01"}  # ids of MLPerf Tiny
RECONSTRUCTS = "ad01"  # its result is how far the output is from the input
RATE = 16_000  # Hz at which a model without a front end records
IDENTIFIER = re.compile(r"[A-Za-z0-9_.-]{1,32}")


@dataclass(frozen=True)
class Dialect:
    """A dialect, and the name by which its clients know the model."""

    name: str
    model: str

    @property
    def record(self) -> str:
        """Return what build.json says, which `parse` reads."""
        return f"{self.name}={self.model}"


def parse(text: str, model: str) -> Dialect:
    """Return the dialect that `NAME` or `NAME=ID` asks for; without an ID the name `model` gives it.

    Raises:
        UserError: there is no such dialect, or the ID has other characters than letters, digits, `_.-`.
    """
    name, equals, identifier = text.partition("=")
    if name not in firmware.DIALECTS:
        raise UserError(f"no dialect {name!r}: --dialect takes {' or '.join(firmware.DIALECTS)}")
    if not equals:
        identifier = _known(model) if name == "mlperf" else re.sub(r"[^A-Za-z0-9_.-]", "-", model)[:32]
    if not IDENTIFIER.fullmatch(identifier):
        raise UserError(f"--dialect {text}: an id has 1 to 32 letters, digits, '_', '.' and '-'")
    return Dialect(name, identifier)


def _known(model: str) -> str:
    """Return the id of MLPerf Tiny whose letters begin `model`."""
    letters = re.match(r"[a-z]*", model.lower())
    assert letters is not None
    if letters[0] not in MODELS:
        known = ", ".join(MODELS.values())
        raise UserError(f"which model of MLPerf Tiny is {model}? --dialect mlperf=ID, such as {known}")
    return MODELS[letters[0]]


def header(dialect: Dialect, board: Board, graph: Graph, bundle: Mapping[str, Any], hop: int | None) -> str:
    """Return the text of dialect.h.

    Raises:
        ModelError: the model has other ends than one int8 input and one int8 output.
        UserError: the model streams, which clients that load whole inputs do not expect.
    """
    if hop is not None:
        raise UserError(f"--dialect {dialect.name} runs whole inputs: leave --hop out")
    ends.require_front_end(graph)
    facts = {"BOARD": _string(board.name), "MODEL_ID": _string(dialect.model)}
    if dialect.name == "edge-impulse":
        classes = graph.tensors[graph.outputs[0]].elements
        labels = bundle.get("labels") or [f"class {i}" for i in range(classes)]
        logits = graph.nodes[-1].op != "SOFTMAX" and bundle.get("task") != "regression"
        facts["LABELS"] = ", ".join(map(_string, labels))
        facts["LOGITS"] = str(int(logits))
        facts["RATE"] = f"{bundle.get('sample_rate', RATE)}u"
    elif dialect.model == RECONSTRUCTS:
        facts["RECONSTRUCTS"] = "1"
    lines = [f"#define EAR_{name} {value}" for name, value in facts.items()]
    return "\n".join(["// dialect.h: what the outside dialect tells of board and model.", *lines, ""])


def _string(text: str) -> str:
    """Return a C string; what would end it, leave ASCII, or look like a client's prompt becomes `_`."""
    return '"' + re.sub(r'[^ -~]|["\\>?]', "_", text) + '"'
