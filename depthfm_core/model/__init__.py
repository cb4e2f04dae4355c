"""The two networks and their files.

In reading order: `hyperparameters`, `unet`, `parameterization` (the velocity network), `attention` (its two ways),
`autoencoders`, `codec`, `tiny_decoder` (the autoencoders), `codec_names`, `codec_parts` (what files hold of them);
`checkpoints`, `layouts`, `names`, `shapes`, `reading`, `catalog` (files of any layout, read safely),
`digest`, `fingerprint` (which weights they are),
`writing`; `precision`, `lean`, `winograd`, `compiling`, `pages` (fast and in little memory).
"""
