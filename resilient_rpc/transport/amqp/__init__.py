"""The transport over RabbitMQ: pika for what is seldom, our own stream and codec for what is often."""

from resilient_rpc.transport.amqp.transport import AmqpTransport

__all__ = ["AmqpTransport"]
