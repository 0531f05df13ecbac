"""The zoo: what is ordered, what is done once, families that fail, the table, and the shelf."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boards.errors import UserError
from firmware.compiler import build as compiler
from firmware.compiler import interp
from kit import attribution, cli, pipeline, shelf, zoo, zoo_table, zoo_unit
from kit.arguments import named
from kit.flash import serial
from kit.zoo import Order, Source
from quantize import bundle

SOUNDS = Source("esc10", "clips", "esc10", "0" * 64, False, ("1", "2"))
VALUES = Source("affect", "synthetic-affect", "affect", "1" * 64, True, ("1", "2"))


def ordered(out: Path, *families: str, seeds: int = 2, sources: tuple[Source, ...] = (SOUNDS,)) -> Order:
    return Order(families or ("panns",), sources, seeds, "virtual-m7", None, None, 2, out)


def stage(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "what": "w", "accuracy": value, "parameters": 100, "samples": 10}


def unit(seed: int, fold: str) -> dict[str, Any]:
    base = 0.5 + 0.1 * int(fold) + 0.02 * seed
    stages = [stage("full", 0.9), stage("scratch", base), stage("distilled", base + 0.05)]
    record: dict[str, Any] = {"stages": stages, "seconds": 1.0}
    if seed == 0:
        device = {
            "origin": "emulated", "score": base, "mismatches": 0, "samples": 10, "unit": "instructions",
            "inference": 1000, "second": 2100, "how": "window", "macs": 10, "model_bytes": 9,
            "flash_bytes": {"weights": 8}, "ram_bytes": 7, "guards_intact": True,
        }  # fmt: skip
        record |= {"qat": "not used", "teacher": "panns/lite", "device": device}
        stages += [stage("pruned", base), stage("int8", base)]
    return record


def answering(calls: list[str], fails: str = "") -> Any:
    """Return a stand-in for the processes that answers at once; students of the family `fails` fail."""

    @contextmanager
    def processes(_count: int) -> Iterator[Any]:
        def call(function: str, **given: Any) -> Future[Any]:
            future: Future[Any] = Future()
            if function == "prepared":
                calls.append(f"prepare {given['fold']} for {','.join(given['families'])}")
                future.set_result([])
                return future
            calls.append(f"{given['family']} {given['fold']} {given['seed']} {given['board']}")
            bad = given["family"] == fails
            future.set_result({"error": "no memory"} if bad else unit(given["seed"], given["fold"]))
            return future

        yield call

    return processes


def test_folds_are_prepared_before_students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(zoo, "_processes", answering(calls))
    made = zoo.build(ordered(tmp_path, "panns", "tiny_transformer"))
    assert calls[:2] == ["prepare 1 for panns,tiny_transformer", "prepare 2 for panns,tiny_transformer"]
    assert calls[2:4] == ["panns 1 0 virtual-m7", "panns 2 0 virtual-m7"]  # the first seed goes to the board
    assert calls[-1] == "tiny_transformer 2 1 None"
    assert len(made.records) == 8
    assert not made.failed


def test_a_failed_family_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_processes", answering([], fails="panns"))
    made = zoo.build(ordered(tmp_path, "panns", "tiny_transformer"))
    whole = zoo_table.record(made)
    assert [row["family"] for row in whole["rows"]] == ["tiny_transformer"]
    assert [(one["family"], one["data"]) for one in whole["failed"]] == [("panns", "esc10")]
    assert "no memory" in zoo_table.page(whole)


def test_figures_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_processes", answering([]))
    whole = zoo_table.record(zoo.build(ordered(tmp_path)))
    (row,) = whole["rows"]
    assert row["scratch"]["mean"] == pytest.approx(0.66)
    assert sorted(row["scratch"]["all"]) == pytest.approx([0.6, 0.62, 0.7, 0.72])
    assert row["gain"]["mean"] == pytest.approx(0.05)
    assert row["gain"]["deviation"] == pytest.approx(0.0, abs=1e-9)
    assert len(row["pruned"]["all"]) == 2
    assert zoo_table.verdict(whole) == "Distilled beats scratch in 1 of 1 rows that have a teacher."
    page = zoo_table.page(whole)
    assert "66.0 ± 5.9 | 71.0 ± 5.9 | +5.0 ± 0.0" in page
    assert "0 of 20" in page
    assert all(len(line.split("|")) == len(zoo_table.COLUMNS) + 2 for line in page.splitlines()[:3])
    assert json.loads(json.dumps(whole)) == whole


def test_values_go_to_families_that_give_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        def __init__(self, name: str) -> None:
            self.task = "regression" if name == "ser" else "classification"

    monkeypatch.setattr(zoo.registry, "card", Card)
    pairs = ordered(tmp_path, "panns", "ser", sources=(SOUNDS, VALUES)).pairs
    assert [(name, one.name) for name, one in pairs] == [("panns", "esc10"), ("ser", "affect")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"families": ["pans"]}, "did you mean 'panns'"),
        ({"board": "virtual-m99"}, "virtual-m99"),
        ({"data": {"x": "/no/such/place"}}, "no data at"),
    ],
)
def test_orders_that_cannot_be(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"families": ["panns"], "data": {"synthetic": "synthetic"}, "board": "virtual-m7"}
    given |= change
    with pytest.raises(UserError, match=message):
        zoo.order(given["families"], given["data"], seeds=1, board=given["board"], out=tmp_path)


def test_one_fold_of_a_data_set_can_be_named(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"seeds": 1, "board": "virtual-m7", "out": tmp_path}
    data = {"s": "synthetic", "t": "synthetic"}
    made = zoo.order(["panns"], data, held_out={"t": "room-03"}, folds=2, **settings)
    assert [len(source.folds) for source in made.sources] == [2, 1]
    assert made.sources[1].folds == ("room-03",)
    with pytest.raises(UserError, match="has no fold 'room-99'; there are: room-00"):
        zoo.order(["panns"], data, held_out={"s": "room-99"}, **settings)
    with pytest.raises(UserError, match="no data set is called u; there are: s, t"):
        zoo.order(["panns"], data, held_out={"u": "room-00"}, **settings)


def test_many_folds_are_thinned(tmp_path: Path) -> None:
    made = zoo.order(["panns"], {"s": "synthetic"}, seeds=1, board="virtual-m7", out=tmp_path, folds=3)
    assert made.sources[0].folds == ("room-00", "room-10", "room-19")


def test_a_finished_unit_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "unit"
    trained: list[Any] = []

    def float_only(job: Any, *_: Any, **__: Any) -> list[Any]:
        trained.append(job.seed)
        return []

    monkeypatch.setattr(zoo_unit.compress, "float_only", float_only)
    given: dict[str, Any] = {
        "source": "synthetic", "fold": "room-03", "family": "tiny_transformer", "teacher": "none",
        "epochs": 1, "board": None, "shared": str(tmp_path / "f"), "place": str(place),
    }  # fmt: skip
    first = zoo_unit.student(seed=1, **given)
    assert zoo_unit.student(seed=1, **given) == first
    assert trained == [1]
    assert zoo_unit.student(seed=2, **given)["digest"] != first["digest"]
    (place / zoo_unit.RESULT).write_text("{half")
    zoo_unit.student(seed=1, **given)
    assert trained == [1, 2, 1]
    assert "did you mean" in zoo_unit.student(seed=1, **{**given, "family": "pans"})["error"]
    failed = zoo_unit.prepared("synthetic", "room-03", ["pans"], "none", 1, str(tmp_path / "f"))
    assert failed[0].startswith("pans: no family")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty shelf; the cache is empty too, and so is the current folder."""
    monkeypatch.setattr(shelf, "SHELF", tmp_path / "shelf")
    monkeypatch.setenv("EARKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", shelf.names())
