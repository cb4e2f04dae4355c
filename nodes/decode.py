"""The node that makes depth of latents which core's samplers have sampled."""

import comfy.utils
import torch
from comfy_api.latest import io

from ..depthfm_core.flow import REDUCTIONS
from . import decoding
from .convert import channels_first
from .sample import DEFAULT_EDGES, EDGES, depth_outputs, depth_sockets, edges_widget, reduction_widget
from .sockets import CATEGORY, schema
from .widgets import unknown_choice, validated


class DepthFMDecode(io.ComfyNode):
    """LATENT to depth."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the front end shows."""
        return schema(
            node_id="DepthFM_Decode",
            display_name="DepthFM Decode",
            category=CATEGORY,
            description="Depth from the latent that a KSampler made with DepthFM's MODEL. VAE Decode would clip it.",
            search_aliases=["depth", "latent to depth", "vae decode depth", "depthfm"],
            inputs=[
                io.Latent.Input(
                    "samples",
                    tooltip="From KSampler with DepthFM's MODEL and CONDITIONING: euler, simple, cfg 1, denoise 1, on "
                    "the VAE Encode of a picture.",
                ),
                io.Vae.Input("vae", tooltip="The VAE that encoded the picture: the loader's own for 'nano'."),
                io.Int.Input(
                    "ensemble_size",
                    default=1,
                    min=1,
                    max=100,
                    tooltip="How often each image was sampled: the amount of Repeat Latent Batch before KSampler. From "
                    "2 on there is an uncertainty.",
                ),
                reduction_widget(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The image that went into VAE Encode, or the one that it was scaled from: the depth gets "
                    "its size, and 'edges' its edges. As many as were encoded, or one for all.",
                ),
                edges_widget(" Needs an image; 'auto' knows the model by the loader's VAE and no other."),
            ],
            outputs=depth_sockets(
                "How far the ensemble's members disagree, in units of the network's log depth, in which an image's "
                "whole range is about 2 (0.1 is a twentieth of it; clipped at 1), not scaled to the expected error as "
                "the DepthFM Sampler's is; black for an ensemble of one."
            ),
        )

    @classmethod
    def validate_inputs(cls, reduction: str | None = None, edges: str | None = None) -> bool | str:
        """True, or what the menu offers instead."""
        return validated({"reduction": (reduction, REDUCTIONS), "edges": (edges, EDGES)})

    @classmethod
    def execute(
        cls,
        samples: dict,
        vae: object,
        ensemble_size: int,
        reduction: str,
        image: torch.Tensor | None = None,
        edges: str = DEFAULT_EDGES,
    ) -> io.NodeOutput:
        """Decodes latent by latent."""
        if unknown := unknown_choice({"edges": (edges, EDGES)}):  # it may come by a link
            raise ValueError(unknown)
        pictures = None if image is None else channels_first(image)
        latent = samples["samples"]
        bar = comfy.utils.ProgressBar(len(latent) + len(latent) // ensemble_size)  # decoded, and made into pictures
        depth = decoding.decode(latent, vae, ensemble_size, reduction, pictures, EDGES[edges], bar)
        return io.NodeOutput(*depth_outputs(depth, bar))
