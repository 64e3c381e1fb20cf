"""What the tests of the core and of the plug-ins share: real servers, and Hypothesis on busy machines."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.parallel", "tests.servers.fixtures"]

# Time says nothing here: the first text that is generated builds tables of Unicode, which took 2.8 s in a fresh clone.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