def test_what_is_kept_says_on_a_board_what_it_was_kept_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARKIT_CACHE", str(tmp_path))
    credit = (shelf.SHELF / f"{name}.ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "Creative Commons" in credit or "nobody else's work" in credit
    made = compiler.load(shelf.built(name, "virtual-m7"))
    pipeline.flash(made.path)
    expected = bundle.load(shelf.find(name)).arrays(bundle.EXPECTED)
    inputs = expected["inputs"].reshape(-1, *made.graph.tensors[made.graph.inputs[0]].shape)
    with serial.connect(made, None) as board:
        outputs = np.stack([board.infer(one) for one in inputs])
    assert np.array_equal(outputs, interp.run_batch(made.graph, inputs).reshape(outputs.shape))
    by_litert = expected["outputs"].reshape(outputs.shape)  # which rounds more often
    assert np.abs(outputs.astype(int) - by_litert).mean() < 6
    if made.task != "regression":
        assert (outputs.argmax(1) == by_litert.argmax(1)).mean() >= 0.9


def test_an_empty_shelf_says_how_to_fill_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["zoo"]) == 0
    assert capsys.readouterr().out == "no trained models yet: earkit zoo build --keep makes some\n"


def test_models_of_the_shelf_are_found_by_name(place: Path, tiny_bundle: Path) -> None:
    kept = shelf.keep(bundle.load(tiny_bundle), "tiny-esc10", "whose it is")
    assert kept.stat().st_size <= shelf.MOST_BYTES
    assert (place / "shelf" / "tiny-esc10.ATTRIBUTION.md").read_text() == "whose it is"
    assert shelf.names() == ["tiny-esc10"]
    assert shelf.listed()[0]["model"] == "tiny-esc10"
    assert "/" not in bundle.load(kept).evaluation()["data"]["source"]  # no place of this machine
    build = shelf.built("tiny-esc10", "virtual-m4")
    written = (build / "build.json").stat().st_mtime_ns
    assert shelf.built("tiny-esc10", "virtual-m4") == build
    assert (build / "build.json").stat().st_mtime_ns == written  # not compiled again
    assert pipeline.flash(build)["board"] == "virtual-m4"
    (build / "firmware.bin").write_bytes(b"damaged")
    assert pipeline.flash(shelf.built("tiny-esc10", "virtual-m4"))["board"] == "virtual-m4"


