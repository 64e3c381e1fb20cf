"""What every test may ask for; the fixtures stand in the plug-ins named here."""

pytest_plugins = [
    "resilient_rpc.testing.pytest_plugin",  # not as everywhere, by its entry point: see pyproject.toml
    "tests.budgets",
    "tests.colours",
    "tests.runtimes",
    "tests.servers.fixtures",
]
