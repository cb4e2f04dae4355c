"""A depth map and its views: each file here turns a `DepthPrediction`, or plain depth, into something to use.

In reading order: `prediction` (what the network says), `align` (to metres), `color`, `controlnet`, `points`,
`normals` (pictures and geometry), `files` (to and from disk).
"""
