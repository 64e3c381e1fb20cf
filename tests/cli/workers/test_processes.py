"""Workers in processes of their own, on a real broker where they must share one."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from resilient_rpc import Client
from resilient_rpc.cli.logs import LogLevel
from resilient_rpc.cli.workers.count import Count
from resilient_rpc.cli.workers.plan import Restarts
from resilient_rpc.cli.workers.process import Orders
from resilient_rpc.cli.workers.scaling import Scaling
from resilient_rpc.cli.workers.supervisor import Supervisor
from resilient_rpc.cli.workers.watch import check_reload
from resilient_rpc.errors import ConfigurationError, Interrupted
from tests.cli.workers.conftest import Start, children, gone, line
from tests.waiting import PATIENCE, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def pids(client: Client, service: str, count: int) -> set[int]:
    """Ask until so many have answered."""
    seen: set[int] = set()

    def enough() -> bool:
        seen.update(client.map(f"{service}.pid", [()] * 20, timeout=PATIENCE))
        return len(seen) >= count

    until(enough, 30.0)
    return seen


def begun(folder: Path, name: str) -> list[int]:
    return [int(path.suffix[1:]) for path in folder.glob(f"{name}.*")]


def test_each_worker_is_a_process_with_its_own_connections(
    amqp_url: str, service: str, start: Start, folder: Path
) -> None:
    process = start("shop:server", "--workers", "3", url=amqp_url)
    assert line(process) == f"ready: {service}\n"
    workers = children(process)
    with Client(amqp_url, batching=None) as client:
        assert pids(client, service, 3) == {each.pid for each in workers}
    assert set(begun(folder, "imported")) == {each.pid for each in workers}, "the parent does not import it"
    for each in workers:
        assert "resilient_rpc.cli.workers.worker" in each.cmdline(), "it is no fork"
        assert len([way for way in each.net_connections("tcp") if way.status == "ESTABLISHED"]) >= 2
    process.terminate()
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert gone(workers)


@pytest.mark.parametrize("how", ["to the parent", "to all, as by Ctrl-C", "to all, as by systemd"])
def test_one_signal_drains_all_of_them_once(amqp_url: str, service: str, start: Start, folder: Path, how: str) -> None:
    process = start("shop:server", "--workers", "2", url=amqp_url)
    line(process)
    workers = children(process)
    with Client(amqp_url, batching=None, policies=[]) as client:
        pids(client, service, 2)
        running = [client.submit(f"{service}.hold", ["x", 1.5]) for _ in range(12)]
        until(lambda: len(begun(folder, "x")) == 2)
        match how:
            case "to the parent":
                process.terminate()
            case "to all, as by Ctrl-C":
                os.killpg(process.pid, signal.SIGINT)
            case _:
                os.killpg(process.pid, signal.SIGTERM)
        ended = [future.exception(PATIENCE) for future in running]
        process.communicate(timeout=20)
        assert process.returncode == 0
        assert gone(workers)
    told = [type(error).__name__ for error in ended if error is not None]
    assert len(told) <= 10, "what had begun has its answer"
    assert set(told) <= {"Draining"}


def test_a_second_signal_ends_all_at_once(start: Start, folder: Path) -> None:
    process = start("shop:server", "--workers", "2")
    line(process)
    workers = children(process)
    for each in workers:
        each.suspend()  # these would never hear of the first one
    process.terminate()
    until(lambda: "draining 2 workers" in (folder / "log").read_text())
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 130
    until(lambda: gone(workers))


def test_a_worker_that_is_killed_is_replaced(amqp_url: str, service: str, start: Start, folder: Path) -> None:
    process = start("shop:server", "--workers", "2", url=amqp_url)
    line(process)
    first, second = children(process)
    first.kill()
    until(lambda: len(begun(folder, "imported")) == 3, 30.0)
    [third] = set(begun(folder, "imported")) - {first.pid, second.pid}
    with Client(amqp_url, batching=None) as client:
        until(lambda: pids(client, service, 1) == {third} or third in pids(client, service, 2))
    assert "ended by itself, by SIGKILL: another one starts in 0.5 s" in (folder / "log").read_text()
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_worker_whose_loop_hangs_is_replaced_and_says_where_it_hung(
    amqp_url: str, service: str, start: Start, folder: Path
) -> None:
    process = start("shop:server", "--workers", "1", "--worker-timeout", "3", url=amqp_url)
    line(process)
    with Client(amqp_url, batching=None, policies=[], timeout=60.0, liveness=None) as client:
        call = client.submit(f"{service}.hang", ["hung"])
        until(lambda: begun(folder, "hung"))
        [hung] = begun(folder, "hung")
        with pytest.raises(Interrupted):
            call.result(60.0)  # by the worker that took its place
        [new] = pids(client, service, 1)
    said = (folder / "log").read_text()
    assert new != hung
    assert said.count(f"(process {hung}): its event loop has not turned for 3 s") == 1
    assert re.search(r'shop\.py", line \d+ in hang', said), "where"
    assert "ended by itself, by SIGABRT" in said
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_worker_that_does_not_even_abort_is_killed(amqp_url: str, service: str, start: Start, folder: Path) -> None:
    process = start("shop:server", "--workers", "1", "--worker-timeout", "2", url=amqp_url)
    line(process)
    [worker] = children(process)
    with Client(amqp_url) as client:  # it has given a sign of life
        assert client.call(f"{service}.pid") == worker.pid
    worker.suspend()  # a signal reaches it when it goes on, and no sooner
    until(lambda: "ended by itself, by SIGKILL" in (folder / "log").read_text(), 30.0)
    process.terminate()
    process.communicate(timeout=30)


def test_a_worker_whose_threads_are_busy_for_long_does_not_hang(
    amqp_url: str, service: str, start: Start, folder: Path
) -> None:
    process = start("shop:server", "--workers", "1", "--worker-timeout", "3", url=amqp_url)
    line(process)
    [worker] = children(process)
    with Client(amqp_url, policies=[]) as client:
        calls = [client.submit(f"{service}.hold", [f"x{n}", 6.0]) for n in range(4)]
        assert [call.result(PATIENCE) for call in calls] == [worker.pid] * 4
    assert "has not turned" not in (folder / "log").read_text()
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.parametrize("seconds", ["1.9", "nan"])
def test_a_time_in_which_there_may_be_no_sign_of_life_is_refused(start: Start, folder: Path, seconds: str) -> None:
    process = start("shop:server", "--workers", "1", "--worker-timeout", seconds)
    process.communicate(timeout=20)
    assert process.returncode == 2
    assert "--worker-timeout" in (folder / "log").read_text()


def test_a_hangup_starts_new_workers_one_after_the_other(
    amqp_url: str, service: str, start: Start, folder: Path
) -> None:
    process = start("shop:server", "--workers", "2", url=amqp_url)
    line(process)
    old = {each.pid for each in children(process)}
    with Client(amqp_url, batching=None) as client:
        running = client.submit(f"{service}.hold", ["x", 2.0])
        until(lambda: begun(folder, "x"))
        process.send_signal(signal.SIGHUP)
        while old & {each.pid for each in children(process)}:
            client.call(f"{service}.pid", timeout=PATIENCE)  # there is always one that answers
        assert running.result(PATIENCE) in old
        assert len(pids(client, service, 2)) == 2
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_workers_that_do_not_last_end_it_and_it_is_said(start: Start, folder: Path) -> None:
    process = start("shop:crashing", "--workers", "2", "--max-restarts", "1")
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(
        r"CRITICAL .* worker \d ended 2 times in a row, with code 3: ending the others, too, with code 1",
        (folder / "log").read_text(),
    )


@pytest.mark.parametrize("target", ["nosuch:server", "shop:nosuch"])
def test_what_cannot_be_built_ends_it_with_the_reason(start: Start, folder: Path, target: str) -> None:
    process = start(target, "--workers", "2")
    assert process.communicate(timeout=30)[0] == ""
    assert process.returncode == 2
    assert "nosuch'" in (folder / "log").read_text()


def test_workers_whose_parent_was_killed_drain(amqp_url: str, service: str, start: Start, folder: Path) -> None:
    process = start("shop:server", "--workers", "2", url=amqp_url)
    line(process)
    workers = children(process)
    with Client(amqp_url) as client:
        running = client.submit(f"{service}.hold", ["x", 1.0])
        until(lambda: begun(folder, "x"))
        process.kill()
        assert running.result(PATIENCE) in {each.pid for each in workers}
    until(lambda: gone(workers), 20.0)


def test_a_thread_that_hangs_makes_it_75(amqp_url: str, service: str, start: Start, folder: Path) -> None:
    process = start("shop:server", "--workers", "2", url=amqp_url, grace=0.3)
    line(process)
    with Client(amqp_url) as client:
        running = client.submit(f"{service}.hold", ["x", 60.0])
        until(lambda: begun(folder, "x"))
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 75
        assert type(running.exception(PATIENCE)).__name__ == "Interrupted"
    assert "hold did not end in the 0.3 s of grace" in (folder / "log").read_text()


def test_reload_starts_anew_when_a_file_changes_and_waits_while_it_is_broken(start: Start, folder: Path) -> None:
    process = start("shop:server", "--reload")
    line(process)
    good, log = (folder / "shop.py").read_text(), folder / "log"
    (folder / "notes.txt").write_text("nothing to do with it")
    (folder / "shop.py").write_text("this is no Python")
    until(lambda: "worker 1 cannot be built: waiting for a change" in log.read_text(), 30.0)
    (folder / "shop.py").write_text(good)
    until(lambda: log.read_text().count("serving ") == 2, 30.0)
    assert "changed: shop.py" in log.read_text()
    assert "notes.txt" not in log.read_text()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--workers", "two"], "--workers 'two': give a number, or two as in 2..8"),
        (["--workers", "3..2"], "--workers 3..2: give 1 to 1000 of them"),
        (["--reload", "--reload-dir", "nosuch"], "--reload-dir nosuch: there is no such folder"),
    ],
)
def test_wrong_usage_is_one_line(start: Start, folder: Path, args: list[str], said: str) -> None:
    process = start("shop:server", *args)
    process.communicate(timeout=20)
    assert process.returncode == 2
    [text] = (folder / "log").read_text().splitlines()
    assert text.startswith(f"error: {said}")


def test_workers_come_with_the_backlog_and_leave_after_it(
    amqp_url: str, service: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for name, value in {
        "SHOP_URL": amqp_url,
        "SHOP_SERVICE": service,
        "GRACE": "10",
        "PYTHONPATH": str(folder),
    }.items():
        monkeypatch.setenv(name, value)
    count = Count(least=1, most=3)
    scaling = Scaling(count=count, up_after=0.5, down_after=1.5)
    ready = threading.Event()
    orders = Orders(target="shop:server", log_level=LogLevel.WARNING, often=0.3)
    supervisor = Supervisor(orders, count, scaling=scaling, ready=lambda _: ready.set())
    seen: dict[str, object] = {}

    def use() -> None:
        try:
            assert ready.wait(30.0)
            with Client(amqp_url, batching=None, timeout=60.0) as client:
                client.call(f"{service}.pid")
                seen["early"] = len(set(client.map(f"{service}.slow", [()] * 4)))
                seen["jammed"] = set(client.map(f"{service}.slow", [()] * 700, window=700))
                until(lambda: supervisor.workers == 1, 30.0)
                seen["late"] = len(set(client.map(f"{service}.slow", [()] * 4)))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    using = threading.Thread(target=use)
    using.start()
    assert supervisor.run() == 0
    using.join()
    assert (seen["early"], seen["late"]) == (1, 1)
    assert len(seen["jammed"]) >= 2  # type: ignore[arg-type]


def test_the_processes_of_the_system_are_not_enough(
    folder: Path, service: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", none)
    rules = Restarts(most=1, first=0.01)
    assert Supervisor(Orders(target="shop:server"), Count(), rules=rules).run() == 1
    assert "worker 1 cannot be started: Resource temporarily unavailable" in caplog.text


def test_one_that_cannot_look_after_them_any_more_drains_them_and_says_why(
    amqp_url: str, folder: Path, service: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: object) -> AsyncIterator[list[str]]:
        await asyncio.sleep(0.05)
        raise PermissionError("no watching here")
        yield []

    monkeypatch.setattr("resilient_rpc.cli.workers.supervisor.changes", broken)
    monkeypatch.chdir(folder)
    for name, value in {"SHOP_URL": amqp_url, "SHOP_SERVICE": service, "GRACE": "10"}.items():
        monkeypatch.setenv(name, value)
    assert Supervisor(Orders(target="shop:server"), Count(), watched=[folder]).run() == 1
    assert "cannot look after the workers any more: no watching here" in caplog.text


def test_what_it_takes_to_watch_files_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'resilient-rpc\[reload\]'"):
        check_reload([])
