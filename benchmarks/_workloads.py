"""All workloads there are."""

from __future__ import annotations

from benchmarks._contest import Workload
from benchmarks._w1 import W1
from benchmarks._w2 import W2
from benchmarks._w3 import W3, W3_FEW, W3_TABLES
from benchmarks._w4 import W4
from benchmarks._w5 import W5
from benchmarks._w6 import W6
from benchmarks._w7 import W7

WORKLOADS = (W1, W2, W3, W3_FEW, W3_TABLES, W4, W5, W6, W7)


def workload(name: str) -> Workload:
    return next(one for one in WORKLOADS if one.name == name)
