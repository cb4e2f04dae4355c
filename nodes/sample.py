"""The node that estimates depth."""

import comfy.utils
import torch
from comfy_api.latest import io

from ..depthfm_core.depth.controlnet import controlnet_image
from ..depthfm_core.depth.prediction import DepthPrediction, stored
from ..depthfm_core.flow import GRIDS, REDUCTIONS, SOLVERS
from ..depthfm_core.resize import MAX_SIDE_PX
from ..depthfm_core.settings import EstimationSettings
from . import runtime
from .convert import channels_first, mask_to_comfy
from .frames import picture_of_each
from .sockets import CATEGORY, DepthType, ModelType, schema
from .widgets import rarely_used, unknown_choice, validated

DEFAULTS = EstimationSettings()
MODELS_OWN = -1  # a widget has no None
NOISES = {"shared": False, "per frame": True}
EDGES = {"auto": None, "sharpened": True, "as estimated": False}
DEFAULT_EDGES = "auto"
NO_MASK_PX = (64, 64)  # as Load Image gives for a picture without alpha


class DepthFMSampler(io.ComfyNode):
    """IMAGE to depth, by following the flow from image to depth."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the front end shows."""
        return schema(
            node_id="DepthFM_Sampler",
            display_name="DepthFM Sampler",
            category=CATEGORY,
            description="Estimates depth from each image of a batch, at exactly the image's size.",
            search_aliases=["depth", "depth map", "depth estimation", "monocular depth", "depthfm", "controlnet depth"],
            inputs=[
                io.MultiType.Input(
                    "model",
                    types=[ModelType, io.Model],
                    tooltip="From Load DepthFM Model: its DEPTHFM_MODEL, or its MODEL behind LoRA or other patches.",
                ),
                io.Image.Input("image", tooltip="Any size, any number of frames, in color or gray. Alpha is ignored."),
                *_sampling_widgets(),
                *_ensemble_widgets(),
                io.Int.Input(
                    "processing_resolution",
                    default=MODELS_OWN,
                    min=MODELS_OWN,
                    max=MAX_SIDE_PX,
                    tooltip="Short side in pixels that the network sees; usual: 192 to 1024. -1 = the model's own, "
                    "which is the best for most images; 0 = the image's size. The result always has the image's size.",
                ),
                *_batch_widgets(),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="A Stable Diffusion 1.5 or 2.x VAE, for models that bring none, as the authors'; "
                    "'nano' takes no other than its own.",
                ),
                edges_widget(),
            ],
            outputs=depth_sockets(
                "How far the ensemble's members disagree, in units of the network's log depth, in which an image's "
                "whole range is about 2 (0.1 is a twentieth of it; clipped at 1), scaled to the error to expect where "
                "the model was measured for it, as 'nano'; black for an ensemble of one."
            ),
        )

    @classmethod
    def validate_inputs(
        cls,
        solver: str | None = None,
        grid: str | None = None,
        reduction: str | None = None,
        noise: str | None = None,
        edges: str | None = None,
    ) -> bool | str:
        """True, or what the menu offers instead."""
        menus = {
            "solver": (solver, SOLVERS),
            "grid": (grid, GRIDS),
            "reduction": (reduction, REDUCTIONS),
            "noise": (noise, NOISES),
            "edges": (edges, EDGES),
        }
        return validated(menus)

    @classmethod
    def execute(
        cls,
        model: runtime.ModelPatcher,
        image: torch.Tensor,
        seed: int,
        num_steps: int,
        solver: str,
        grid: str,
        ensemble_size: int,
        reduction: str,
        processing_resolution: int,
        noise: str,
        frames_at_once: int,
        vae: object | None = None,
        edges: str = DEFAULT_EDGES,
    ) -> io.NodeOutput:
        """Estimates group by group of frames."""
        if unknown := unknown_choice({"noise": (noise, NOISES), "edges": (edges, EDGES)}):  # they may come by a link
            raise ValueError(unknown)
        settings = EstimationSettings(
            seed=seed,
            noise_per_image=NOISES[noise],
            num_steps=num_steps,
            solver=solver,
            grid=grid,
            ensemble_size=ensemble_size,
            reduction=reduction,
            processing_resolution=None if processing_resolution == MODELS_OWN else processing_resolution,
            sharpen_edges=EDGES[edges],
        )
        frames = channels_first(image)
        progress = runtime.Progress(len(frames), settings)
        depth = runtime.estimate(model, frames, settings, vae, frames_at_once, progress)
        return io.NodeOutput(*depth_outputs(depth, progress.bar))


