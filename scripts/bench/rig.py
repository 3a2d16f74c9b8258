"""What the benchmarks share: a daemon as its own process, a status writer, readings from /proc."""
