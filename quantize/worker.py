"""Other Python processes for the converters and the emulators: native code that can crash on a model."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from boards.errors import UserError

ROOT = Path(__file__).parent.parent
LIMIT_S = 900.0  # a conversion that takes longer hangs
LOG_TAIL = 300  # characters of the child's last words in a message


class Worker:
    """A spawned Python that imports `preload` at once and then answers calls, one JSON line each.

    Starting it early hides the seconds that TensorFlow takes to import. After a crash the next call starts
    a fresh process. A context manager: leaving it ends the process.
    """

    def __init__(
        self,
        preload: Sequence[str] = (),
        limit_s: float = LIMIT_S,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._preload = tuple(preload)
        self._limit_s = limit_s
        self._variables = dict(variables or {})  # of its environment
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._process = self._start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; closing twice is harmless."""
        self._stop()
        self._log.close()

    def call(self, module: str, function: str, **arguments: Any) -> Any:
        """Return what `module.function(**arguments)` gives in the worker; arguments and result are JSON.

        Raises:
            UserError: the function raised one, crashed its process, or took too long.
            OSError: such as a full disk, as it happened in the worker.
            ModuleNotFoundError: an extra is not installed.
        """
        if self._process.poll() is not None:
            self._stop()
            self._process = self._start()
        request = json.dumps({"module": module, "function": function, "arguments": arguments})
        reply, late = self._exchange(request)
        if reply is None:
            raise self._death(f"{module}.{function}", late)
        if "error" in reply:
            raise _rebuild(reply["error"])
        return reply["result"]

    def _exchange(self, request: str) -> tuple[dict[str, Any] | None, bool]:
        process, late = self._process, threading.Event()
        assert process.stdin is not None
        assert process.stdout is not None

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._limit_s, stop)
        timer.start()
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        except BaseException:
            self._stop()  # interrupted midway: a later answer would belong to nobody
            raise
        finally:
            timer.cancel()
        return (json.loads(line) if line.endswith("\n") else None), late.is_set()

    def _death(self, what: str, late: bool) -> UserError:
        code = self._process.wait()
        if late:
            return UserError(f"{what} did not end within {self._limit_s:.0f} s; try a smaller --size")
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - LOG_TAIL))
        words = " ".join(self._log.read().decode(errors="replace").split())
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        return UserError(f"{what}: its process crashed ({cause}); its last words: {words or 'none'}")

    def _start(self) -> subprocess.Popen[str]:
        environment = dict(os.environ, PYTHONPATH=_path(), PYTHONSAFEPATH="1", KERAS_BACKEND="tensorflow")
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        environment.update(self._variables)
        return subprocess.Popen(
            [sys.executable, "-m", "quantize.worker", *self._preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
            encoding="utf-8",
        )

    def _stop(self) -> None:
        process = self._process
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        process.kill()  # it holds nothing open that matters: results are written under temporary names
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def borrowed(worker: Worker | None) -> Iterator[Worker]:
    """Give `worker` itself, or a fresh one that ends with the block."""
    if worker is not None:
        yield worker
        return
    with Worker() as own:
        yield own


Call = Callable[..., Future[Any]]  # function of a module, its arguments -> its result to come


@contextlib.contextmanager
def processes(
    count: int, module: str, limit_s: float, variables: Mapping[str, str] | None = None
) -> Iterator[Call]:
    """Give a function that starts a call of `module` in one of `count` workers and returns its future.

    Leaving the block ends the workers, whatever they do.
    """
    free: SimpleQueue[Worker] = SimpleQueue()
    workers = [Worker((), limit_s, variables) for _ in range(count)]
    for worker in workers:
        free.put(worker)

    def work(function: str, arguments: dict[str, Any]) -> Any:
        worker = free.get()
        try:
            return worker.call(module, function, **arguments)
        finally:
            free.put(worker)

    pool = ThreadPoolExecutor(count)
    try:
        yield lambda function, **arguments: pool.submit(work, function, arguments)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.close()


def _path() -> str:
    """Return a PYTHONPATH on which this checkout comes first and the current folder not at all."""
    return os.pathsep.join([str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])


def _describe(error: BaseException) -> dict[str, Any]:
    if isinstance(error, UserError):
        return {"kind": "user", "text": str(error)}
    if isinstance(error, ModuleNotFoundError):
        return {"kind": "module", "text": str(error), "name": error.name}
    if isinstance(error, OSError) and error.errno is not None:
        name = error.filename if isinstance(error.filename, str) else None
        return {"kind": "os", "errno": error.errno, "text": error.strerror, "name": name}
    return {"kind": "other", "text": f"{type(error).__name__}: {error}"}


def _rebuild(error: dict[str, Any]) -> Exception:
    if error["kind"] == "module":
        return ModuleNotFoundError(error["text"], name=error["name"])
    if error["kind"] == "os":
        return OSError(error["errno"], error["text"], error["name"])
    if error["kind"] == "user":
        return UserError(error["text"])
    return UserError(f"the converter refused the model: {' '.join(error['text'].split())[:500]}")


def serve(preload: Sequence[str]) -> None:
    """Answer calls from stdin until it closes. What libraries print goes to stderr, not into the answers."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        with contextlib.suppress(ImportError):  # the call that needs it says so
            for name in preload:
                importlib.import_module(name)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                function = getattr(importlib.import_module(request["module"]), request["function"])
                reply: dict[str, Any] = {"result": function(**request["arguments"])}
            except Exception as error:
                reply = {"error": _describe(error)}
            answers.write(json.dumps(reply) + "\n")
            answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # the parent reports it
        serve(sys.argv[1:])
