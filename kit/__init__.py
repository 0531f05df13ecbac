"""The kit: what the command line does. Refuses to start when a foreign package hides one of ours."""

from __future__ import annotations

import os.path
from importlib.util import find_spec

OURS = ("boards", "firmware", "models", "quantize")


def _foreign(home: str) -> str | None:
    """Return one line on the first package of OURS that is not found in the folder `home`, or None."""
    for name in OURS:
        try:
            spec = find_spec(name)
        except ValueError:  # already imported by hand, without a spec
            spec = None
        places = [*(spec.submodule_search_locations or ()), spec.origin] if spec else [None]
        if places[0] is None:
            return f"earkit: its package {name!r} is missing from {home}; install earkit again"
        if os.path.realpath(places[0]) != os.path.join(home, name):
            return (
                f"earkit: found a foreign {name!r} at {places[0]}, "
                f"needs its own at {os.path.join(home, name)}; "
                "start from another folder, rename that one, or take its folder off PYTHONPATH"
            )
    return None


if _message := _foreign(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))):
    raise SystemExit(_message)
