"""Zero-shot evaluation: metrics, the benchmarks' protocol, baselines, reports.

`metrics`, `boundaries` and `uncertainty` judge one image at a time and average nothing over images; `protocol` says how
a data set is read and cut; `baselines` are the compared methods; `run` measures, `report` tells.
"""
