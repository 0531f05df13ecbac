"""Who may look at the page: one-time tokens become sessions, of which there are few."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

MOST = 4  # phones at a time
IDLE_SECONDS = 900  # after which a phone gives way to another
REMEMBERED = 256  # used tokens


class RefusedError(Exception):
    """A phone that does not get in: an HTTP status, and the line that its page shows."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


@dataclass
class Session:
    """A phone that has joined."""

    number: int  # counted from 1
    agent: str  # what its browser calls itself
    seen: float = field(default_factory=time.monotonic)  # seconds


class Door:
    """Lets in who brings the token of the moment; each token opens once."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called when there is a new token."""
        self._changed, self._lock = changed, threading.Lock()
        self._sessions: dict[str, Session] = {}  # by the hash of their key
        self._used: deque[str] = deque(maxlen=REMEMBERED)
        self.token = secrets.token_urlsafe(16)
        self.joined = 0

    def join(self, token: str, agent: str) -> str:
        """Return the key of a new session.

        Raises:
            RefusedError: the token is wrong or was used, or enough phones have joined.
        """
        with self._lock:
            if _hash(token) in self._used:
                raise RefusedError(403, "This code was used already. Scan the new one in the terminal.")
            if not secrets.compare_digest(token.encode(), self.token.encode()):
                raise RefusedError(403, "This is not the code of the moment. Scan the one in the terminal.")
            self._make_room()
            self._used.append(_hash(token))
            self.token, key = secrets.token_urlsafe(16), secrets.token_urlsafe(32)
            self.joined += 1
            self._sessions[_hash(key)] = Session(self.joined, agent)
        self._changed()
        return key

    def session(self, key: str | None) -> Session:
        """Return the session of a key.

        Raises:
            RefusedError: there is none.
        """
        with self._lock:
            found = self._sessions.get(_hash(key)) if key else None
            if found is None:
                raise RefusedError(403, "This phone has not joined. Scan the code in the terminal.")
            found.seen = time.monotonic()
            return found

    def _make_room(self) -> None:
        if len(self._sessions) < MOST:
            return
        oldest = min(self._sessions, key=lambda key: self._sessions[key].seen)
        if time.monotonic() - self._sessions[oldest].seen < IDLE_SECONDS:
            raise RefusedError(
                503, f"{MOST} phones have joined, no more fit. Try again {IDLE_SECONDS // 60} minutes later."
            )
        del self._sessions[oldest]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
