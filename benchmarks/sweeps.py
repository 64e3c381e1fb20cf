"""The catalogue: every chart of the suite, in the order of the report."""

from __future__ import annotations

from benchmarks import probes
from benchmarks.cases import PEERS, Case
from benchmarks.families import Catalogue, Family, Point, Probe, of_cases

CATALOGUE = Catalogue()
WINDOWS = (1, 4, 16, 64, 256, 1024, 4096)
RATES = (100, 1000, 5000, 10_000, 20_000)
PAYLOADS = (16, 256, 4096, 65_536, 1_048_576)
THREADS = (1, 4, 16, 64, 256)
TIMES = (("p50_us", "p50"), ("p95_us", "p95"), ("p99_us", "p99"), ("p999_us", "p99.9"))


def _bare(*arguments: str) -> tuple[str, ...]:
    return ("ours-async", *arguments)


def _payload(size: int) -> tuple[str, ...]:
    return _bare("--window", "16", "--payload", str(size))


def _setting(name: str, client: tuple[str, ...] = (), server: tuple[str, ...] = (), *, quick: bool = False) -> Point:
    """A setting that differs from the defaults, with 64 calls in flight."""
    case = Case(
        key=f"setting-{name.replace(' ', '-')}",
        title=f"AsyncClient, 64 in flight, {name}",
        client=_bare("--window", "64", *client),
        server=("ours-server", *server),
    )
    return Point(key=CATALOGUE.case(case), x=name, quick=quick)


def _parts(keys: tuple[tuple[str, str], ...], quick: set[str]) -> tuple[Point, ...]:
    """Processor time, stacked."""
    return tuple(
        Point(key=key, x=x, series=who, measure=f"{who}_cpu_us", quick=key in quick)
        for key, x in keys
        for who in ("client", "server", "broker")
    )


OURS = (
    ("async-64-single", "AsyncClient, 64 in flight, batching off"),
    ("async-64", "AsyncClient, 64 in flight"),
    ("async-1024", "AsyncClient, 1,024 in flight"),
    ("threads-64", "Client, 64 threads"),
    ("map", "Client.map of 10,000"),
)
ALONE = (("async-1", "AsyncClient"), ("threads-1", "Client"))
ALONE_MORE = (
    ("async-1-chain", "AsyncClient, default policies"),
    ("threads-1-chain", "Client, default policies"),
    ("keyed-1", "AsyncClient, a fresh key, Redis"),
)
CROWD = tuple((peer.key, peer.title) for peer in PEERS if not peer.alone)
SINGLE = tuple((peer.key, peer.title) for peer in PEERS if peer.alone)
QUICK = {"A", "P", "P1", "async-64-single", "async-64", "async-1024", "threads-64", "map", "async-1", "threads-1"}
CHAINED = (
    ("async-64-single", "64 in flight, batching off"),
    ("async-64", "64 in flight"),
    ("async-1024", "1,024 in flight"),
    ("threads-64", "Client, 64 threads"),
    ("map", "Client.map"),
)
KEYED = (
    ("async-64-chain", "no key"),
    ("keyed-64", "fresh keys, Redis"),
    ("keyed-64-replay", "replays, Redis"),
    ("keyed-64-memory", "fresh keys, in memory"),
    ("keyed-64-memory-replay", "replays, in memory"),
)

