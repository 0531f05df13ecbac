"""An SSH server in this process (asyncssh): a machine for the real `ssh` to log in to, that can misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

asyncssh = pytest.importorskip("asyncssh", reason="needs asyncssh (the 'test' extra)")


class Door(asyncssh.SSHServer):  # type: ignore[misc]  # asyncssh may be absent
    """Asks for passwords as well, of which none is right."""

    def password_auth_supported(self) -> bool:
        """Return whether it asks."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """Return whether that is right."""
        return False


class Machine:
    """Runs what it is told with `sh` in the folder `home`, as another machine would.

    `before` is called with each command and may raise ConnectionError, which cuts the connection; `cut_after`
    cuts it once so many bytes have come for a command; `altered` gives what is run instead.
    """

    def __init__(self, folder: Path) -> None:
        self.home, self.commands = folder / "home", list[str]()
        self.home.mkdir(parents=True)
        self.before: Callable[[str], None] = lambda _: None
        self.altered: Callable[[str], str] = lambda command: command
        self.cut_after: int | None = None
        self.environment: dict[str, str] = {}
        self.host_key, self.user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._call(self._listen(self.host_key, 0))
        self.port = self._server.get_port()

    def change_host_key(self) -> None:
        """Come up again at the same port as if set up anew."""
        self._stop()
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._server = self._call(self._listen(self.host_key, self.port))

    def close(self) -> None:
        """Go away, with what still runs."""
        self._stop()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _stop(self) -> None:
        async def stop() -> None:
            self._server.close()
            await self._server.wait_closed()

        self._call(stop())

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self, key: Any, port: int) -> Any:
        allowed = asyncssh.import_authorized_keys(self.user_key.export_public_key().decode())
        return await asyncssh.listen(
            "127.0.0.1",
            port,
            server_factory=Door,
            server_host_keys=[key],
            authorized_client_keys=allowed,
            process_factory=self._run,
            encoding=None,
            allow_pty=False,
        )

    async def _run(self, process: Any) -> None:
        self.commands.append(process.command)
        connection = process.channel.get_connection()
        try:
            self.before(process.command)
        except ConnectionError:
            connection.abort()
            return
        child = await asyncio.create_subprocess_exec(
            *("env", "--default-signal=HUP", "/bin/sh", "-c", self.altered(process.command)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.home,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **self.environment},
            start_new_session=True,
        )
        try:
            feeding = asyncio.create_task(self._feed(process, child, connection))
            pairs = (child.stdout, process.stdout), (child.stderr, process.stderr)
            await asyncio.gather(*(self._pass(source, sink) for source, sink in pairs))
            process.exit(await child.wait())
            feeding.cancel()
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGHUP)  # as sshd does behind a lost connection
                await child.wait()

    async def _feed(self, process: Any, child: Any, connection: Any) -> None:
        with contextlib.suppress(ConnectionError, asyncssh.Error):
            taken = 0
            while data := await process.stdin.read(1 << 15):
                taken += len(data)
                if self.cut_after is not None and taken > self.cut_after:
                    self.cut_after = None
                    connection.abort()
                    break
                child.stdin.write(data)
                await child.stdin.drain()
        with contextlib.suppress(ConnectionError):
            child.stdin.close()

    @staticmethod
    async def _pass(source: Any, sink: Any) -> None:
        with contextlib.suppress(ConnectionError, asyncssh.Error):
            while data := await source.read(1 << 15):
                sink.write(data)
                await sink.drain()


@contextlib.contextmanager
def machine(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Give a machine that `ssh pi` logs in to; an `ssh` in front of PATH brings its configuration."""
    made = Machine(folder)
    try:
        ssh_folder(folder, made, patch)
        yield made
    finally:
        made.close()


def ssh_folder(folder: Path, made: Machine, patch: pytest.MonkeyPatch) -> None:
    """Write key, known_hosts, configuration and the wrapper of `ssh`, and put it in front of PATH."""
    import shutil

    program = shutil.which("ssh")
    if program is None:
        pytest.skip("needs ssh (openssh-client)")
    (folder / "bin").mkdir()
    made.user_key.write_private_key(str(folder / "id"))
    (folder / "id").chmod(0o600)
    trust(folder, made)
    (folder / "config").write_text(
        f"Host pi\n HostName 127.0.0.1\n Port {made.port}\n"
        f"Host gone\n HostName 127.0.0.1\n Port {free_port()}\n"
        "Host *\n User ear\n IdentitiesOnly yes\n"
        f" IdentityFile {folder}/id\n UserKnownHostsFile {folder}/known_hosts\n"
        " GlobalKnownHostsFile /dev/null\n"
    )
    wrapper = folder / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {program} -F {folder}/config "$@"\n')
    wrapper.chmod(0o755)
    patch.setenv("PATH", f"{folder}/bin{os.pathsep}{os.environ['PATH']}")
    patch.delenv("SSH_AUTH_SOCK", raising=False)


def trust(folder: Path, made: Machine) -> None:
    """Let known_hosts have the machine's key."""
    key = made.host_key.export_public_key().decode()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{made.port} {key}")


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
