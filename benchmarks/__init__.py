"""What the library costs, beside its peers: ``resilient-rpc bench``, ``make bench`` or ``python -m benchmarks``.

`sweeps.py` is the catalogue: families of points, each a chart and a table. A point is a number of a case or a peer (a
client process that calls server processes for some seconds, `cases.py`) or of a probe (what is measured in other ways,
`probes.py`). `rounds.py` runs them in turns, `results.py` reads the numbers and compares them with others, `table.py`,
`svg.py` and `report.py` show them.

What is measured where nothing else is said: an echo of ``{"n": i}``, one client process, one server process, one broker
on the same machine.

- Ours, with everything that is on by default: confirms and mandatory on both sides, JSON-RPC, deadlines, batches; first
  without policies, then each case again with the default chain of them, compared with itself. The server runs with
  ``concurrency=256`` and an ``async def`` handler. "batching off" is ``batching=None`` on both sides.
- A is `patterns.JsonRPC` of aio-pika, as its documentation has it, with 64 calls in flight. Confirms are on: its
  default.
- P is the loop of RabbitMQ's tutorial 6 with pika's BlockingConnection in both processes: no confirms, automatic acks
  of replies, acks of requests. Its client keeps 64 calls in flight, and its server prefetches 256 (the tutorial's own 1
  is slower). P1 is the tutorial as it stands, one call at a time.
- F is FastStream's `broker.request`, O is oslo.messaging with its rabbit driver and threads, N is nameko with ten
  workers and `call_async`: each in a virtual environment of its own (`peers/environments.py`), made when it is first
  needed.

The parties take turns: each round runs every peer and every case of ours once, each in processes of its own that have
made 200 calls before the clock starts. A ratio is taken within its round, then the median of the rounds; the spread is
the least and the greatest. A call that gets a wrong answer ends the benchmark. Targets that are missed say so.

AsyncClient, our server and aio-pika run on asyncio's own loop, unless ``--loop uvloop``. `Client` brings its own I/O
loop: uvloop's, where it is installed, as it is with the extra `bench`. The broker is named by ``--broker``, or found
or started as the tests do it; one that is started here has all of its schedulers, as in production.

Other commands: `memory` (100,000 calls that wait), `soak` (memory over 1,000,000 calls), `idle` (processor time of a
client and a server without work), `overhead` (microseconds a call of the parts that need no broker), `policies`
(microseconds a call of each policy, beside naive use of tenacity, stamina, pybreaker and nopanic), `store` (idempotency
records in Redis, beside AWS Lambda Powertools, which gets a virtual environment of its own when it is first needed).
"""
