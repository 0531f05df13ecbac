"""Data sets: what is recognised, how it is split, what is refused with one line."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sound_files import line, noise, write

from boards.errors import UserError
from models import data
from models.data import clips, layouts, splits

SHARED = Path(os.environ.get("EARKIT_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
# Layouts


def folders(root: Path, classes: dict[str, int]) -> Path:
    for label, count in classes.items():
        for i in range(count):
            write(root / label / f"{i}.wav")
    return root


def test_folder_per_class(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"10": 3, "9": 4, "dog": 5})
    (root / ".hidden").mkdir()
    write(root / "dog" / "._0.wav")
    (root / "notes").mkdir()
    found = data.load(root)
    assert found.labels == ("9", "10", "dog")
    assert found.counts() == {"9": 4, "10": 3, "dog": 5}
    assert "notes" in found.warnings[0]
    assert {clip.name for clip in found.clips} >= {"dog/0.wav", "9/3.wav"}
    assert found.clips[0].samples(16_000).shape == (1_600,)


def test_copies_of_a_recording_stay_together(tmp_path: Path) -> None:
    root = folders(tmp_path, {"a": 6, "b": 6})
    for i in range(3):
        (root / "a" / f"copy{i}.wav").write_bytes((root / "a" / "0.wav").read_bytes())
    groups = [clip.group for clip in data.load(root).clips if clip.label == 0]
    assert len(groups) == 9
    assert len(set(groups)) == 6


def test_folders_inside_a_class_are_groups(tmp_path: Path) -> None:
    for label in "ab":
        for speaker in ("ann", "bob", "cy"):
            for i in range(2):
                write(tmp_path / label / speaker / f"{i}.wav")
    found = data.load(tmp_path)
    assert found.folds == ("ann", "bob", "cy")
    assert {clip.fold for clip in found.split("bob")[2].clips} == {"bob"}


def test_esc50_layout_with_other_suffix(tmp_path: Path) -> None:
    rows = ["filename,fold,target,category,src_file"]
    for fold in (1, 2, 3):
        for i, label in enumerate(("dog", "rain")):
            for take in "AB":
                write(tmp_path / "audio" / f"{fold}-{i}-{take}.ogg", noise(8_000))
                rows.append(f"{fold}-{i}-{take}.wav,{fold},{i},{label},{fold}{i}")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text("\n".join(rows))
    found = data.load(tmp_path)
    assert (found.labels, found.folds, len(found)) == (("dog", "rain"), ("1", "2", "3"), 12)
    train, validation, test = found.split("2")
    assert {clip.fold for clip in test.clips} == {"2"}
    assert not {clip.group for clip in train.clips} & {clip.group for clip in validation.clips}


def speech_commands(root: Path) -> Path:
    for label in ("yes", "no"):
        for speaker in range(8):
            for take in range(2):
                write(root / label / f"{speaker:08x}_nohash_{take}.wav")
    write(root / "_background_noise_" / "tap.wav")
    both = [f"{label}/{{:08x}}_nohash_{take}.wav" for label in ("yes", "no") for take in range(2)]
    (root / "validation_list.txt").write_text("\n".join(row.format(6) for row in both))
    (root / "testing_list.txt").write_text("\n".join(row.format(7) for row in both))
    return root


def test_speech_commands(tmp_path: Path) -> None:
    found = data.load(speech_commands(tmp_path))
    assert found.labels == ("no", "yes")
    assert [clip.name for clip in found.noise] == ["_background_noise_/tap.wav"]
    parts = found.split()
    assert [{clip.group for clip in part.clips} for part in parts[1:]] == [{"00000006"}, {"00000007"}]
    assert len(parts[0]) == 24


def test_speech_commands_without_a_class_folder(tmp_path: Path) -> None:
    speech_commands(tmp_path)
    with (tmp_path / "testing_list.txt").open("a") as file:
        file.write("\nmarvin/00000007_nohash_0.wav\n")
    with pytest.raises(UserError, match="missing: marvin"):
        data.load(tmp_path)


@pytest.mark.parametrize("inner", ["", "recordings"])
def test_fsdd_flat_or_not(tmp_path: Path, inner: str) -> None:
    for digit in range(11):
        for speaker in ("al", "bo", "c_d"):
            write(tmp_path / inner / f"{digit}_{speaker}_0.wav", rate=8_000)
    found = data.load(tmp_path)
    assert found.labels == tuple(map(str, range(11)))
    assert found.folds == ("al", "bo", "c_d")
    assert len(found.split("c_d")[2]) == 11


def manifest(root: Path, text: str) -> Path:
    for i in range(6):
        write(root / "x" / f"{i}.wav")
    (root / "list.csv").write_text(text)
    return root / "list.csv"


def test_manifest(tmp_path: Path) -> None:
    rows = "".join(
        f"x/{i}.wav,{'ab'[i % 2]},g{i // 2},{('train', 'val', 'test')[i // 2]}\n" for i in range(6)
    )
    found = data.load(manifest(tmp_path, "\ufeffpath,label,group,split\n" + rows))
    parts = found.split()
    assert [[clip.name for clip in part.clips] for part in parts] == [
        ["x/0.wav", "x/1.wav"],
        ["x/2.wav", "x/3.wav"],
        ["x/4.wav", "x/5.wav"],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no column label, path"),
        ("path,name\nx/0.wav,a\n", "no column label"),
        ("path,label\n", "lists no clips"),
        ("path,label\nx/0.wav,a\nx/1.wav,\n", "label is empty"),
        ('path,label\nx/0.wav,"a,b"\n', "rename it, for example to 'a b'"),
        ("path,label\nx/0.wav,a,b\n", "more cells"),
        ("path,label\nx/0.wav,a\nx/0.wav,b\n", "keep one"),
        ("path,label,split\nx/0.wav,a,later\n", "write train, validation or test"),
        ("path,label\nx/0.wav,a\nx/1.wav,a\n", "one class only"),
        ("path,label\nno.wav,a\nx/1.wav,b\n", "1 of 2 clips .50 %. cannot be read"),
        ("path,label\nno.wav,a\nnot.wav,b\n", "none of 2 clips"),
        ("path,label\nx/0.wav,a\0\n", "line 2|UTF-8"),
    ],
)
def test_bad_manifest_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = manifest(tmp_path, text)
    with pytest.raises(UserError, match=expected) as error:
        data.load(path)
    line(error)


def test_manifest_in_another_encoding(tmp_path: Path) -> None:
    path = manifest(tmp_path, "")
    path.write_bytes("path,label\nx/0.wav,é\n".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        data.load(path)


def test_group_on_both_sides_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"x/{i}.wav,{'ab'[i % 2]},g,{('train', 'val', 'test')[i // 2]}\n" for i in range(6))
    with pytest.raises(UserError, match="'g' is in train"):
        data.load(manifest(tmp_path, "path,label,group,split\n" + rows)).split()


@pytest.mark.parametrize("name", ["nothing", "pictures", "one.wav"])
def test_unrecognisable_says_found_and_expected(tmp_path: Path, name: str) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        (tmp_path / "pictures" / f"{i}.png").write_bytes(b"x")
    write(tmp_path / "one.wav")
    with pytest.raises(UserError) as error:
        data.load(tmp_path / name)
    assert {"nothing": "no files", "pictures": "3 .png", "one.wav": "one file"}[name] in line(error)


def test_missing_directory() -> None:
    with pytest.raises(UserError, match="no data at"):
        data.load("no-such-directory")


def test_few_broken_countare_left_out_and_named(tmp_path: Path) -> None:
    root = folders(tmp_path, {"a": 10, "b": 10})
    (root / "a" / "3.wav").write_bytes(b"RIFF")
    found = data.load(root)
    assert len(found) == 19
    assert any("3.wav" in warning for warning in found.warnings)
    assert found.split()[0].warnings == found.warnings
    for i in range(4, 7):
        (root / "a" / f"{i}.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"4 of 20 clips \(20 %\)"):
        data.load(root)


def test_interrupted_loading_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folders(tmp_path, {"a": 100, "b": 100})
    looked_at = []

    def slow(entry: layouts.Entry) -> float:
        looked_at.append(entry)
        time.sleep(0.005)
        return 1.0

    def interrupt(_stage: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(layouts, "_check", slow)
    with pytest.raises(KeyboardInterrupt):
        data.load(root, progress=interrupt)
    assert len(looked_at) < 100


def test_a_whole_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "MOST_FILES", 5)
    with pytest.raises(UserError, match="more than 5 files"):
        data.load(folders(tmp_path, {"a": 10, "b": 1}))


def test_a_class_with_one_clip(tmp_path: Path) -> None:
    found = data.load(folders(tmp_path, {"a": 8, "b": 8, "rare": 1}))
    train, validation, test = found.split()
    assert train.counts()["rare"] == 1
    assert any("no test clip of rare" in warning for warning in test.warnings)
    assert validation.counts()["rare"] == 0


def test_two_countcannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 3 sources"):
        data.load(folders(tmp_path, {"a": 1, "b": 1})).split()


def test_unknown_fold_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="room-00, room-01"):
        data.load("synthetic", clips_per_class=3).split("elsewhere")


def test_class_only_in_the_held_out_fold(tmp_path: Path) -> None:
    for speaker in "abc":
        for label in ("no", "yes") if speaker == "c" else ("no",):
            write(tmp_path / f"{label}_{speaker}_0.wav")
    with pytest.raises(UserError, match="'yes' has 1 clip, none is left for training"):
        data.load(tmp_path).split("c")


# Labels, hashes, splits


@pytest.mark.parametrize(
    "label", ["a,b", "{x", 'say "hi"', "two\nlines", "", "  ", "bell\x07", "back\\slash", "a" * 65]
)
def test_bad_labels_are_refused(label: str) -> None:
    with pytest.raises(UserError) as error:
        data.check_label(label, "here")
    assert line(error).startswith("here: ")


@pytest.mark.parametrize("label", ["dog", "baby's cry", "Türklingel", "犬", "a b", "<b>&amp;", "50 %"])
def test_good_labels_stay(label: str) -> None:
    assert data.check_label(label, "here") == label


@settings(max_examples=200, deadline=None)
@given(label=st.text(max_size=80))
def test_accepted_labels_are_safe(label: str) -> None:
    try:
        clean = data.check_label(label, "here")
    except UserError:
        return
    assert clean
    assert not set(clean) & set(',{}"\\\n\r\0\u2028\u2029')
    assert data.check_label(clean, "again") == clean


def test_hash_follows_contents_not_place(tmp_path: Path) -> None:
    first = folders(tmp_path / "one" / "set", {"a": 3, "b": 3})
    second = tmp_path / "two" / "set"
    for path in first.rglob("*.wav"):
        (second / path.parent.name).mkdir(parents=True, exist_ok=True)
        (second / path.parent.name / path.name).write_bytes(path.read_bytes())
    before = data.load(first).sha256()
    assert data.load(second).sha256() == before
    write(second / "a" / "0.wav", noise())
    assert data.load(second).sha256() != before


def made(owners: list[tuple[int, int]]) -> clips.Dataset:
    """Build a data set of (group, label) pairs."""
    rows = tuple(
        clips.Clip(str(i), label, f"g{group}", lambda _: np.zeros(1, np.int16), fold=f"g{group}")
        for i, (group, label) in enumerate(owners)
    )
    return clips.Dataset("made", ("x", "y", "z"), rows)


@settings(max_examples=100, deadline=None)
@given(
    owners=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=60),
    seed=st.integers(0, 9),
)
def test_splits_are_disjoint_complete_and_repeatable(owners: list[tuple[int, int]], seed: int) -> None:
    dataset = made(owners)
    try:
        parts = splits.split(dataset, seed=seed)
    except UserError:
        groups_of = [{g for g, label in owners if label == k} for k in range(3)]
        assert len({g for g, _ in owners}) < 3 or not all(groups_of) or min(map(len, groups_of)) < 3
        return
    groups = [{clip.group for clip in part.clips} for part in parts]
    assert all(groups)
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert sorted(clip.name for part in parts for clip in part.clips) == sorted(
        clip.name for clip in dataset.clips
    )
    assert [p.clips for p in splits.split(dataset, seed=seed)] == [p.clips for p in parts]


def test_every_class_keeps_its_share() -> None:
    parts = made([(i, i % 3) for i in range(300)]).split()
    for part, share in zip(parts, (70, 15, 15), strict=True):
        assert all(abs(count - share) <= 1 for count in part.counts().values())


def test_every_fold_is_tested_once() -> None:
    dataset = made([(i % 5, i % 3) for i in range(60)])
    tested = [clip.name for fold in dataset.folds for clip in dataset.split(fold)[2].clips]
    assert sorted(tested) == sorted(clip.name for clip in dataset.clips)


# Real sets


@pytest.mark.parametrize(
    ("name", "count", "labels", "folds"), [("fsdd", 2_500, 10, 5), ("esc10", 320, 10, 4)]
)
def test_real_sets(name: str, count: int, labels: int, folds: int) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no {name} in {SHARED}: set EARKIT_SHARED")
    found = data.load(SHARED / name)
    assert (len(found), len(found.labels), len(found.folds), found.warnings) == (count, labels, folds, ())
    train, validation, test = found.split(found.folds[0])
    assert not {c.group for c in train.clips} & {c.group for c in validation.clips + test.clips}
    assert found.clips[0].samples(16_000).std() > 10


def test_layout_table_has_no_duplicates() -> None:
    assert len(set(layouts.LAYOUTS)) == len(layouts.LAYOUTS) == 6
