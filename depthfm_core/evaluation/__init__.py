"""Zero-shot evaluation: metrics, the benchmarks' protocol, baselines, reports.

`metrics`, `boundaries` and `uncertainty` judge one image at a time and average nothing over images; `protocol` says how
a data set is read and cut, `spaces` in what space a map is compared; `baselines` are the compared methods; `run`
measures (`memory` too), `table` keeps the scores of each image, `summary`, `report`, `pictures` and `published` tell;
`joined` makes one table of several reports.
"""
