"""The cases of ours, what each is compared with, and what it shall reach."""

from __future__ import annotations

from dataclasses import dataclass, replace

RATE, MEDIAN = "calls_per_s", "p50_us"


@dataclass(frozen=True, kw_only=True)
class Target:
    """`limit` times what `peer` reaches in the same round; at least, for rates; at most, for times.

    `peer`: the key of a `Peer`, or of another `Case`.
    """

    peer: str
    limit: float
    more: bool = False
    """`limit` is what may come on top of the peer's number, instead of a factor."""
    why: str = ""
    """What stands in the way where it is missed."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table. `client`: a party of `benchmarks.ours` and its settings."""

    key: str
    title: str
    client: tuple[str, ...]
    server: tuple[str, ...] = ("ours-server",)
    servers: int = 1
    clients: int = 1
    unit: str = RATE
    targets: tuple[Target, ...] = ()

    @property
    def command(self) -> tuple[object, ...]:
        """What its processes are started with: equal ones are the same case."""
        return self.client, self.server, self.clients, self.servers


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Somebody else's way to do it."""

    key: str
    title: str
    client: tuple[str, ...]
    server: tuple[str, ...]
    unit: str = RATE
    environment: str = ""
    """Of `benchmarks.peers.environments`, if it needs one of its own."""
    servers: int = 1
    clients: int = 1

    @property
    def alone(self) -> bool:
        """One call at a time: its time is the number."""
        return self.unit == MEDIAN


PEERS = (
    Peer(
        key="A",
        title="aio-pika JsonRPC, 64 in flight",
        client=("aio-pika-client", "--window", "64"),
        server=("aio-pika-server",),
    ),
    Peer(
        key="P",
        title="pika's tutorial loop, 64 in flight",
        client=("pika-client", "--window", "64"),
        server=("pika-server", "--prefetch", "256"),
    ),
    Peer(
        key="P1",
        title="pika's tutorial loop, one at a time",
        client=("pika-client", "--window", "1"),
        server=("pika-server", "--prefetch", "1"),
        unit=MEDIAN,
    ),
    Peer(
        key="F",
        title="FastStream request, 64 in flight",
        client=("faststream-client", "--window", "64"),
        server=("faststream-server", "--prefetch", "256"),
        environment="faststream",
    ),
    Peer(
        key="O",
        title="oslo.messaging, 64 threads",
        client=("oslo-client", "--window", "64"),
        server=("oslo-server",),
        environment="oslo",
    ),
    Peer(
        key="N",
        title="nameko, 64 in flight",
        client=("nameko-client", "--window", "64"),
        server=("nameko-server",),
        environment="nameko",
    ),
    Peer(
        key="C",
        title="C with librabbitmq, 64 in flight",
        client=("c-client", "--window", "64"),
        server=("c-server",),
        environment="c",
    ),
    Peer(
        key="C1",
        title="C with librabbitmq, one at a time",
        client=("c-client", "--window", "1"),
        server=("c-server",),
        unit=MEDIAN,
        environment="c",
    ),
    Peer(
        key="F1",
        title="FastStream request, one at a time",
        client=("faststream-client", "--window", "1"),
        server=("faststream-server", "--prefetch", "256"),
        unit=MEDIAN,
        environment="faststream",
    ),
    Peer(
        key="O1",
        title="oslo.messaging, one at a time",
        client=("oslo-client", "--window", "1"),
        server=("oslo-server",),
        unit=MEDIAN,
        environment="oslo",
    ),
    Peer(
        key="N1",
        title="nameko, one at a time",
        client=("nameko-client", "--window", "1"),
        server=("nameko-server",),
        unit=MEDIAN,
        environment="nameko",
    ),
)