def test_a_cache_that_cannot_be_made_is_named(
    place: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "file").touch()
    monkeypatch.setenv("EARKIT_CACHE", str(place / "file"))
    with pytest.raises(UserError, match=r"cannot make the cache folder .*file/builds: .*: set EARKIT_CACHE"):
        shelf.built(str(tiny_bundle), "virtual-m4")


def test_names_that_are_not_on_the_shelf(place: Path, tiny_bundle: Path) -> None:
    shelf.keep(bundle.load(tiny_bundle), "tiny-esc10", "whose it is")
    with pytest.raises(UserError, match="say --board"):
        shelf.built("tiny-esc10", None)
    with pytest.raises(UserError, match="did you mean 'tiny-esc10'"):
        shelf.built("tiny-esc1", "virtual-m4")
    assert shelf.built("build/mine", None) == Path("build/mine")
    (place / "tiny-esc10").mkdir()
    assert shelf.find("tiny-esc10") == Path("tiny-esc10")  # one's own comes first


def test_what_comes_with_the_kit_says_nothing_of_the_machine_that_made_it() -> None:
    for name in shelf.names():
        assert not Path(bundle.load(shelf.find(name)).evaluation()["data"]["source"]).is_absolute()


def test_what_is_too_large_is_not_kept(
    place: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "MOST_BYTES", 10)
    with pytest.raises(UserError, match="at most 10 are kept"):
        shelf.keep(bundle.load(tiny_bundle), "tiny", "x")
    assert shelf.names() == []


def test_attribution_names_the_sounds_and_refuses_the_unknown() -> None:
    text = attribution.TERMS["esc10"](["audio/1-17367-A-10.ogg", "audio/2-999-B-1.ogg"])
    assert "17367" in text
    assert "999" in text
    with pytest.raises(UserError, match="licence of mine is not known"):
        attribution.text(Source("mine", "x", "x", "0", False, ("1",)), "m")
    assert "BY-SA" not in attribution.text(
        Source("synthetic", "synthetic", "x", "0", False, ("1",)), "panns-micro-synthetic"
    )


def test_pairs_of_name_and_place() -> None:
    assert named("esc10=/data/x") == ("esc10", "/data/x")
    assert named("/data/esc10/") == ("esc10", "/data/esc10/")
    for wrong in ("=x", "a b=x", "/=x"):
        with pytest.raises(Exception, match="names no data set"):
            named(wrong)


def test_the_verbs_arguments() -> None:
    args = cli.parser().parse_args(["zoo", "build", "panns", "tera", "--data", "a=b", "--seeds", "2"])
    assert (args.action, args.families, args.data, args.seeds) == (
        "build",
        ["panns", "tera"],
        [("a", "b")],
        2,
    )
    assert cli.parser().parse_args(["zoo"]).action == "list"
