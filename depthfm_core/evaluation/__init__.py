"""Zero-shot evaluation: metrics, the benchmarks, the compared methods and the report."""
