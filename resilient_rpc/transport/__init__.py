"""The way of a message: transports behind one port, and the links, batches and deadlines that stand above them."""
