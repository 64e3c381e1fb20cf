"""P: the loop of RabbitMQ's tutorial 6, with pika's BlockingConnection."""

from __future__ import annotations

import itertools
import json
import time
from argparse import Namespace
from typing import Any

import pika

from benchmarks.drive import WARM_UP, check, report, say


def server(options: Namespace) -> None:
    channel = pika.BlockingConnection(pika.URLParameters(options.url)).channel()
    queue = f"{options.service}.tutorial"
    channel.queue_declare(queue=queue, auto_delete=True)

    def on_request(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        channel.basic_publish(
            exchange="",
            routing_key=properties.reply_to,
            properties=pika.BasicProperties(correlation_id=properties.correlation_id),
            body=json.dumps(json.loads(body)).encode(),
        )
        channel.basic_ack(delivery_tag=method.delivery_tag)

    channel.basic_qos(prefetch_count=options.prefetch)
    channel.basic_consume(queue=queue, on_message_callback=on_request)
    say(event="ready")
    channel.start_consuming()


class TutorialClient:
    """The tutorial's FibonacciRpcClient, for any number of calls in flight."""

    def __init__(self, url: str, queue: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._queue = queue
        self._ids = itertools.count()
        self._sent: dict[str, tuple[int, float]] = {}
        self.laps: list[float] = []
        self._callback_queue = self._channel.queue_declare(queue="", exclusive=True).method.queue
        self._channel.basic_consume(queue=self._callback_queue, on_message_callback=self._on_response, auto_ack=True)

    def _on_response(self, _channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        number, begin = self._sent.pop(properties.correlation_id)
        check(json.loads(body), number)
        self.laps.append(time.perf_counter() - begin)

    def send(self, number: int) -> None:
        name = str(next(self._ids))
        self._sent[name] = number, time.perf_counter()
        self._channel.basic_publish(
            exchange="",
            routing_key=self._queue,
            properties=pika.BasicProperties(reply_to=self._callback_queue, correlation_id=name),
            body=json.dumps({"n": number}).encode(),
        )

    def run(self, window: int, go_on: Any) -> None:
        """Keep `window` calls in flight while `go_on()`, then wait for what is left."""
        number = 0
        while going := go_on():
            while len(self._sent) < window:
                number += 1
                self.send(number)
            self._connection.process_data_events(time_limit=None)
        while self._sent and not going:
            self._connection.process_data_events(time_limit=None)


def client(options: Namespace) -> None:
    rpc = TutorialClient(options.url, f"{options.service}.tutorial")
    rpc.run(options.window, lambda: len(rpc.laps) < WARM_UP)
    rpc.laps.clear()
    say(event="begin")
    cpu, begin = time.process_time(), time.perf_counter()
    end = begin + options.seconds
    rpc.run(options.window, lambda: time.perf_counter() < end)
    report(rpc.laps, time.perf_counter() - begin, time.process_time() - cpu)
