"""`run VERB` of a release: check it, measure it, run inputs through LiteRT, or listen and tell of events."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from boards.errors import UserError
from kit.arguments import number, whole
from kit.detect import Detector, Rules
from kit.device import Device, Result
from kit.link import GoneError
from kit.records import Detection
from kit.runner import engines, machine, publish, sound
from kit.runner.about import BENCH, UNREADABLE, About, damage


def main(argv: list[str] | None = None) -> int:
    """Run a verb; 0 done, 1 with a line on stderr that says what is wrong."""
    args = parser().parse_args(argv)
    try:
        about = About(args.folder)
        verbs = {"check": check, "bench": bench, "infer": infer, "listen": listen}
        verbs[args.verb](about, args)
    except BrokenPipeError:  # who listened has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="run", description=__doc__)
    top.add_argument("--folder", type=Path, required=True, help=argparse.SUPPRESS)
    verbs = top.add_subparsers(dest="verb", required=True)
    verbs.add_parser("check", help="compare both engines with what the host says, and measure them")
    verbs.add_parser("bench", help="measure both engines now")
    one = verbs.add_parser("infer", help="inputs as .npy on stdin to outputs and times as .npz on stdout")
    one.add_argument("--threads", type=whole(1), default=1)
    ear = verbs.add_parser("listen", help="print events as JSON lines until stopped")
    ear.add_argument("--source", default=sound.MICROPHONE, help="mic, ALSA's name:of,it, - (stdin) or a .wav")
    ear.add_argument("--fast", action="store_true", help="a file as fast as possible")
    ear.add_argument("--threshold", type=number(0, 1), help="probability that makes an event, 0 to 1")
    ear.add_argument("--engine", choices=("auto", "program", "litert"), default="auto")
    ear.add_argument("--threads", type=whole(1), help="of LiteRT (default: as measured)")
    ear.add_argument("--mqtt", metavar="mqtt://HOST/TOPIC", help="tell a broker too")
    ear.add_argument("--websocket", metavar="[HOST:]PORT", help="tell whoever connects there too")
    return top


def check(about: About, _args: argparse.Namespace) -> None:
    """Measure, and keep the result for `listen`."""
    record = measured(about)
    text = json.dumps(record)
    temporary = about.folder / f".{BENCH}"
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, about.folder / BENCH)
    print(text)


def bench(about: About, _args: argparse.Namespace) -> None:
    """Print a fresh measurement."""
    print(json.dumps(measured(about)))


def measured(about: About) -> dict[str, Any]:
    """Return the times of all engines, the one to use, and the state of the machine before and after."""
    before = machine.state()
    found = engines.measure(about)
    after = machine.state()
    chosen = engines.best(found)
    return {
        "name": about.name,
        "build_id": about.record["build_id"],
        "engines": engines.plain(found),
        "chosen": {"engine": chosen.engine, "threads": chosen.threads},
        "before": before,
        "after": after,
        "notes": machine.complaints(before, after),
        "origin": "measured",
    }


def infer(about: About, args: argparse.Namespace) -> None:
    """Run inputs through LiteRT."""
    engine = engines.LiteRT(about, args.threads)
    try:
        inputs = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    except UNREADABLE as error:
        raise UserError(f"what came on stdin as .npy {damage(error)}") from None
    if not isinstance(inputs, np.ndarray) or inputs.dtype != np.int8 or not (inputs.ndim and inputs.size):
        raise UserError("what came on stdin are no int8 inputs: .npy of (N, …) is needed")
    answers = [engine.run(x) for x in inputs]
    packed = io.BytesIO()
    outputs, times = zip(*answers)
    np.savez(packed, outputs=np.stack(outputs), nanoseconds=np.array(times))
    sys.stdout.buffer.write(packed.getvalue())
    sys.stdout.flush()


def listen(about: About, args: argparse.Namespace) -> None:
    """Hear the source and tell of events until it ends or SIGTERM or Ctrl-C comes."""
    if not about.listens:
        raise UserError(f"{about.name} was compiled from a bare .tflite, without a front end: use a bundle")
    stop: list[int] = []
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda one, _: stop.append(one))
    meant, rules = about.meaning, Rules() if args.threshold is None else Rules(threshold=args.threshold)
    detector = Detector(meant, rules)
    with ExitStack() as stack:
        sinks: list[publish.Sink] = [publish.Lines()]
        if args.mqtt:
            sinks.append(publish.Mqtt(args.mqtt))
        if args.websocket:
            sinks.append(publish.WebSocket(args.websocket))
        for sink in sinks:
            stack.callback(sink.close)
        device = stack.enter_context(engines.program(about))
        heard = sound.blocks(args.source, meant.fe.sample_rate, args.fast, lambda: bool(stop))
        try:
            for result in results(about, device, _padded(heard, meant.fe.samples), args):
                if result.sample < meant.fe.samples:  # a streaming model has not heard a whole window yet
                    continue
                _, begun = detector.step(result.sample, meant.probabilities(result.output))
                if begun:
                    for sink in sinks:
                        sink.send(_event(about, begun))
        except GoneError:  # Ctrl-C ends the program as well
            if not stop:
                raise


def _event(about: About, begun: Detection) -> publish.Event:
    return {
        "event": begun.label,
        "probability": round(begun.probability, 3),
        "start": round(begun.start, 3),  # seconds of sound
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "model": about.name,
    }


def results(
    about: About, device: Device, blocks: Iterator[sound.Samples | int], args: argparse.Namespace
) -> Iterator[Result]:
    """Yield results of the engine that is asked for, or was the fastest."""
    chosen = about.bench().get("chosen", {"engine": "program", "threads": 1})
    engine = chosen["engine"] if args.engine == "auto" else args.engine
    threads = args.threads or (chosen["threads"] if engine == chosen["engine"] else 1)
    hop = about.meaning.hop_frames
    lite = None
    if engine == "litert":
        if about.record["stream"]:
            raise UserError(f"{about.name} is a streaming model, which LiteRT does not run: --engine program")
        lite = engines.LiteRT(about, threads)
    told = _told(blocks)
    for result in device.stream(told, hop, features_only=lite is not None):
        output = lite.run(result.output)[0] if lite else result.output
        yield Result(result.sample, output, result.instructions, result.dropped)


def _told(blocks: Iterator[sound.Samples | int]) -> Iterator[sound.Samples | int]:
    """Tell systemd, once sound comes, that the service is there; and now and then that it lives."""
    beat = 0.0
    for block in blocks:
        if not beat:
            _notify("READY=1")
        if time.monotonic() > beat + 5:
            beat = time.monotonic()
            _notify("WATCHDOG=1")
        yield block


def _padded(blocks: Iterator[sound.Samples | int], least: int) -> Iterator[sound.Samples | int]:
    total = 0
    for block in blocks:
        total += block if isinstance(block, int) else block.size
        yield block
    if 0 < total < least:
        yield np.zeros(least - total, np.int16)


def _notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


if __name__ == "__main__":
    sys.exit(main())
