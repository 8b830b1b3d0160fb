"""All workloads there are."""

from __future__ import annotations

from benchmarks._contest import Workload
from benchmarks._w1 import W1
from benchmarks._w2 import W2
from benchmarks._w3 import W3
from benchmarks._w6 import W6

WORKLOADS = (W1, W2, W3, W6)


def workload(name: str) -> Workload:
    return next(one for one in WORKLOADS if one.name == name)
