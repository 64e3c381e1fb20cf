"""What a message says: JSON-RPC 2.0 in JSON or MessagePack, within limits. Code here does no I/O."""
