"""The tests; their folders mirror the package, `servers` starts what they talk to."""
