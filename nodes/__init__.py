"""ComfyUI nodes: thin adapters to `depthfm_core`.

In reading order: `load`, `sample`, `views` (the nodes), `runtime` (memory, progress, cancel), `vae` (the VAE on the
socket), `model_files` (which files are offered), `convert` (layouts), `sockets` (types), `extension` (list of nodes).
"""
