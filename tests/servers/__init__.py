"""Real servers for the tests.

A server is looked for in this order, by `choose`:

1. the environment: `RESILIENT_RPC_TEST_AMQP_URL`, `RESILIENT_RPC_TEST_REDIS_URL` (shared servers only: we do not
   kill what is not ours);
2. local binaries, started on private ports with their data in a temporary folder (`rabbitmq`, `redis`);
3. docker, with pinned images (`containers`).

With none of them the tests fail; they never skip. `python -m tests.servers.install` installs the binaries on Debian.
"""
