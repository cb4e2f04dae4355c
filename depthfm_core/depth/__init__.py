"""A depth map and its views: each file here turns a `DepthPrediction`, or plain depth, into something to use.

In reading order: `prediction` (what the network says), `align` (to metres) and `inliers` (what it can fit to),
`edges` (onto those of the picture), `normalize` (to [0, 1] for display), `color`, `controlnet`, `points`, `normals`,
`smoothing` (of their slopes), `predicted_normals`, `ply`, `geometry` (pictures and geometry), `from_image` (pictures
back), `picture_decoding` and `files` (from and to disk).
"""
