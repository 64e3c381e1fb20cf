"""O: oslo.messaging over its rabbit driver, with threads, as OpenStack's services run it."""

from __future__ import annotations

import threading
from argparse import Namespace
from typing import Any

from benchmarks.drive import drive_threads, say


def _transport(url: str) -> Any:
    import oslo_messaging  # noqa: PLC0415 - in its own environment alone
    from oslo_config import cfg  # noqa: PLC0415

    cfg.CONF([], project="bench")  # the global one: some versions register options with it alone
    return oslo_messaging.get_rpc_transport(cfg.CONF, url=url.replace("amqp://", "rabbit://", 1))


def server(options: Namespace) -> None:
    import oslo_messaging  # noqa: PLC0415

    class Endpoint:
        target = oslo_messaging.Target(version="1.0")

        def echo(self, _context: Any, n: int) -> dict[str, int]:
            return {"n": n}

    target = oslo_messaging.Target(topic=f"{options.service}.oslo", server="one")
    policy = oslo_messaging.DefaultRPCAccessPolicy
    serving = oslo_messaging.get_rpc_server(
        _transport(options.url), target, [Endpoint()], executor="threading", access_policy=policy
    )
    serving.start()
    say(event="ready")
    threading.Event().wait()


def client(options: Namespace) -> None:
    import oslo_messaging  # noqa: PLC0415

    target = oslo_messaging.Target(topic=f"{options.service}.oslo", version="1.0")
    rpc = oslo_messaging.get_rpc_client(_transport(options.url), target, timeout=30)
    drive_threads(lambda number: rpc.call({}, "echo", n=number), options.window, options.seconds)
