"""ComfyUI nodes: thin adapters to `depthfm_core`.

In reading order: `load`, `sample`, `decode`, `views` (the nodes), `native` (DepthFM as a model of ComfyUI), `runtime`
(memory, progress, cancel), `vae` (ComfyUI's VAE as autoencoder), `model_files` (which files are offered), `convert`
(layouts), `sockets` (types), `extension` (list of nodes).
"""
