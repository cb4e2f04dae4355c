"""How models come from files, for `comfyui_native_facts`: into which precision, on which device, and once more."""

from pathlib import Path

from comfyui_process import error_of, log_depth_of, relative, toy_model


def loader_facts(folder: Path) -> dict:
    """Precisions, devices and autoencoders of loaded files, and what the loader refuses."""
    import comfy.model_management as mm
    import torch
    from a_pack.depthfm_core.model.catalog import NANO_PATH
    from a_pack.nodes import native
    from a_pack.nodes.load import LoadDepthFMModel
    from a_pack.nodes.native import depthfm_of, load_model

    class Other:
        model = torch.nn.Identity()

    def computed(multiplies: bool) -> str:
        """What bfloat16 weights compute in on a CPU that multiplies bfloat16, and on one that does not."""
        native.cpu_multiplies_bfloat16 = lambda: multiplies
        model = toy_model(folder, "bfloat16").model
        return str(model.manual_cast_dtype or model.get_dtype())

    asked = native.cpu_multiplies_bfloat16
    bfloat16 = [computed(True), computed(False)]
    native.cpu_multiplies_bfloat16 = asked
    bare = toy_model(folder, codec=False)
    nano = load_model(NANO_PATH, "default", "plain")
    return {
        "dtypes": {name: str(toy_model(folder, name).model.get_dtype()) for name in ("default", "float16", "bfloat16")},
        "foreign": str(error_of(lambda: depthfm_of(Other()))),
        "bfloat16_computes_in": bfloat16,
        "bare_vae": bare.model.facts.vae,
        "nano_vae": type(nano.model.facts.vae).__name__,
        "linked_name": [LoadDepthFMModel.validate_inputs(None), LoadDepthFMModel.fingerprint_inputs(None, "a", "b")],
        "dtypes_where_the_files_tensors_are_taken": _dtypes_as_newer_versions_load(),
        "dtypes_where_linear_layers_take_the_files_tensors": _dtypes_as_newer_versions_load_for_compiling(),
        "devices": [str(nano.load_device) == str(mm.get_torch_device()), str(nano.model.device)],
    }


def _dtypes_as_newer_versions_load() -> list[str]:
    """Of a float16 file that is asked for in bfloat16, where a patcher says that it moves weights by itself."""
    import comfy.model_patcher
    from a_pack.depthfm_core.model.catalog import NANO_PATH
    from a_pack.nodes import native

    class Dynamic(comfy.model_patcher.ModelPatcher):
        def is_dynamic(self) -> bool:
            return True

    real, native._patcher_class = native._patcher_class, lambda: Dynamic
    model = native.load_model(NANO_PATH, "bfloat16", "plain").model
    native._patcher_class = real
    return sorted({str(parameter.dtype) for parameter in model.diffusion_model.parameters()})


def _dtypes_as_newer_versions_load_for_compiling() -> list[str]:
    """Of a float16 file that is asked for in bfloat16, where linear layers have no weights until they get the file's.

    Source: `comfy/ops.py` of ComfyUI 0.38, `disable_weight_init`, where weights are moved by themselves.
    """
    import comfy.ops
    import torch
    from a_pack.depthfm_core.model.catalog import NANO_PATH
    from a_pack.nodes.native import load_model

    linear = comfy.ops.disable_weight_init.Linear
    real = linear.__init__, linear._load_from_state_dict

    def init(self, in_features, out_features, bias=True, device=None, dtype=None):
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features, self.weight, self.bias = in_features, out_features, None, None

    def load(self, state_dict, prefix, *_rest):
        for name, tensor in state_dict.items():
            setattr(self, name[len(prefix) :], torch.nn.Parameter(tensor.clone(), requires_grad=False))

    linear.__init__, linear._load_from_state_dict = init, load
    model = load_model(NANO_PATH, "bfloat16", "plain", disable_dynamic=True).model
    linear.__init__, linear._load_from_state_dict = real
    return sorted({str(parameter.dtype) for parameter in model.diffusion_model.parameters()})


def loaded_again_facts(patcher) -> dict:
    """What newer versions do where dynamic VRAM cannot serve: they load the model again, as an ordinary one."""
    import comfy.model_patcher

    load, arguments = patcher.cached_patcher_init
    again = load(*arguments, disable_dynamic=True)
    return {
        "loaded_again": [
            type(again) is comfy.model_patcher.ModelPatcher,
            again.model is not patcher.model,
            again.model.facts is patcher.model.facts,
            relative(log_depth_of(again), log_depth_of(patcher)) < 1e-5,
        ],
        "autoencoders_loaded_again": [_autoencoder_loaded_again(vae) for vae in (patcher.model.facts.vae, _nano_vae())],
    }


def _nano_vae():
    from a_pack.depthfm_core.model.catalog import NANO_PATH
    from a_pack.nodes.native import load_model

    return load_model(NANO_PATH, "default", "plain").model.facts.vae


def _autoencoder_loaded_again(vae) -> list:
    """As newer versions do for another GPU: whether the network is another one, and how far off its decode is."""
    import torch

    load, arguments = vae.patcher.cached_patcher_init
    again, latent = load(*arguments).model, torch.randn(1, 4, 8, 8)
    first = vae.first_stage_model
    shared = {p.data_ptr() for p in first.parameters()} & {p.data_ptr() for p in again.parameters()}
    return [again is first or bool(shared), relative(again.decode(latent), first.decode(latent))]
