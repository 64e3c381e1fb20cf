"""Inside a server: from a delivery to its calls, to a handler in a slot, to the reply, to the ack."""