FAMILIES = (
    Family(
        key="peers",
        title="Throughput beside the peers",
        about="An echo, one client process and one server process. Ours runs with confirms and deadlines.",
        points=of_cases((*CROWD, *OURS), quick=QUICK, apart=True),
        compared="A",
    ),
    Family(
        key="alone",
        title="A single call",
        about="One call at a time: the next begins when the last has ended. The median of all calls.",
        measure="p50_us",
        points=of_cases((*SINGLE, *ALONE, *ALONE_MORE), quick=QUICK, apart=True),
        compared="P1",
    ),
    Family(
        key="rates",
        title="Time of a call at a fixed rate",
        about="An open loop: calls begin by the clock, and their time counts from when they were due. A pause is paid "
        "by every call that was due in it (no coordinated omission).",
        measure="p50_us",
        axis="calls begun a second",
        points=CATALOGUE.sweep(
            "rate",
            RATES,
            client=lambda rate: ("ours-rate", "--rate", str(rate)),
            measures=TIMES,
            quick=(1000, 5000),
        ),
    ),
    Family(
        key="window",
        title="Throughput by calls in flight",
        about="A closed loop: so many tasks, each calling again as soon as it was answered.",
        axis="calls in flight",
        points=(
            *CATALOGUE.sweep(
                "window",
                WINDOWS,
                client=lambda window: _bare("--window", str(window)),
                quick=(1, 16, 64, 1024),
            ),
            *CATALOGUE.sweep(
                "single-window",
                (1, 16, 64, 256, 1024),
                client=lambda window: _bare("--window", str(window), "--single"),
                server=lambda _: ("ours-server", "--single"),
                series="AsyncClient, batching off",
                quick=(64,),
            ),
        ),
    ),
    Family(
        key="window-times",
        title="Time of a call by calls in flight",
        about="The same runs: what the throughput costs the single call.",
        measure="p50_us",
        axis="calls in flight",
        points=CATALOGUE.sweep(
            "window",
            WINDOWS,
            client=lambda window: _bare("--window", str(window)),
            measures=TIMES,
            quick=(1, 16, 64, 1024),
        ),
    ),
    Family(
        key="payload",
        title="Throughput by size",
        about="A text that is sent and sent back, with 16 calls in flight.",
        axis="bytes of the text",
        points=CATALOGUE.sweep("payload", PAYLOADS, client=_payload, quick=(16, 65_536)),
    ),
    Family(
        key="payload-volume",
        title="Volume by size",
        about="The same runs, in bytes a second each way.",
        measure="bytes_per_s",
        axis="bytes of the text",
        points=CATALOGUE.sweep("payload", PAYLOADS, client=_payload, quick=(16, 65_536)),
    ),
    Family(
        key="threads",
        title="Throughput by client threads",
        about="Threads that share one Client, each making one call after the other.",
        axis="threads",
        points=CATALOGUE.sweep(
            "threads",
            THREADS,
            client=lambda count: ("ours-threads", "--window", str(count)),
            series="Client",
            quick=(1, 64),
        ),
    ),
    Family(
        key="servers",
        title="Throughput by server processes",
        about="256 calls in flight. With batching off the messages spread evenly; more processes than processors "
        "bring nothing on one machine.",
        axis="server processes",
        points=(
            *CATALOGUE.sweep(
                "servers", (1, 2, 3, 4), client=lambda _: _bare("--window", "256"), servers=lambda count: count
            ),
            *CATALOGUE.sweep(
                "single-servers",
                (1, 2, 3, 4),
                client=lambda _: _bare("--window", "256", "--single"),
                server=lambda _: ("ours-server", "--single"),
                servers=lambda count: count,
                series="AsyncClient, batching off",
            ),
        ),
    ),
    Family(
        key="clients",
        title="Throughput by client processes",
        about="64 calls in flight in each, batching off, with as many server processes. More processes than processors "
        "bring nothing on one machine.",
        axis="client processes",
        points=(
            *CATALOGUE.sweep(
                "one-queue",
                (1, 2, 4),
                client=lambda _: _bare("--window", "64", "--single"),
                server=lambda _: ("ours-server", "--single"),
                servers=lambda count: count,
                clients=lambda count: count,
                series="one queue",
            ),
            *CATALOGUE.sweep(
                "queues",
                (2, 4),
                client=lambda count: _bare("--window", "64", "--single", "--shards", str(count)),
                server=lambda _: ("ours-server", "--single"),
                servers=lambda count: count,
                clients=lambda count: count,
                series="a queue for each server",
            ),
        ),
    ),
    Family(
        key="queue",
        title="The broker's part, and the queue's in it",
        about="Processor time of the broker for a call, shared out by what Erlang counts as work. A queue is one "
        "process of Erlang: it ends at one processor, the rest spreads over all that the node has.",
        measure="broker_cpu_us",
        probe=Probe(run=probes.queue, once=True, seconds=30.0),
        stacked=True,
    ),
    Family(
        key="batches",
        title="Calls in a message",
        about="The same runs as by calls in flight: how many calls share a message.",
        measure="calls_a_message",
        axis="calls in flight",
        points=CATALOGUE.sweep(
            "window",
            WINDOWS,
            client=lambda window: _bare("--window", str(window)),
            quick=(64, 1024),
        ),
    ),
    Family(
        key="settings",
        title="What a setting costs",
        about="64 calls in flight, one setting changed at a time. Queues are durable and both sides confirm in all.",
        compared="async-64",
        points=(
            _setting("the defaults", quick=True),
            _setting("batching off", ("--single",), ("--single",), quick=True),
            _setting("MessagePack", ("--codec", "msgpack")),
            _setting("compression", ("--compress",), ("--compress",)),
            _setting("quorum queue", (), ("--queue", "quorum")),
            _setting("plain function", (), ("--plain",)),
            _setting("lane off", ("--slow-lane",), ("--slow-lane",)),
            _setting("replies Exclusive", ("--replies", "exclusive")),
            _setting("replies Named", ("--replies", "named")),
            _setting("replies Pool", ("--replies", "pool")),
            _setting("replies PerCall", ("--replies", "per-call")),
        ),
    ),
    Family(
        key="large",
        title="Codecs and compression at 64 KiB",
        about="A text of hexadecimal digits that is sent and sent back, with 16 calls in flight.",
        points=tuple(
            Point(
                key=CATALOGUE.case(
                    Case(key=f"large-{name}", title=f"64 KiB, {name}", client=(*_payload(65_536), *more), server=server)
                ),
                x=name,
            )
            for name, more, server in (
                ("JSON", (), ("ours-server",)),
                ("MessagePack", ("--codec", "msgpack"), ("ours-server",)),
                ("JSON, compressed", ("--compress",), ("ours-server", "--compress")),
            )
        ),
    ),
    Family(
        key="chain",
        title="The default policies",
        about="Retry, CircuitBreaker and AttemptTimeout around every call, beside the same without.",
        points=tuple(
            point
            for key, x in CHAINED
            for point in (
                Point(key=key, x=x, series="no policies", quick=key == "async-64"),
                Point(key=f"{key}-chain", x=x, series="default policies", quick=key == "async-64"),
            )
        ),
    ),
    Family(
        key="policies",
        title="Each policy alone",
        about="Microseconds added to a call that succeeds, in process, beside naive use of other libraries.",
        measure="micros",
        probe=Probe(run=probes.policies, once=True, seconds=20.0, quick_seconds=7.0),
        quick=True,
    ),
    Family(
        key="cached",
        title="A cache hit",
        about="All of client.call, of a client that is connected to a broker: the time until the cache has answered.",
        measure="p50_us",
        points=of_cases((("cached-1", "AsyncClient"), ("cached-threads-1", "Client"))),
    ),
    Family(
        key="keyed",
        title="Calls with idempotency keys",
        about="64 calls in flight, with the default policies; the server has Idempotency over Redis or in memory.",
        compared="async-64-chain",
        points=of_cases(KEYED, quick={"async-64-chain", "keyed-64", "keyed-64-replay"}),
    ),
    Family(
        key="trips",
        title="What a key costs Redis",
        about="Processor time of Redis in the scripts of a call.",
        measure="redis_cpu_us",
        points=of_cases(
            (
                ("keyed-1", "a fresh key, alone"),
                ("keyed-1-replay", "a replay, alone"),
                ("keyed-64", "fresh keys, 64 in flight"),
                ("keyed-64-replay", "replays, 64 in flight"),
            ),
            quick={"keyed-64", "keyed-64-replay"},
        ),
    ),
    Family(
        key="store",
        title="Idempotency records in Redis",
        about="RedisStore and @idempotent without a broker, beside AWS Lambda Powertools.",
        probe=Probe(run=probes.store, seconds=11.0),
    ),
    Family(
        key="failures",
        title="Until the caller knows",
        about="From the call to its error. Killed: the only server gets SIGKILL with the call in its hands, where "
        "liveness is 1 s; without liveness a caller would wait for its deadline.",
        measure="elapsed_us",
        probe=Probe(run=probes.failures, seconds=5.0, quick_seconds=4.0),
        quick=True,
    ),
    Family(
        key="amplification",
        title="Requests sent to a server that fails",
        about="For each of 300 calls at once, each with 4 s: the handler always fails and says that a repeat may help.",
        measure="attempts",
        probe=Probe(run=probes.amplification, seconds=5.0, quick_seconds=4.0),
        quick=True,
    ),
    Family(
        key="recovery",
        title="After a restart of the broker",
        about="The broker is killed with SIGKILL and started again. From the moment at which it answers to the first "
        "call that succeeds, of a client that calls all the time.",
        measure="elapsed_us",
        probe=Probe(run=probes.recovery, seconds=15.0),
    ),
    Family(
        key="cpu",
        title="Processor time of a call",
        about="Of client, server and broker; 1 µs a call is 1 ms for 1,000 calls.",
        measure="client_cpu_us",
        points=_parts((*CROWD, *OURS, *SINGLE, *ALONE), QUICK),
        stacked=True,
    ),
    Family(
        key="memory",
        title="Memory",
        about="Of a call that waits: all that is beyond the caller's own task and coroutines. Of a record: its growth "
        "in Redis and in a process.",
        measure="bytes",
        probe=Probe(run=probes.memory, once=True, seconds=45.0),
    ),
    Family(
        key="soak",
        title="What calls leave behind",
        about="Growth of the memory of both processes over 1,000,000 calls, 64 in flight, by least squares.",
        measure="growth",
        probe=Probe(run=probes.soak, once=True, seconds=65.0),
    ),
    Family(
        key="idle",
        title="Without work",
        about="Processor time of clients and a server that are connected and have nothing to do, for 20 s.",
        measure="share",
        probe=Probe(run=probes.idle, once=True, seconds=24.0),
    ),
    Family(
        key="burst",
        title="A burst over four servers",
        about="200 calls of 20 ms on 4 servers of 10 slots; 100 ms is the ideal.",
        measure="p50_us",
        points=of_cases((("burst", "no policies"),)),
    ),
)
