"""A release as a systemd service of the user: started with the machine, restarted when it fails."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from kit.targets import deploy

START_SECONDS = 60  # until the first sound must have come
UNIT = """# {name}: a model of earkit that listens; `earkit flash --service` wrote this file
[Unit]
Description=earkit {name}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Restart=on-failure
RestartSec=5
TimeoutStartSec={seconds}
WatchdogSec=30
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""
_AGAIN = """systemctl --user restart SERVICE || {
    journalctl --user -u SERVICE -n 20 -o cat --no-pager 2>/dev/null |
        grep -v -i 'systemd\\|^earkit-\\|Failed with\\|Scheduled\\|Stopped\\|Start' | tail -n 1 >&2
    exit 1
}"""
_RUNTIME = 'export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"'
_START = f"""set -e
{_RUNTIME}
mkdir -p "$HOME/.config/systemd/user"; cd "$HOME/.config/systemd/user"
rm -f .SERVICE.old
[ ! -e SERVICE ] || ln SERVICE .SERVICE.old
undo() {{
    if [ -e .SERVICE.old ]; then mv .SERVICE.old SERVICE
    else systemctl --user disable --now SERVICE; rm -f SERVICE; fi
    systemctl --user daemon-reload
}}
trap 'code=$?; set +e; [ $code = 0 ] || undo >/dev/null 2>&1; rm -f .SERVICE .SERVICE.old; exit $code' EXIT
trap 'exit 1' HUP INT TERM
printf %s "$unit" >.SERVICE
mv .SERVICE SERVICE
loginctl enable-linger 2>/dev/null || true
systemctl --user daemon-reload
systemctl --user enable -q SERVICE
{_AGAIN}"""
_RESTART = f"""{_RUNTIME}
[ -e "$HOME/.config/systemd/user/SERVICE" ] || exit 0
systemctl --user daemon-reload
{_AGAIN}"""


def unit(name: str, arguments: Sequence[str]) -> str:
    """Return the unit of the deployment `name`, whose runner gets `arguments` behind `listen`."""
    words = [f"%h/{deploy.folder(name)}/current/run", "listen", *map(_escaped, arguments)]
    return UNIT.format(name=name, command=" ".join(words), seconds=START_SECONDS)


def start(name: str, text: str) -> str:
    """Return the command for `sh` that puts the unit `text` there and starts it anew, for deploy.

    When it does not start, the unit that was there before comes back, or none is left.
    """
    return f"unit={shlex.quote(text)}\n" + _START.replace("SERVICE", named(name))


def restart(name: str) -> str:
    """Return the command for `sh` that starts the service anew if there is one, for deploy."""
    return _RESTART.replace("SERVICE", named(name))


def named(name: str) -> str:
    """Return what systemd calls the service of the deployment `name`; UserError if that names no place."""
    deploy.folder(name)
    return f"earkit-{name}.service"


def _escaped(word: str) -> str:
    """Return an argument as a unit file has it."""
    for letter, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("%", "%%"), ("$", "$$")):
        word = word.replace(letter, written)
    return f'"{word}"'
