"""How good a depth map is: `metrics` of depth, `boundaries` of its edges, `uncertainty` of an ensemble's spread.

All of them judge one image at a time and average nothing over images: that, and leaving out images without valid
pixels, is their caller's part.
"""
