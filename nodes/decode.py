"""The node that makes depth of latents which core's samplers have sampled."""

from comfy_api.latest import io

from ..depthfm_core.flow import REDUCTIONS
from . import decoding
from .sample import depth_outputs, depth_sockets, reduction_widget
from .sockets import CATEGORY, schema
from .widgets import validated


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
            ],
            outputs=depth_sockets(
                "How far the ensemble's members disagree, in log depth (0.1 is about 10 %, clipped at 1), not scaled "
                "to the expected error as the DepthFM Sampler's is; black for an ensemble of one."
            ),
        )

    @classmethod
    def validate_inputs(cls, reduction: str | None = None) -> bool | str:
        """True, or what the menu offers instead."""
        return validated({"reduction": (reduction, REDUCTIONS)})

    @classmethod
    def execute(cls, samples: dict, vae: object, ensemble_size: int, reduction: str) -> io.NodeOutput:
        """Decodes latent by latent."""
        depth = decoding.decode(samples["samples"], vae, ensemble_size, reduction)
        return io.NodeOutput(*depth_outputs(depth))
