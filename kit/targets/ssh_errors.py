"""What ssh and the commands behind it complain of, as one line each with the cure."""

from __future__ import annotations

import re

OWN = 255  # the exit status with which ssh speaks of itself
MISSING = 127  # with which a shell says that there is no such program
PACKAGES = {  # program -> the package that has it, where they differ
    "arecord": "alsa-utils",
    "sha256sum": "coreutils",
    "trtexec": "tensorrt",
}
WORDS = 160  # characters of an unknown complaint
ENDED = {  # what a shell says of a program that was ended -> why
    "Killed": "it was killed, perhaps for want of memory: close other programs there, or add swap",
    "Illegal instruction": "Illegal instruction: it was made for another processor, choose another --board",
}
CONNECTING: tuple[tuple[str, str], ...] = (  # what ssh says -> the line behind the name of the machine
    (
        "Could not resolve hostname",
        "no machine of that name is known here: is it on and in this network? Try NAME.local or its address",
    ),
    (
        "Connection refused",
        "is there but refuses SSH on that port: switch SSH on there (`sudo systemctl enable --now ssh`, or "
        "raspi-config), or give the port as ssh://user@name:port",
    ),
    (
        "timed out|No route to host|Network is unreachable|Host is down|Connection to .* timed out",
        "cannot be reached: is it powered and in this network? `ping` it, and look at its address again",
    ),
    (
        "UNPROTECTED PRIVATE KEY FILE",
        "ssh refuses your key, which others may read: chmod 600 ~/.ssh/id_*, then try again",
    ),
    (
        "Too many authentication failures",
        "turned us away after too many keys: name the right one in ~/.ssh/config (IdentityFile, "
        "IdentitiesOnly yes)",
    ),
    (
        "Permission denied",
        "lets nobody in with the keys or the password from here: is the user right? "
        "`ssh-copy-id {host}` puts your key there",
    ),
    (
        "no matching (host key type|cipher|key exchange method|MAC)",
        "speaks only algorithms that this ssh has given up: update the system there",
    ),
    (
        "Bad configuration option|terminating, .* bad configuration",
        "your ~/.ssh/config is not understood ({words}): mend that line",
    ),
    (
        "kex_exchange_identification|Connection (closed|reset)|banner exchange|Broken pipe",
        "hung up before the log-in: is it still starting, or does a firewall (fail2ban) keep us out? "
        "Try again in a minute",
    ),
)
FAILING: tuple[tuple[str, str], ...] = (  # what a command says -> the line behind the name of the machine
    (
        "No space left on device|Disk quota exceeded",
        "its disk is full: free some space there (`df -h`), then run the same command again",
    ),
    (
        "Read-only file system",
        "its disk is read-only: a worn SD card does that; look at `dmesg` there",
    ),
    (
        "Permission denied|Operation not permitted",
        "no permission there ({words}): log in as the owner of that place",
    ),
)


def explain(host: str, words: str) -> str:
    """Return the line for what ssh said when it could not log in to `host`."""
    if "HOST IDENTIFICATION HAS CHANGED" in words:
        found = re.search(r"^\s*(ssh-keygen .*-R .*?)\s*$", words, re.MULTILINE)
        forget = found.group(1) if found else f"ssh-keygen -R {_name(host)}"
        print_ = re.search(r"(SHA256:\S+?)\.?$", words, re.MULTILINE)
        return (
            f"{host}: its host key has changed{f' to {print_.group(1)}' if print_ else ''}: if it was set up "
            f"anew, forget the old one with `{forget}`; else somebody may stand in its place, so stop here"
        )
    if "Host key verification failed" in words or "host key is known" in words:
        return (
            f"{host}: its host key is not known here: run `ssh {host}` once, compare the fingerprint with "
            "the machine's and answer yes"
        )
    return _lined(host, words, CONNECTING) or (
        f"{host}: ssh failed ({_last(words)}): see whether `ssh {host}` works"
    )


def lost(host: str, words: str) -> str:
    """Return the line for a connection that broke in the middle of something."""
    said = f" ({_last(words)})" if words.strip() else ""
    return (
        f"{host}: the connection broke{said}: nothing half-done is in use there; look at the network and the "
        "power, then run the same command again"
    )


def late(host: str, command: str, seconds: float) -> str:
    """Return the line for a `command` that did not end in time."""
    return (
        f"{host}: `{command}` did not end within {seconds:.0f} s: is the machine busy? "
        "Look there with `top`, then try again"
    )


def closed(host: str, words: str) -> str:
    """Return the line for a log-in that runs no commands, which said `words` instead."""
    return (
        f"{host}: this log-in runs no commands there ({_last(words)}): take a user with a shell such as bash"
    )


def failed(host: str, command: str, rc: int, words: str) -> str:
    """Return the line for a `command` that ended with `rc`, saying `words`."""
    missing = re.search(r"([\w./+-]+): (?:command )?not found", words)
    if rc == MISSING or missing:
        program = missing.group(1) if missing else command.split()[0]
        package = PACKAGES.get(program, program)
        return f"{host} has no {program}: install it there (sudo apt install {package}), then try again"
    line = _lined(host, words, FAILING)
    return line or f"{host}: `{command}` failed with {rc} ({_last(words)}): run it there by hand to see more"


def reason(words: str) -> str:
    """Return why a release failed, from what it said."""
    library = re.search(r"(\S+\.so[.\d]*): cannot open shared object file", words)
    if library:
        return f"{library.group(1)} is missing there: `apt-file search` names its package"
    module = re.search(r"No module named '([\w.]+)'", words)
    if module:
        return f"Python there has no {module.group(1)}: sudo apt install python3-{module.group(1)}"
    last = _last(words)
    return next((line for word, line in ENDED.items() if last.startswith(word)), last)


def _lined(host: str, words: str, known: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, line in known:
        if re.search(pattern, words):
            filled = line.replace("{words}", _last(words)).replace("{host}", host)
            return f"{host}: {filled}"
    return None


def _last(words: str) -> str:
    lines = ["".join(filter(str.isprintable, line)).strip() for line in words.splitlines() if line.strip()]
    return lines[-1][-WORDS:] if lines else "it said nothing"


def _name(host: str) -> str:
    """Return the name of the machine as known_hosts has it."""
    bare = re.sub(r"^ssh://", "", host).rpartition("@")[2]
    name, _, port = bare.partition(":")
    return f"'[{name}]:{port}'" if port else name
