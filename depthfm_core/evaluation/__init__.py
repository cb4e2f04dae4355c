"""Zero-shot evaluation: metrics, the benchmarks' protocol, baselines, reports."""
