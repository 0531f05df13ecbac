"""Data sets on disk, told apart by what is there: ESC-50, Speech Commands, FSDD, csv, folders."""

from __future__ import annotations

import csv
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

from boards.errors import UserError
from models.data import affect, audio, edge_impulse, synthetic
from models.data.clips import Clip, Dataset, Progress, Subset, check_label, file_digest, label_names, quiet

UNREADABLE = 0.10  # share of broken clips above which a data set is refused
MOST_FILES = 2_000_000  # below one folder; more is somebody's whole disk
LONGEST = 60.0  # seconds of one clip that are used
SUBSETS = {"train": "train", "training": "train", "validation": "validation", "val": "validation"} | {
    "valid": "validation", "dev": "validation", "test": "test", "testing": "test", "": ""
}  # fmt: skip
FSDD_NAME = re.compile(r"(?P<label>[^_]+)_(?P<speaker>.+)_(?P<take>\d+)$")
SPEECH_LISTS = {"validation_list.txt": "validation", "testing_list.txt": "test"}
NOISE_FOLDER = "_background_noise_"
TARGET = "target:"  # begins the name of a column of numbers
MADE: Mapping[str, tuple[Callable[[int, int], Dataset], int]] = {  # sets that the kit makes: seed, clips ->
    "synthetic": (synthetic.make, synthetic.CLIPS_PER_CLASS),
    "synthetic-affect": (affect.make, affect.CLIPS_PER_SPEAKER),
}
EXPECTED = (
    "a folder of audio per class, {label}_{speaker}_{take}.wav files, the Speech Commands or ESC-50 layout, "
    "an export of Edge Impulse, or a manifest.csv with path,label"
)


@dataclass(frozen=True)
class Entry:
    """One clip as a layout names it, before its file has been looked at.

    Without label and values it is noise.
    """

    path: Path
    label: str
    group: str
    fold: str = ""
    subset: str = ""
    values: tuple[tuple[str, float], ...] = ()  # name and value of each target


def load(
    spec: str | Path,
    *,
    seed: int = 0,
    clips_per_class: int | None = None,
    progress: Progress = quiet,
) -> Dataset:
    """Return the data set at `spec`: a directory, a manifest csv, or one of the names in MADE.

    Every clip that comes back can be read. `seed` and `clips_per_class` (of a speaker in synthetic-affect)
    are for those names only; write `./synthetic` for a directory of that name.

    Raises:
        UserError: nothing there, a layout that is not known, labels that cannot be used, a single class,
            or more than 10 % unreadable clips. Fewer are left out and named in the data set's warnings.
    """
    if str(spec) in MADE:
        make, usual = MADE[str(spec)]
        return make(seed, usual if clips_per_class is None else clips_per_class)
    root = Path(spec)
    try:
        if not root.exists():
            raise UserError(f"no data at {root}: give a directory, a csv, or the name {' or '.join(MADE)}")
        base = root if root.is_dir() else root.parent
        entries, warnings = _entries(root)
    except OSError as error:
        raise UserError(f"{root}: cannot be read: {error.strerror}") from None
    kept, more = _readable(root, entries, progress)
    return _dataset(root, base, kept, [*warnings, *more])


def _entries(root: Path) -> tuple[list[Entry], list[str]]:
    if root.is_file():
        if root.suffix.lower() != ".csv":
            raise UserError(
                f"{root} is one file: give the directory of the data, or a manifest csv with path,label"
            )
        return _manifest(root)
    for recognised in LAYOUTS:
        found = recognised(root)
        if found is not None:
            return found
    raise UserError(f"{root}: no data set recognised: found {_inventory(root)}; expected {EXPECTED}")


# Layouts: each returns entries and warnings, or None when it does not recognise the directory.


def _esc50(root: Path) -> tuple[list[Entry], list[str]] | None:
    """Read meta/*.csv with filename, fold, category[, src_file]; the audio may have another suffix."""
    table = next(
        (path for path in sorted(root.glob("meta/*.csv")) if {"filename", "category"} <= set(_header(path))),
        None,
    )
    if table is None:
        return None
    folder = root / "audio" if (root / "audio").is_dir() else root
    by_stem = {path.stem: path for path in _audio_files(folder)}
    entries = []
    for number, row in _rows(table, {"filename", "fold", "category"}):
        label = check_label(row["category"], f"{table} line {number}")
        stem = Path(row["filename"]).stem
        source, fold = row.get("src_file") or stem, row["fold"].strip()
        entries.append(Entry(by_stem.get(stem, folder / row["filename"]), label, source, fold))
    return entries, []


def _manifest_in(root: Path) -> tuple[list[Entry], list[str]] | None:
    path = root / "manifest.csv"
    return _manifest(path) if path.is_file() else None


