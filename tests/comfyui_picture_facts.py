"""Facts about DepthFM Decode with a picture; `comfyui_native_facts.py` answers with them."""

import math

from comfyui_process import error_of, image, relative

MENU = {"auto": None, "sharpened": True, "as estimated": False}


def sampled_latent(patcher, pictures, seed: int, sampler: str = "euler", steps: int = 2):
    """What core's VAE Encode and KSampler make of pictures [B, 3, H, W]."""
    import comfy.sample
    from einops import rearrange

    facts = patcher.model.facts
    latent = facts.vae.encode(rearrange(pictures, "b c h w -> b h w c"))
    noise, text = comfy.sample.prepare_noise(latent, seed), [[facts.source.null_text, {}]]
    return comfy.sample.sample(patcher, noise, steps, 1.0, sampler, "simple", text, text, latent, seed=seed)


def picture_facts(model) -> dict:
    """Depth at the size of pictures that were scaled, cut, or are not the ones."""
    return {**_against_the_sampler(), **_choice_facts(model), **_batch_facts(model), "cut": list(_cut_facts(model))}


def _against_the_sampler() -> dict:
    """nano, on a picture that is larger than what it sees."""
    from a_pack.depthfm_core.model.catalog import NANO_PATH
    from a_pack.depthfm_core.resize import shrink
    from a_pack.depthfm_core.settings import EstimationSettings
    from a_pack.nodes.decoding import decode
    from a_pack.nodes.native import load_model
    from a_pack.nodes.runtime import estimate

    nano, picture = load_model(NANO_PATH, "float32", "plain"), _blocks(280, 360)
    latent, vae = sampled_latent(nano, shrink(picture, (224, 288)), 5), nano.model.facts.vae
    found, differences = {}, {}
    for name, sharpen in MENU.items():
        found[name] = decode(latent, vae, 1, "mean", picture, sharpen)
        expected = estimate(nano, picture, EstimationSettings(seed=5, sharpen_edges=sharpen), None)
        pairs = zip(found[name].maps, expected.maps, strict=True)
        differences[name] = max((one - other).abs().max().item() for one, other in pairs)
    return {
        "picture_against_ours": differences,
        "picture_working_size": list(found["auto"].working_log_depth.shape),
        "sharpened_against_as_estimated": relative(found["sharpened"].log_depth, found["as estimated"].log_depth),
    }


def _choice_facts(model) -> dict:
    """Which of the others "auto" is, for the toy model, and for nano's VAE as Load VAE would give it."""
    import copy

    from a_pack.depthfm_core.model.catalog import NANO_PATH
    from a_pack.nodes.decoding import decode
    from a_pack.nodes.native import load_model

    latent, vae = _latents(1), load_model(NANO_PATH, "float32", "plain").model.facts.vae
    foreign = copy.copy(vae)
    del foreign.depthfm_resolution

    def auto(vae) -> str:
        depths = {name: decode(latent, vae, 1, "mean", _blocks(64, 64), how).log_depth for name, how in MENU.items()}
        return next(name for name in ("sharpened", "as estimated") if depths[name].equal(depths["auto"]))

    return {"auto_of_another_model": auto(model.model.facts.vae), "auto_of_a_foreign_vae": auto(foreign)}


def _batch_facts(model) -> dict:
    import torch
    from a_pack.nodes.decoding import decode

    vae, latent = model.model.facts.vae, _latents(2)
    one, other = _blocks(64, 64), _blocks(64, 64, seed=1)

    def depth(latent, pictures, members: int = 1):
        return decode(latent, vae, members, "mean", pictures, True).log_depth

    both, alone = depth(latent, torch.cat([one, other])), [depth(latent[:1], one), depth(latent[1:], other)]
    return {
        "each_its_own": relative(both, torch.cat(alone)),
        "one_picture_for_all": relative(depth(latent, one), depth(latent, torch.cat([one, one]))),
        "another_picture": relative(both, depth(latent, one)),
        "three_of_two": str(error_of(lambda: depth(torch.cat([latent, latent]), image(3), members=2))),
        "another_aspect": str(error_of(lambda: depth(latent, image()[..., :48, :]))),
        "not_a_number": str(error_of(lambda: depth(latent, one * math.nan))),
        "no_picture": str(error_of(lambda: depth(latent, None))),
    }


def _cut_facts(model):
    """Pictures whose sides are no multiples of 8, of which core's VAE Encode cuts off a rim."""
    import torch
    from a_pack.nodes.decoding import decode
    from a_pack.nodes.encoded import encoded_pictures

    vae = model.model.facts.vae
    for height, width in ((71, 64), (64, 69), (67, 71)):
        picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        kept = vae.vae_encode_crop_pixels(picture.movedim(1, -1)).movedim(-1, 1)
        cut = encoded_pictures(picture, 1, tuple(kept.shape[2:]), False)
        original = encoded_pictures(torch.zeros(1, 3, 3 * height, 3 * width), 1, tuple(kept.shape[2:]), False)
        left, _, top, _ = cut.margins
        window = (..., slice(top, top + kept.shape[2]), slice(left, left + kept.shape[3]))
        plain = decode(_latents(1), vae, 1, "mean").log_depth
        whole = decode(_latents(1), vae, 1, "mean", picture, False).log_depth
        yield {
            "vae_encode": kept.sum().item(),
            "cut": picture[window].sum().item(),
            "scaled_is_cut_alike": original.margins == cut.margins,
            "elsewhere": abs(picture[..., : kept.shape[2], : kept.shape[3]].sum() - kept.sum()).item(),
            "inside": relative(whole[window], plain),
            "range_of_the_rim": ((whole.amax() - whole.amin()) / (plain.amax() - plain.amin())).item(),
        }


def _latents(count: int):
    import torch

    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(count))


def _blocks(height: int, width: int, seed: int = 0):
    """A picture of squares of one color each."""
    import torch
    import torch.nn.functional as F

    colors = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(colors, (height, width), mode="nearest")
