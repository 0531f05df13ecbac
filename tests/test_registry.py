"""The registry: families found by their files, cards without Keras, hints, configs as json."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from boards.errors import UserError
from models import registry

SIZES = [(name, size) for name in registry.names() for size in registry.card(name).sizes]


def test_finds_the_families_that_have_files() -> None:
    assert {"panns", "tiny_transformer"} <= set(registry.names())
    assert not {"train", "registry", "frontend"} & set(registry.names())


def test_a_new_file_is_a_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"micro": {"parameters": 3, "classes": 2, "note": "n"}}
    card = {"title": "t", "task": "classification", "paper": "p", "licence": "l", "streaming": "window"}
    card |= {"weights": {"where": "w", "licence": "CC BY-NC 4.0", "commercial": False}, "sizes": sizes}
    (tmp_path / "newest.py").write_text(f'"""doc"""\nraise SystemExit("imported")\nCARD = {card!r}\n')
    (tmp_path / "other.py").write_text("cards = 3\n")
    monkeypatch.setattr(registry, "HERE", tmp_path)
    assert registry.names() == ["newest"]
    found = registry.card("newest")
    assert (found.sizes["micro"].parameters, found.sizes["micro"].ram_bytes) == (3, None)
    assert found.weights is not None
    assert found.weights.terms == "CC BY-NC 4.0: not for products"


def test_cards_need_no_keras() -> None:
    code = (
        "import sys; from models import registry; print([registry.card(n).title for n in registry.names()]);"
        "sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow', 'numpy')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(("wrong", "right"), [("pans", "'panns'"), ("tiny_tranformer", "'tiny_transformer'")])
def test_unknown_family_hints(wrong: str, right: str) -> None:
    with pytest.raises(UserError, match=f"no family {wrong!r}; did you mean {right}"):
        registry.card(wrong)
    with pytest.raises(UserError, match=r"known: .*, panns, "):
        registry.load("zzz")


@pytest.mark.parametrize("name", registry.names())
def test_card_and_file_agree(name: str) -> None:
    family = registry.load(name)
    assert list(family.sizes) == list(family.card.sizes) == list(family.recipes)
    assert {"full", "lite", "micro"} <= set(family.sizes)
    assert family.card.task in ("classification", "regression", "captioning")
    assert family.card.streaming in ("frame", "window")
    assert family.card.weights is None or family.official is not None
    assert family.card.licence
    assert family.card.paper.startswith("https://")


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_config_survives_json(name: str, size: str) -> None:
    family = registry.load(name)
    config = family.config(size, seconds=2.0)
    assert family.from_dict(json.loads(json.dumps(registry.to_dict(config)))) == config
    assert family.config(size) == family.sizes[size]


def test_wrong_sizes_and_fields_hint() -> None:
    family = registry.load("panns")
    with pytest.raises(UserError, match="no size of panns 'mikro'; did you mean 'micro'"):
        family.config("mikro")
    with pytest.raises(UserError, match=r"no field 'second'.*did you mean 'seconds'"):
        family.config("micro", second=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "median"}, "pooling"),
        ({"blocks": 3}, "list is needed"),
        ({"blocks": [{"kind": "stem"}]}, r"blocks\[0\].*missing or unknown"),
        ({"seconds": "long"}, "float is needed"),
        ({"max_frames": True}, "int is needed"),
        ({"extra": 1}, "extra"),
    ],
)
def test_wrong_json_is_refused_with_its_place(change: dict[str, object], message: str) -> None:
    family = registry.load("panns")
    with pytest.raises(UserError, match=message):
        family.from_dict({**registry.to_dict(family.sizes["micro"]), **change})


def test_a_number_is_no_truth_value() -> None:
    family = registry.load("tera")
    with pytest.raises(UserError, match=r"tera\.normalised: bool is needed, not 1"):
        family.from_dict({**registry.to_dict(family.sizes["micro"]), "normalised": 1})


def test_unknown_body_is_refused() -> None:
    family = registry.load("tiny_transformer")
    with pytest.raises(UserError, match="fits none of Encoder, Cnn"):
        family.from_dict({**registry.to_dict(family.sizes["micro"]), "body": {"width": 3}})