def _manifest(table: Path) -> tuple[list[Entry], list[str]]:
    """Read path,label[,group][,split]; paths are relative to the csv.

    Instead of a label there may be columns of numbers, target:NAME each.
    """
    names = [name for name in _header(table) if name.startswith(TARGET)]
    entries: dict[Path, Entry] = {}
    repeated = 0
    for number, row in _rows(table, {"path"} if names else {"path", "label"}):
        where = f"{table} line {number}"
        values = tuple((_target(name, where), _value(row[name], name, where)) for name in names)
        label = "" if names else check_label(row["label"], where)
        side = SUBSETS.get((row.get("split") or "").strip().lower())
        if side is None:
            raise UserError(
                f"{where}: split {row['split']!r}: write train, validation or test, or leave it empty"
            )
        group = (row.get("group") or "").strip()
        path = table.parent / row["path"].strip()
        entry = Entry(path, label, group or row["path"], group, side, values)
        first = entries.setdefault(path, entry)
        if (first.label, first.values) != (label, values):
            now, before = (e.values or repr(e.label) for e in (entry, first))
            raise UserError(f"{where}: {row['path']} is {now} here and {before} before: keep one")
        repeated += first is not entry
    return list(entries.values()), [f"{table}: {repeated} repeated lines were left out"] if repeated else []


def _target(column: str, where: str) -> str:
    return check_label(column.removeprefix(TARGET), where)


def _value(text: str, column: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{where}: {column} {text!r} is not a number") from None
    if not math.isfinite(value):
        raise UserError(f"{where}: {column} {text!r} is not finite: leave the clip out")
    return value


def _speech_commands(root: Path) -> tuple[list[Entry], list[str]] | None:
    """Read label folders and the two lists; the speaker is the part before _nohash_."""
    lists = [name for name in SPEECH_LISTS if (root / name).is_file()]
    if not lists and not (root / NOISE_FOLDER).is_dir():
        return None
    side = {line: SPEECH_LISTS[name] for name in lists for line in _lines(root / name)}
    missing = sorted({line.split("/")[0] for line in side if not (root / line.split("/")[0]).is_dir()})
    if missing:
        raise UserError(
            f"{root}: {' and '.join(lists)} name class folders that are missing: {', '.join(missing[:8])}"
        )
    found = _folders(root)
    if found is None:
        raise UserError(
            f"{root}: looks like Speech Commands, but there is no folder with audio: found {_inventory(root)}"
        )
    entries = [
        Entry(
            e.path,
            e.label,
            e.path.stem.split("_nohash_")[0],
            "",
            side.get(f"{e.path.parent.name}/{e.path.name}", ""),
        )
        for e in found[0]
    ]
    noise = [Entry(path, "", path.stem) for path in _audio_files(root / NOISE_FOLDER)]
    return entries + noise, found[1]


def _fsdd(root: Path) -> tuple[list[Entry], list[str]] | None:
    """Read {label}_{speaker}_{take}.wav, flat or in recordings/."""
    folder = root / "recordings" if (root / "recordings").is_dir() else root
    files = sorted(path for path in folder.iterdir() if _is_audio(path.name) and path.is_file())
    names = [(path, FSDD_NAME.match(path.stem)) for path in files]
    matched = [(path, match) for path, match in names if match]
    if not matched or len(matched) < 0.9 * len(files):
        return None
    entries = [Entry(p, check_label(m["label"], str(p)), m["speaker"], m["speaker"]) for p, m in matched]
    if len({entry.label for entry in entries}) < 2:
        return None
    odd = len(files) - len(matched)
    return entries, [
        f"{folder}: {odd} files are not named label_speaker_take and were left out"
    ] if odd else []


def _edge_impulse(root: Path) -> tuple[list[Entry], list[str]] | None:
    """Read an export of Edge Impulse, its split as it is."""
    found = edge_impulse.samples(root)
    return found and ([Entry(s.path, s.label, s.group, "", s.subset) for s in found[0]], found[1])


def _folders(root: Path) -> tuple[list[Entry], list[str]] | None:
    """Read a folder per class; a folder inside it is a group, and copies of one file are one group."""
    entries, empty = [], []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] not in "._"):
        files = _audio_files(folder)
        label = check_label(folder.name, str(folder)) if files else ""
        for path in files:
            inner = path.relative_to(folder).parts
            entries.append(
                Entry(path, label, inner[0] if len(inner) > 1 else "", inner[0] if len(inner) > 1 else "")
            )
        if not files:
            empty.append(folder.name)
    if not entries:
        return None
    copies = _copies([entry.path for entry in entries])
    grouped = [
        entry
        if entry.group
        else Entry(entry.path, entry.label, copies.get(entry.path, str(entry.path.relative_to(root))))
        for entry in entries
    ]
    return grouped, [f"{root}: no audio in {', '.join(empty)}: not a class"] if empty else []


LAYOUTS: tuple[Callable[[Path], tuple[list[Entry], list[str]] | None], ...] = (
    _esc50,
    _manifest_in,
    _edge_impulse,
    _speech_commands,
    _fsdd,
    _folders,
)


