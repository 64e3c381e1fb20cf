"""The cache: a policy, its second level, and the decorator that gives both to a function of one's own."""

from __future__ import annotations

from resilient_rpc.policies.cache.decorator import Cached, cached
from resilient_rpc.policies.cache.events import CacheUsed
from resilient_rpc.policies.cache.policy import Cache
from resilient_rpc.policies.cache.redis_level import RedisCache

__all__ = ["Cache", "CacheUsed", "Cached", "RedisCache", "cached"]
