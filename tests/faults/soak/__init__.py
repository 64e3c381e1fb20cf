"""A soak: keyed calls from all sides while servers, broker, Redis and their links fail, and an account of it.

`python -m tests.faults.soak --minutes 5 --seed 1`, or `make soak MINUTES=5`. What happens when is drawn from the seed
(`schedule`); `strikes` carries it out on a RabbitMQ, a Redis and server processes of our own. The handlers write what
they do into a file (`ledger`), the clients what they were told (`callers`), and `accounting` compares the two.

An effect whose record Redis does not have yet can be done again: when its server is killed, when a frozen server
outlives its lease, when Redis is away at that moment. This is the one window, and every double effect has to prove that
it fell into it: see `accounting`.
"""