BROKER = "half of a call is the broker's part, two messages, two confirms and an ack"
TURNS = "client, broker and server take turns: the processor time of the three together is the time of a batch"
COLD = "three processes wake up for it, with cold caches: 0.88 to 1.03 on the same machine at different times"
POLICIES = "the policies take 2 µs a call of the client, whose processor is the limit"
KEYS = "a key costs the server 50 µs of processor time, five times what the rest of a call does, and Redis 18 µs"
WAKING = "two scripts in Redis take some 230 µs over a bare blocking socket: each wakes two processes, and is cold"
CORE = (
    Case(
        key="async-64-single",
        title="AsyncClient, 64 in flight, batching off",
        client=("ours-async", "--window", "64", "--single"),
        server=("ours-server", "--single"),
        targets=(Target(peer="A", limit=10, why=BROKER), Target(peer="P", limit=4, why=f"{BROKER}; P has no confirms")),
    ),
    Case(
        key="async-64",
        title="AsyncClient, 64 in flight",
        client=("ours-async", "--window", "64"),
        targets=(Target(peer="A", limit=35, why=TURNS),),
    ),
    Case(
        key="async-1024",
        title="AsyncClient, 1,024 in flight",
        client=("ours-async", "--window", "1024"),
        targets=(Target(peer="A", limit=70, why="the client's processor is busy all the time"),),
    ),
    Case(
        key="threads-64",
        title="Client, 64 threads",
        client=("ours-threads", "--window", "64"),
        targets=(Target(peer="A", limit=12),),
    ),
    Case(
        key="async-1",
        title="AsyncClient, one at a time",
        client=("ours-async", "--window", "1"),
        unit=MEDIAN,
        targets=(Target(peer="P1", limit=0.9, why=COLD),),
    ),
    Case(
        key="threads-1",
        title="Client, one at a time",
        client=("ours-threads", "--window", "1"),
        unit=MEDIAN,
        targets=(Target(peer="P1", limit=1.0, why="two switches of threads, about 100 µs, come on top"),),
    ),
    Case(
        key="map",
        title="Client.map of 10,000",
        client=("ours-map",),
        targets=(Target(peer="A", limit=40),),
    ),
    Case(
        key="burst",
        title="burst of 200 calls of 20 ms, 4 servers of 10",
        client=("ours-burst",),
        server=("ours-server", "--concurrency", "10"),
        servers=4,
        unit=MEDIAN,
        targets=(Target(peer="ideal", limit=1.3),),
    ),
)


def _with_chain(case: Case) -> Case:
    """The same with the default policies, compared with itself without any."""
    limit = KEPT if case.unit == RATE else 1 / KEPT
    return replace(
        case,
        key=f"{case.key}-chain",
        title=f"{case.title}, default policies",
        client=(*case.client, "--chain"),
        targets=(Target(peer=case.key, limit=limit, why=POLICIES),),
    )


KEPT = 0.8
"""The share of the core's figures that a client with the default policies keeps."""
KEYED = (
    Case(
        key="keyed-64",
        title="fresh keys, Idempotency(RedisStore), 64 in flight",
        client=("ours-keyed", "--window", "64"),
        server=("ours-server", "--store", "redis"),
        targets=(Target(peer="A", limit=12, why=KEYS),),
    ),
    Case(
        key="keyed-64-replay",
        title="replays, Idempotency(RedisStore), 64 in flight",
        client=("ours-keyed", "--window", "64", "--replay"),
        server=("ours-server", "--store", "redis"),
        targets=(Target(peer="keyed-64", limit=1),),
    ),
    Case(
        key="keyed-64-memory",
        title="fresh keys, Idempotency(MemoryStore), 64 in flight",
        client=("ours-keyed", "--window", "64"),
        server=("ours-server", "--store", "memory"),
    ),
    Case(
        key="keyed-64-memory-replay",
        title="replays, Idempotency(MemoryStore), 64 in flight",
        client=("ours-keyed", "--window", "64", "--replay"),
        server=("ours-server", "--store", "memory"),
    ),
    Case(
        key="keyed-1",
        title="fresh keys, Idempotency(RedisStore), one at a time",
        client=("ours-keyed", "--window", "1"),
        server=("ours-server", "--store", "redis"),
        unit=MEDIAN,
        targets=(Target(peer="async-1-chain", limit=250, more=True, why=WAKING),),
    ),
    Case(
        key="keyed-1-replay",
        title="replays, Idempotency(RedisStore), one at a time",
        client=("ours-keyed", "--window", "1", "--replay"),
        server=("ours-server", "--store", "redis"),
        unit=MEDIAN,
    ),
)
CACHED = (
    Case(key="cached-1", title="AsyncClient, a cache hit", client=("ours-cached", "--window", "1"), unit=MEDIAN),
    Case(
        key="cached-threads-1",
        title="Client, a cache hit",
        client=("ours-cached-threads", "--window", "1"),
        unit=MEDIAN,
    ),
)
CASES = CORE + CACHED + tuple(_with_chain(case) for case in CORE if case.servers == 1) + KEYED
BURST_CALLS, BURST_SECONDS, BURST_SLOTS = 200, 0.02, 40
IDEAL_US = BURST_CALLS * BURST_SECONDS / BURST_SLOTS * 1e6
"""What the burst takes when no server waits while another has a queue."""
