"""The loader node."""

from comfy_api.latest import io

from ..depthfm_core.model.unet import ATTENTIONS
from . import runtime
from .model_files import model_names, model_path
from .sockets import LOADER_CATEGORY, ModelType, schema


class LoadDepthFMModel(io.ComfyNode):
    """A DepthFM file to DEPTHFM_MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the front end shows."""
        return schema(
            node_id="DepthFM_LoadModel",
            display_name="Load DepthFM Model",
            category=LOADER_CATEGORY,
            description="Loads a DepthFM depth model. 'nano' comes with the pack and brings its own autoencoder.",
            search_aliases=["depth", "depth estimation", "depthfm", "monocular depth", "flow matching"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_names(),
                    display_name="model",
                    tooltip="'nano' is bundled. Others are read from models/depthfm, and from geometry_estimation, "
                    "checkpoints and diffusion_models where the file name contains 'depthfm'.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(runtime.WEIGHT_DTYPES),
                    default="default",
                    tooltip="'default' lets ComfyUI choose for your GPU. Half precision halves the network's memory. "
                    "The model's own autoencoder always runs in float32.",
                ),
                io.Combo.Input(
                    "attention",
                    options=list(ATTENTIONS),
                    default="plain",
                    tooltip="'plain' is the default. 'rescaled' gives the numbers of the authors' code when it runs "
                    "without xformers.",
                ),
            ],
            outputs=[ModelType.Output(display_name="DEPTHFM_MODEL", tooltip="For the DepthFM Sampler.")],
        )

    @classmethod
    def fingerprint_inputs(cls, model_name: str, weight_dtype: str, attention: str) -> tuple:
        """Changes when the file on disk does."""
        file = model_path(model_name).stat()
        return model_name, weight_dtype, attention, file.st_mtime_ns, file.st_size

    @classmethod
    def execute(cls, model_name: str, weight_dtype: str, attention: str) -> io.NodeOutput:
        """Reads the file."""
        return io.NodeOutput(runtime.load_model(model_path(model_name), weight_dtype, attention))
