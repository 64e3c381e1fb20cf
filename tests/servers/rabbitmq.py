"""A RabbitMQ of our own, from local binaries, on private ports, with its data in a temporary folder."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.servers import binaries, epmd, tls
from tests.servers.handle import Broker, ServerError
from tests.servers.local import LocalServer
from tests.servers.ports import HOST, free_port, speaks_amqp
from tests.servers.process import Process

PREFIXES = (
    "/usr/lib/rabbitmq/bin",  # Debian, Ubuntu; Fedora
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
    "/opt/rabbitmq/sbin",  # the docker image, and archives unpacked by hand
    "/opt/rabbitmq_server-*/sbin",
    "/usr/local/opt/rabbitmq/sbin",  # Homebrew
    "/opt/homebrew/opt/rabbitmq/sbin",
)
BOOT_SECONDS = 45.0
CTL_SECONDS = 45.0
STARTING = "requires the 'rabbit' app to be running"

CONFIG = """\
default_user = guest
default_pass = guest
disk_free_limit.absolute = 50MB
log.file.level = info
log.console = false
"""


def find() -> Path | None:
    """The folder of `rabbitmq-server` and `rabbitmqctl`, or None."""
    if binaries.folder() is not None:
        return binaries.folder()
    for folder in _candidates():
        script = folder / "rabbitmq-server"
        if os.access(script, os.X_OK) and (folder / "rabbitmqctl").exists() and not _changes_user(script):
            return folder
    return None


def _candidates() -> Iterator[Path]:
    for prefix in PREFIXES:
        yield from sorted(Path("/").glob(prefix.lstrip("/")), reverse=True)  # the newest first
    on_path = shutil.which("rabbitmq-server")
    if on_path:
        yield Path(on_path).parent
        yield Path(on_path).resolve().parent


def _changes_user(script: Path) -> bool:
    # Distributions put a wrapper on PATH that becomes the user `rabbitmq` and loses our environment.
    return re.search(r"\b(su|runuser|setpriv)\s+(-\S+\s+)*rabbitmq\b", script.read_text(errors="replace")) is not None


class LocalBroker(LocalServer, Broker):
    """One node."""

    def __init__(self, binaries: Path, certificates: tls.Certificates | None = None, cookie: str | None = None) -> None:
        super().__init__(binaries, "RabbitMQ")
        self._binaries, self._certificates = binaries, certificates
        self._cookie = secrets.token_hex(10) if cookie is None else cookie
        """Nodes of one cluster have the same."""
        self.node = f"rpc{secrets.token_hex(4)}@localhost"
        self._prepare()
        self._choose_ports()

    def _prepare(self) -> None:
        cookie = self._home / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        (self._home / "enabled_plugins").write_text(tls.RABBITMQ_PLUGINS if self._certificates else "[].")
        (self._home / "rabbitmq-env.conf").write_text("")

    def _choose_ports(self) -> None:
        self.port = free_port()
        self.url = f"amqp://guest:guest@{HOST}:{self.port}/"
        config = CONFIG
        if self._certificates is not None:
            self.tls_port = free_port()
            config += tls.rabbitmq_conf(str(self._certificates.folder), f"{HOST}:{self.tls_port}")
        (self._home / "rabbitmq.conf").write_text(config)
        self._env = self._environment()

    def _environment(self) -> dict[str, str]:
        home = self._home
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        own = {
            "HOME": str(home),  # where the cookie is
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            # One scheduler that does not spin: the tests need the processors more than an idle broker does.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
            "RABBITMQ_CTL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        if epmd.port():
            own["ERL_EPMD_PORT"] = str(epmd.port())
        return inherited | own

    def _boot(self) -> None:
        log = self._home / "console.log"
        process = self._process = Process(
            [str(self._binaries / "rabbitmq-server")], port=self.port, env=self._env, log=log
        )
        process.wait_ready(lambda: speaks_amqp(self.port), seconds=BOOT_SECONDS, what="rabbitmq-server")

    def ctl(self, *args: str) -> str:
        done = self._ctl(*args)
        if done.returncode and STARTING in done.stdout + done.stderr:  # it accepts connections a moment before it is up
            self._ctl("await_startup")
            done = self._ctl(*args)
        if done.returncode:
            raise ServerError(f"rabbitmqctl {' '.join(args)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def _ctl(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._binaries / "rabbitmqctl"), "--quiet", "--node", self.node, *args]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=CTL_SECONDS, check=False)
