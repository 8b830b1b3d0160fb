"""How fast the runtime is next to its peers and to the limit: `python -m benchmarks`."""
