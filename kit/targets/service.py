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


def unit(name: str, arguments: Sequence[str]) -> str:
    """Return the unit of the deployment `name`, whose runner gets `arguments` behind `listen`."""
    words = [f"%h/{deploy.folder(name)}/current/run", "listen", *map(_escaped, arguments)]
    return UNIT.format(name=name, command=" ".join(words), seconds=START_SECONDS)


def start(name: str, text: str) -> str:
    """Return the command for `sh` that puts the unit `text` there and starts it anew, for deploy."""
    service = f"earkit-{name}.service"
    return f"""set -e
export XDG_RUNTIME_DIR="${{XDG_RUNTIME_DIR:-/run/user/$(id -u)}}"
mkdir -p "$HOME/.config/systemd/user"
printf %s {shlex.quote(text)} >"$HOME/.config/systemd/user/.{service}"
mv "$HOME/.config/systemd/user/.{service}" "$HOME/.config/systemd/user/{service}"
loginctl enable-linger 2>/dev/null || true
systemctl --user daemon-reload
systemctl --user enable -q {service}
{_AGAIN.replace("SERVICE", service)}"""


def restart(name: str) -> str:
    """Return the command for `sh` that starts the service anew if there is one, for deploy."""
    service = f"earkit-{name}.service"
    return f"""export XDG_RUNTIME_DIR="${{XDG_RUNTIME_DIR:-/run/user/$(id -u)}}"
[ -e "$HOME/.config/systemd/user/{service}" ] || exit 0
{_AGAIN.replace("SERVICE", service)}"""


def stop(name: str) -> str:
    """Return the command for `sh` that ends the service and takes its unit away."""
    service = f"earkit-{name}.service"
    return f"""export XDG_RUNTIME_DIR="${{XDG_RUNTIME_DIR:-/run/user/$(id -u)}}"
[ -e "$HOME/.config/systemd/user/{service}" ] || exit 0
systemctl --user disable -q --now {service}
rm -f "$HOME/.config/systemd/user/{service}"
systemctl --user daemon-reload"""


def _escaped(word: str) -> str:
    """Return an argument as a unit file has it."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"'
