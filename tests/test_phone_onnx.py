"""A second opinion in the same browser: onnxruntime-web runs the bundle's Q/DQ ONNX beside our wasm."""

from __future__ import annotations

from pathlib import Path

import chromium
import numpy as np
import phone_onnx
import pytest
from phone_host import offered, serving

MODEL = "panns-micro-esc10"
STEPS = 3  # of int8 between one rounding and two


def test_onnxruntime_web_agrees(tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx")
    made = offered(MODEL)
    try:
        more = phone_onnx.files(made.bundle, tmp_path)
    except LookupError as missing:
        pytest.skip(str(missing))
    with serving(made, tmp_path / "run", more=more) as served, chromium.running(tmp_path) as browser:
        page = browser.open(served.codes[-1])
        page.wait("document.querySelector('#line').textContent === 'Ready. Tap Listen.'")
        theirs, _ = phone_onnx.answers(page, made.trial.inputs)
        page.tap("#test")
        page.wait("document.querySelector('#line').textContent.startsWith('Tested with')")
        assert "0 of 10" in page.text("#tested")  # our wasm gives these bytes
    ours = made.trial.host
    np.testing.assert_allclose(theirs, ours, atol=STEPS)
    np.testing.assert_array_equal(theirs.argmax(axis=1), ours.argmax(axis=1))
    assert len(np.unique(ours.argmax(axis=1))) > 2
