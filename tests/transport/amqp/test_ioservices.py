import asyncio
import socket

from resilient_rpc.transport.amqp.ioservices import IOServices


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


def never() -> None:
    raise AssertionError("the handshake of a connection that was given up")


def test_a_socket_handed_over_is_closed_when_that_is_cancelled_at_whatever_step() -> None:
    async def scenario(steps: int) -> None:
        ours, theirs = pair()
        with theirs:
            services = IOServices(asyncio.get_running_loop())
            job = services.create_streaming_connection(never, ours, lambda _: None)
            for _ in range(steps):
                await asyncio.sleep(0)
            job.cancel()
            theirs.settimeout(5.0)
            assert await asyncio.to_thread(theirs.recv, 1) == b""

    for steps in range(4):
        asyncio.run(scenario(steps))