def depth_sockets(uncertainty: str) -> list[io.Output]:
    """The outputs of a node that estimates depth; `depth_outputs` fills them. `uncertainty` says what the mask is."""
    return [*picture_and_data_sockets(), io.Mask.Output(display_name="uncertainty", tooltip=uncertainty)]


def picture_and_data_sockets() -> list[io.Output]:
    """The outputs of every node that makes depth."""
    return [
        io.Image.Output(
            display_name="depth image",
            tooltip="Gray, near = white, each frame over its own range: to look at and for a depth ControlNet. For "
            "video use Depth to ControlNet Image with 'batch', or the grays flicker.",
        ),
        DepthType.Output(display_name="depth data", tooltip="Unrounded depth for the other DepthFM nodes."),
    ]


def depth_outputs(
    depth: DepthPrediction, bar: comfy.utils.ProgressBar
) -> tuple[torch.Tensor, DepthPrediction, torch.Tensor]:
    """What goes into `depth_sockets`; `bar` is the node's, of which one for each frame is left."""
    return picture_of_each(depth, controlnet_image, bar=bar), depth, _mask(depth.uncertainty)


def _mask(uncertainty: torch.Tensor) -> torch.Tensor:
    """MASK with memory of its own, since some nodes write into theirs; small and black where there is no ensemble."""
    known = stored(uncertainty).shape == uncertainty.shape
    return mask_to_comfy(uncertainty if known else uncertainty.new_zeros(len(uncertainty), 1, *NO_MASK_PX))


def reduction_widget() -> io.Input:
    """How the members of an ensemble become one."""
    return rarely_used(
        io.Combo.Input,
        "reduction",
        options=list(REDUCTIONS),
        default=DEFAULTS.reduction,
        tooltip="How the members are combined; 'median' ignores outliers. No effect on an ensemble of one.",
    )


def edges_widget(more: str = "") -> io.Input:
    """Whether edges are moved onto those of the image; `more` goes on in the tooltip."""
    return io.Combo.Input(
        "edges",
        options=list(EDGES),
        default=DEFAULT_EDGES,
        optional=True,  # graphs that were saved before it was there say nothing of it
        tooltip="'sharpened' moves the edges of the depth onto those of the image; 'as estimated' leaves them, which "
        "is calmer in video. 'auto' sharpens for models whose own resolution is below 256 pixels, as 'nano'." + more,
    )


def _sampling_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "seed",
            default=DEFAULTS.seed,
            min=0,
            max=2**64 - 1,
            control_after_generate=_seed_control(),
            tooltip="Chooses the noise; the same seed gives the same depth, in any batch. 'control after generate' on "
            "'fixed' keeps it, so that a run computes the depth only when something changes.",
        ),
        io.Int.Input(
            "num_steps",
            display_name="steps",
            default=DEFAULTS.num_steps,
            min=1,
            max=200,
            tooltip="Steps from image to depth. 1 is fastest; 2 to 4 are usual, and a little better.",
        ),
        io.Combo.Input(
            "solver",
            options=list(SOLVERS),
            default=DEFAULTS.solver,
            tooltip="'euler' asks the network once a step, 'midpoint', 'heun' and 'ralston' twice, 'rk4' four times. "
            "'ab2' is second order for one. 'dopri5' chooses its own steps until the error is small.",
        ),
        rarely_used(
            io.Combo.Input,
            "grid",
            display_name="step spacing",
            options=list(GRIDS),
            default=DEFAULTS.grid,
            tooltip="'uniform' steps, or 'rho': smaller ones towards the depth end. 'dopri5' ignores it.",
        ),
    ]


def _seed_control() -> object:
    """That the seed has a control, and that it begins on 'fixed' where ComfyUI can be told so (0.3.75 cannot)."""
    choices = getattr(io, "ControlAfterGenerate", None)
    return choices.fixed if choices else True


def _ensemble_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "ensemble_size",
            default=DEFAULTS.ensemble_size,
            min=1,
            max=100,
            tooltip="Runs from different noise that are combined. From 2 on there is an uncertainty.",
        ),
        reduction_widget(),
    ]


def _batch_widgets() -> list[io.Input]:
    return [
        io.Combo.Input(
            "noise",
            options=list(NOISES),
            default="shared",
            tooltip="'shared': all frames get the same noise, so that video flickers less. 'per frame': each its own, "
            "that of the seeds which follow.",
        ),
        rarely_used(
            io.Int.Input,
            "frames_at_once",
            default=0,
            min=0,
            max=4096,
            tooltip="At most so many frames share a network call; 0 = as many as memory allows. The depth is the same.",
        ),
    ]
