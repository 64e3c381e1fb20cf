"""The plug-ins are tested with the servers of the core's own tests."""

pytest_plugins = ["tests.servers.fixtures"]
