"""Other ways to do RPC over RabbitMQ, each as its own documentation has it."""
