"""Other versions of the servers: named by a folder or by images, and unpacked as a whole or not at all."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.servers import binaries, choose, containers, install, rabbitmq, redis
from tests.servers import next as following
from tests.servers.handle import ServerError


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("rabbitmq-server", "rabbitmqctl", "redis-server", "epmd"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv(binaries.BINARIES, str(tmp_path))
    return tmp_path


def test_a_named_folder_is_where_all_programs_come_from(named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(choose.AMQP_URL, raising=False)
    monkeypatch.delenv(choose.REDIS_URL, raising=False)

    assert rabbitmq.find() == named
    assert redis.find() == named / "redis-server"
    assert binaries.program("epmd") == named / "epmd"
    assert choose.origins() == {"RabbitMQ": str(named), "Redis": str(named / "redis-server")}


def test_what_a_named_folder_lacks_is_not_taken_from_elsewhere(named: Path) -> None:
    (named / "redis-server").unlink()
    (named / "epmd").chmod(0o644)

    assert redis.find() is None
    assert binaries.program("epmd") is None


def test_a_named_folder_that_is_none_is_an_error(named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(binaries.BINARIES, str(named / "missing"))

    with pytest.raises(ServerError, match="missing, which is no folder"):
        rabbitmq.find()


def test_a_named_image_comes_before_binaries(named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(choose.AMQP_URL, raising=False)
    monkeypatch.setattr(containers, "available", lambda: True)
    monkeypatch.setenv(containers.RABBITMQ, "rabbitmq:4.3")

    assert choose.origins()["RabbitMQ"] == "docker"
    assert isinstance(choose.broker(private=True), containers.DockerBroker)
    assert isinstance(choose.redis_server(private=True), redis.LocalRedis)


def test_a_wrapper_runs_the_program_of_the_root_whatever_its_path(tmp_path: Path) -> None:
    root = tmp_path / "it's here" / "root"
    root.mkdir(parents=True)

    programs = following.unpacked(root.parent)

    text = (programs / "redis-server").read_text()
    assert "/usr/bin/redis-server" in text
    done = subprocess.run(["sh", "-n", programs / "redis-server"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_unpacking_that_fails_leaves_nothing_that_passes_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "debootstrap"
    tool.write_text('#!/bin/sh\nfor last; do :; done\nmkdir -p "$last/etc"\necho no such release\nexit 3\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with pytest.raises(ServerError, match="ended with 3:\nno such release"):
        following.unpacked(tmp_path / "next")

    assert not (tmp_path / "next" / "root").exists()


def test_with_neither_debian_nor_docker_it_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "is_debian_root", lambda: False)
    monkeypatch.setattr(containers, "available", lambda: False)

    with pytest.raises(ServerError, match="need root on Debian"):
        following.prepare(Path("unused"))


def test_with_docker_alone_the_images_are_fetched_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(install, "is_debian_root", lambda: False)
    monkeypatch.setattr(containers, "available", lambda: True)
    monkeypatch.setattr(containers, "fetch", fetched.append)

    assert following.prepare(Path("unused")) == following.IMAGES
    assert fetched == list(following.IMAGES.values())


def test_the_command_runs_with_the_servers_and_ends_with_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(following, "prepare", lambda folder: {binaries.BINARIES: "/the/folder"})

    assert following.main(["sh", "-c", f"echo ${binaries.BINARIES}; exit 7"]) == 7
    assert capfd.readouterr().out == "/the/folder\n"
    assert following.main([]) == 2