def _readable(root: Path, entries: Sequence[Entry], progress: Progress) -> tuple[list[Entry], list[str]]:
    """Return the entries whose files can be read to their end, and a line for what was left out."""
    if not entries:
        raise UserError(f"{root}: lists no clips: expected {EXPECTED}")
    kept, broken, long = [], [], []
    pool = ThreadPoolExecutor(max(2, os.cpu_count() or 1))
    try:
        for done, (entry, result) in enumerate(zip(entries, pool.map(_check, entries), strict=True), 1):
            if isinstance(result, UserError):
                broken.append(str(result))
            else:
                kept.append(entry)
                long += [entry.path.name] if result > LONGEST and (entry.label or entry.values) else []
            progress("reading clips", done, len(entries))
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the clips that are left
    if not kept:
        raise UserError(f"none of {len(entries)} clips can be read; the first: {broken[0]}")
    if len(broken) > UNREADABLE * len(entries):
        share = f"{len(broken)} of {len(entries)} clips ({100 * len(broken) / len(entries):.0f} %)"
        raise UserError(f"{root}: {share} cannot be read, at most 10 % may be; the first: {broken[0]}")
    lines = [f"left out, unreadable: {line}" for line in broken]
    if long:
        lines.append(
            f"{len(long)} clips are longer than {LONGEST:.0f} s, the rest is not used: {', '.join(long[:5])}"
        )
    return kept, lines


def _reader(path: Path) -> Any:
    return edge_impulse if path.suffix.lower() in edge_impulse.SUFFIXES else audio


def _check(entry: Entry) -> float | UserError:
    try:
        return _reader(entry.path).check(entry.path)
    except UserError as error:
        return error


def _dataset(root: Path, base: Path, entries: Sequence[Entry], warnings: list[str]) -> Dataset:
    targets = tuple(name for name, _ in entries[0].values)
    labels = targets or label_names(entry.label for entry in entries if entry.label)
    if len(labels) < 2 and not targets:
        raise UserError(
            f"{root}: {'one class only: ' + labels[0] if labels else 'no class'}: at least two are needed"
        )
    index = {label: i for i, label in enumerate(labels)} | {"": 0 if targets else -1}
    clips = [
        Clip(
            name=Path(os.path.relpath(entry.path, base)).as_posix(),
            label=index[entry.label],
            group=entry.group,
            read=partial(_reader(entry.path).read_audio, entry.path, seconds=LONGEST),
            path=entry.path,
            fold=entry.fold,
            subset=cast(Subset, entry.subset),
            values=tuple(value for _, value in entry.values),
        )
        for entry in entries
    ]
    for place, name in enumerate(targets):
        if len({clip.values[place] for clip in clips}) == 1:
            raise UserError(f"{root}: {TARGET}{name} is the same in every clip: there is nothing to learn")
    named = root.resolve().stem if root.is_file() else root.resolve().name
    voiced = tuple(clip for clip in clips if clip.label >= 0)
    return Dataset(named, labels, voiced, tuple(clip for clip in clips if clip.label < 0), tuple(warnings))


def _audio_files(folder: Path) -> list[Path]:
    """Return the audio files below a folder, sorted, without hidden ones."""
    found, seen = [], 0
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        seen += len(folders) + len(files)
        if seen > MOST_FILES:
            raise UserError(
                f"{folder}: more than {MOST_FILES:,} files: give the directory of the data itself"
            )
        found += [Path(place, name) for name in files if _is_audio(name)]
    return sorted(found)


def _is_audio(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(audio.SUFFIXES)


def _copies(paths: Sequence[Path]) -> Mapping[Path, str]:
    """Return a common group for files with the same contents; only files of equal size are compared."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        by_size[path.stat().st_size].append(path)
    same: dict[bytes, list[Path]] = defaultdict(list)
    for path in (path for alike in by_size.values() if len(alike) > 1 for path in alike):
        same[file_digest(path)].append(path)
    return {path: digest.hex() for digest, alike in same.items() if len(alike) > 1 for path in alike}


def _header(table: Path) -> dict[str, str]:
    """Return the names of a table's columns in their order."""
    return next(iter(_rows(table, set(), heading=True)))[1]


def _rows(table: Path, needed: set[str], heading: bool = False) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the cells of each row; with `heading`, the names of the columns first."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            names = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            if not needed <= set(names):
                lacks, has = ", ".join(sorted(needed - set(names))), ", ".join(names) or "nothing"
                raise UserError(f"{table}: no column {lacks}; it has {has}")
            if heading:
                yield 0, dict.fromkeys(names, "")
            for row in reader:
                if None in row:
                    raise UserError(f"{table} line {reader.line_num}: more cells than columns: quote commas")
                yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: not a csv in UTF-8: {error}") from None


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None


def _inventory(root: Path) -> str:
    """Say in a few words what a directory holds, from its first ten thousand entries."""
    entries = list(islice(root.rglob("*"), 10_000))
    suffixes = Counter(path.suffix.lower() or "no suffix" for path in entries if path.is_file())
    folders = sum(path.is_dir() for path in root.iterdir())
    counts = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(4))
    return f"{folders} folders and {counts} files" if counts else f"{folders} folders and no files"
