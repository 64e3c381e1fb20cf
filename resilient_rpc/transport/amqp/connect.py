"""Opens a pika connection over our stream, within one timeout that covers DNS, TCP, TLS and AMQP."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.credentials import ExternalCredentials

from resilient_rpc.transport.amqp.causes import not_connected
from resilient_rpc.transport.amqp.ioservices import IOServices
from resilient_rpc.transport.amqp.stream import Stream
from resilient_rpc.transport.amqp.versions import Broker
from resilient_rpc.transport.urls import AmqpUrl

log = logging.getLogger(__name__)

PRODUCT = "resilient_rpc"
SILENT_HEARTBEATS = 2


class Connection(AsyncioConnection):  # type: ignore[misc]  # pika has no types
    """pika's connection, and the stream under it."""

    stream: Stream

    @property
    def broker(self) -> Broker:
        """Who is at the other end."""
        return Broker.of(self.server_properties)


def cap_pika_logs() -> None:
    """Let pika log nothing but what is critical, unless somebody chose a level for it.

    It logs every failure that we report as an error, several times and with tracebacks, and bodies of messages.
    """
    logger = logging.getLogger("pika")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


def parameters(url: AmqpUrl, host: str, port: int, tls: ssl.SSLContext | None) -> pika.ConnectionParameters:
    """What pika needs to know; its own timeouts are off, for `connect` has one."""
    # Without "capabilities", which would take the place of pika's own: the broker tells only those who ask about
    # alarms and cancelled consumers.
    properties = {"product": PRODUCT, "information": "RPC over RabbitMQ"}
    if url.name:
        properties["connection_name"] = url.name
    return pika.ConnectionParameters(
        host=host,
        port=port,
        virtual_host=url.vhost,
        credentials=_credentials(url),
        heartbeat=url.heartbeat,
        ssl_options=None if tls is None else pika.SSLOptions(tls, host),
        connection_attempts=1,
        socket_timeout=None,
        stack_timeout=None,
        client_properties=properties,
    )


def _credentials(url: AmqpUrl) -> Any:
    return ExternalCredentials() if url.external else pika.PlainCredentials(url.user, url.password)


class _Attempt:
    """One attempt, and the connection that comes of it."""

    def __init__(self, where: str, on_lost: Callable[[BaseException], None], *, tls: bool) -> None:
        loop = asyncio.get_running_loop()
        self.services = IOServices(loop)
        self.opened: asyncio.Future[None] = loop.create_future()
        self.given_up = False
        self._where, self._on_lost, self._tls = where, on_lost, tls

    def on_open(self, _connection: Any) -> None:
        if not self.opened.done():
            self.opened.set_result(None)

    def on_end(self, _connection: Any, error: BaseException) -> None:
        stream = self.services.stream
        reason = None if stream is None else stream.reason
        if reason is not None and error.__cause__ is None and error is not reason:
            error.__cause__ = reason
        if self.given_up:
            return
        if not self.opened.done():
            said = None if stream is None else stream.close_frame
            self.opened.set_exception(not_connected(error, said, self._where, reason, tls=self._tls))
        elif self.opened.exception() is None:
            try:
                self._on_lost(error)
            except Exception:
                log.exception("the owner of a connection failed to take note of its end")

    def give_up(self, connection: Connection) -> None:
        """Leave nothing behind: no socket, no timer of pika's, and nothing that it still waits for."""
        self.given_up = True
        if self.opened.done() and not self.opened.cancelled():
            self.opened.exception()  # nobody else will look at it
        try:
            connection.close()
        except Exception:  # pika 1.4.4 trips over its own workflow in some phases
            log.debug("pika failed to abandon a connection attempt", exc_info=True)
        if self.services.stream is not None:
            self.services.stream.abort()


async def connect(
    url: AmqpUrl,
    address: tuple[str, int],
    tls: ssl.SSLContext | None,
    timeout: float,
    on_lost: Callable[[BaseException], None],
) -> Connection:
    """Open a connection; `on_lost(error)` is called once when it ends, for whatever reason.

    The error's ``__cause__`` is what the socket said.

    Raises:
        ConfigurationError: the broker refuses the credentials or the vhost.
        TimeoutError: naming the phase that took too long.
        NotConnected: anything else.
    """
    host, port = address
    where = f"{host}:{port}"
    attempt = _Attempt(where, on_lost, tls=tls is not None)
    connection = Connection(
        parameters(url, host, port, tls),
        on_open_callback=attempt.on_open,
        on_open_error_callback=attempt.on_end,
        on_close_callback=attempt.on_end,
        custom_ioloop=attempt.services,
    )
    try:
        await asyncio.wait((attempt.opened,), timeout=timeout)
        if not attempt.opened.done():
            phase = attempt.services.phase
            raise TimeoutError(f"no connection to {where} within {timeout:.3g} s: stuck at {phase}")
        attempt.opened.result()
    except BaseException:
        attempt.give_up(connection)
        raise
    stream = attempt.services.stream
    if stream is None:
        raise RuntimeError("pika opened a connection without a stream")
    connection.stream, stream.connection = stream, connection
    if (heartbeat := connection.params.heartbeat) and not stream.closed:
        stream.watch(SILENT_HEARTBEATS * heartbeat)  # the broker sends twice in each
    return connection
