"""Serves a bundle's page until it is told to stop, and keeps what the phones measure."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boards.errors import UserError
from kit import latency, runs
from kit.listen import interruptible
from kit.targets.phone import results, server
from kit.targets.phone.address import Address, certificate
from kit.targets.phone.door import Door

if TYPE_CHECKING:
    from kit.targets.phone.offer import Offer


@dataclass
class Served:
    """What came of it: phones that joined, and a summary of each test."""

    origin: str
    joined: int = 0
    runs: list[dict[str, Any]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the object of `phone --json`."""
        return {"url": self.origin, "joined": self.joined, "runs": self.runs}


def serve(
    offer: Offer,
    address: Address,
    out: Path,
    *,
    invite: Callable[[str], None],
    tell: Callable[[str], None],
    stop: threading.Event,
) -> Served:
    """Serve the page until `stop` is set or Ctrl-C is pressed.

    Args:
        offer: what the phones get.
        address: where.
        out: folder for the first test's run; the next ones are `out`-2 and so on.
        invite: gets the URL that lets the next phone in: once at first, and whenever one has joined.
        tell: gets a line whenever something happened.
        stop: ends it.

    Raises:
        UserError: the port is taken.
    """
    tls, fingerprint = (None, "") if address.loopback else certificate(address.host)
    served, lock = Served(address.origin), threading.Lock()
    first = out if out.name.strip(".") else out.resolve()
    door = Door(lambda: invite(f"{address.origin}/join/{door.token}"))

    def take(text: bytes, agent: str) -> dict[str, Any]:
        run = results.judge(offer, results.read(offer, text), agent)
        with lock:
            number = len(served.runs) + 1
            folder = first if number == 1 else first.parent / f"{first.name}-{number}"
            try:
                runs.save(run, folder)
            except OSError as error:
                lost = f"{folder}: the run cannot be kept ({error.strerror}); make room and test again"
                tell(lost)
                raise UserError(lost) from None
            served.runs.append(results.summary(run, str(folder)))
            tell(line(served.runs[-1]))
            return {**served.runs[-1], "run": folder.name}

    site = server.Site(
        address, tls, door, server.files(offer), offer.trial.batch, take, results.most_bytes(offer)
    )
    with server.Server(site) as listening, interruptible(stop):
        threading.Thread(target=listening.serve_forever, args=(0.2,), daemon=True).start()
        if fingerprint:
            tell(f"the phone warns of a certificate that it does not know; its SHA-256 is {fingerprint}")
        else:
            port = address.port
            tell(
                f"only this machine sees {address.origin}; a phone on its USB cable does with "
                f"`adb reverse tcp:{port} tcp:{port}`"
            )
        invite(f"{address.origin}/join/{door.token}")
        stop.wait()
        listening.shutdown()
    served.joined = door.joined
    return served


def line(summary: dict[str, Any]) -> str:
    """Return what the terminal says of a test."""
    times, scores = summary["latency"], summary.get("accuracy") or summary.get("ccc") or {}
    right = "" if scores.get("device") is None else f"{scores['device']:.1%} right, "
    if "ccc" in summary and scores.get("device") is not None:
        right = f"concordance {scores['device']:.3f}, "
    return (
        f"{summary['samples']} inputs: {right}{summary['mismatches']} differ from the host; "
        f"{latency.words(times)}; next: earkit report {summary['run']}"
    )


def picture(url: str) -> str:
    """Return the QR code of a URL for a terminal."""
    import segno

    text = io.StringIO()
    segno.make(url, error="l", micro=False).terminal(text, compact=True, border=2)
    return text.getvalue()
