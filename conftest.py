"""What the tests of the core and of the plug-ins share: real servers."""

pytest_plugins = ["tests.servers.fixtures"]
