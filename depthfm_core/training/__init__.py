"""Training: an autoencoder, latents ahead, flow matching, and the one file that comes of it.

In reading order: `recipe` (one TOML file), `stages` (their order), `results` (what they made), `places` (and where),
`inputs`, `recipe_warnings`, `record` and `trained_on` (what is checked before); `sources`, `held_out`, `frames`,
`stream` (pictures with depth), `target`, `augment`, `effects`, `views`, `batched_views` (what the networks see of
them), `teacher` (depth for photographs); `latents`, `precompute`, `shards`, `streamed` (as latents); `autoencoder`,
`thumbnail`, `scaling`; `velocity`, `objective`, `losses`, `normal_loss` (what is minimized), `first_weights`, `prior`,
`null_text`, `lora` (of what network); `loop`, `engine`, `state` (a step, processes, resuming), `watch`, `validation`
(what is shown); `calibration`, `export`. The folder `ablation` repeats the paper's ablations, small.
"""
