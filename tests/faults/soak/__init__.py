"""A soak: calls from all sides while servers, broker, Redis, their links and messages fail, and an account of it.

`python -m tests.faults.soak --minutes 5 --seed 1`, or `make soak MINUTES=5`; `--links`, or `make soak-links`, has other
faults under other calls. The mechanism is one (`run`), and each of the two is a `mix`: `keyed`, `links`.

What happens when is drawn from the seed (`schedule`); the `storm` carries it out by the mix's `strikes`, on a RabbitMQ,
server processes and, for calls with keys, a Redis of our own. The handlers write what they do into a file (`ledger`),
the clients what they were told (`callers`), and `accounting` compares the two.

With keys, an effect whose record Redis does not have yet can be done again: when its server is killed, when a frozen
server outlives its lease, when Redis is away at that moment. This is the one window, and every double effect has to
prove that it fell into it: see `accounting`.
"""
