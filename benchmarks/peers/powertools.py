"""Idempotency of AWS Lambda Powertools over Redis: `python -m benchmarks.peers.powertools REDIS_URL SECONDS`.

Runs with the Python of an environment of its own. As its documentation has it for functions outside of Lambda: with the
time that is left registered, without the optional check of the payload and without the local cache. "64" is the better
of 8 and of 64 threads.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
import uuid
from typing import Any

from benchmarks.peers.pace import WARM_UP, by_threads

CROWDS = ((1, "1"), (8, "64"), (64, "64"))
"""Threads, and the case that they are of."""


class _Left:
    """What Lambda would say of the time that is left."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 30_000


def measure(url: str, seconds: float) -> dict[str, float]:
    """Calls a second, by case."""
    from aws_lambda_powertools.utilities.idempotency import (  # noqa: PLC0415 - in its own environment alone
        IdempotencyConfig,
        idempotent_function,
    )
    from aws_lambda_powertools.utilities.idempotency.exceptions import (  # noqa: PLC0415
        IdempotencyItemAlreadyExistsError,
    )
    from aws_lambda_powertools.utilities.idempotency.persistence.cache import (  # noqa: PLC0415
        CachePersistenceLayer,
    )

    logging.getLogger("aws_lambda_powertools").setLevel(logging.ERROR)
    run = uuid.uuid4().hex
    layer: Any = CachePersistenceLayer(url=url, ssl=False)
    config: Any = IdempotencyConfig(expires_after_seconds=3600)
    config.register_lambda_context(_Left())
    layer.configure(config, function_name="bench")

    def fresh(number: int) -> None:
        data = {"run": run, "n": number}
        layer.save_inprogress(data=data, remaining_time_in_millis=30_000)
        layer.save_success(data=data, result={"n": number})

    def replay(number: int) -> None:
        data = {"run": run, "n": number}
        try:
            layer.save_inprogress(data=data, remaining_time_in_millis=30_000)
        except IdempotencyItemAlreadyExistsError as error:
            record = error.old_data_record or layer.get_record(data)
        if record.response_json_as_dict() != {"n": number}:
            raise AssertionError(f"a wrong answer: {record.response_data!r}")

    @idempotent_function(data_keyword_argument="order", persistence_store=layer, config=config)
    def create(*, order: dict[str, Any]) -> dict[str, Any]:
        return {"n": order["n"]}

    def decorated(number: int) -> None:
        if create(order={"run": run, "n": number, "decorated": True}) != {"n": number}:
            raise AssertionError("a wrong answer")

    found: dict[str, float] = {}
    for number, (threads, name) in enumerate(CROWDS, 1):
        base = number * 10_000_000
        for kind, first, again in (("store", fresh, replay), ("function", decorated, decorated)):
            known = itertools.cycle(range(base, base + WARM_UP))
            for case, work, numbers in (("fresh", first, itertools.count(base)), ("replay", again, known)):
                rate = by_threads(work, numbers, seconds, threads)
                found[f"{kind} {case} {name}"] = max(rate, found.get(f"{kind} {case} {name}", 0.0))
    return found


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], float(sys.argv[2]))))
