"""The ComfyUI node pack: drop this folder into `custom_nodes`. Importing it does nothing and needs no ComfyUI."""

WEB_DIRECTORY = "./web"  # the help pages


async def comfy_entrypoint() -> object:
    """The pack's nodes; ComfyUI calls this once, after the import."""
    from .nodes.extension import DepthFMExtension

    return DepthFMExtension()
