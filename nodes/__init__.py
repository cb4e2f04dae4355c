"""ComfyUI nodes: thin adapters to `depthfm_core`.

In reading order: the nodes in `load`, `sample`, `decode`, `from_image`, `views`, `controlnet`, `save`, `geometry`;
`native` and `model_sampling` (DepthFM as a model of ComfyUI, `attention` its numbers), `patches` (what counts of the
nodes between), `runtime` and `decoding` (memory, progress, cancel), `encoded` (the pictures of latents), `vae`
(ComfyUI's VAE as autoencoder, `vae_shapes` which one it can be), `memory` and `out_of_memory` (what is needed, and
when it is not there), `model_files` (which files are offered), `convert` (layouts), `frames` (one after the other),
`save_values` (what is written of them), `save_prefix` (under which name), `exr` (by which package), `widgets` and
`sockets` (inputs and types that nodes share), `replacements` (nodes of other packs that ours stand in for),
`extension` (list of nodes).
"""
