"""Compared methods of `transformers`: tiny random networks of the real classes, saved and loaded as published ones."""

import json

import pytest
import torch

from depthfm_core.evaluation.baselines import METHODS, MethodOptions, load_method

transformers = pytest.importorskip("transformers")
pytest.importorskip("torchvision")

VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "out_indices": [1, 2, 3, 4],
    "reshape_hidden_states": False,
}
HEAD = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 8}


def dinov2():
    return transformers.Dinov2Config(**VIT, image_size=28, patch_size=14, apply_layernorm=True)


def depth_anything(**extra):
    config = transformers.DepthAnythingConfig(
        backbone_config=dinov2(), reassemble_hidden_size=32, **HEAD, head_hidden_size=8, **extra
    )
    sizes = {"size": {"height": 28, "width": 28}, "keep_aspect_ratio": True, "ensure_multiple_of": 14}
    return transformers.DepthAnythingForDepthEstimation(config), transformers.DPTImageProcessor(**sizes)


def dpt():
    config = transformers.DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        **HEAD,
    )
    return transformers.DPTForDepthEstimation(config), transformers.DPTImageProcessor(size={"height": 64, "width": 64})


def zoedepth():
    backbone = transformers.BeitConfig(**VIT, intermediate_size=32, image_size=64, use_relative_position_bias=True)
    config = transformers.ZoeDepthConfig(
        backbone_config=backbone,
        **HEAD,
        bottleneck_features=8,
        num_relative_features=8,
        patch_transformer_hidden_size=16,
        patch_transformer_intermediate_size=16,
        patch_transformer_num_attention_heads=2,
        num_attractors=[4, 2, 2, 2],
        bin_embedding_dim=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
    )
    sizes = {"size": {"height": 64, "width": 64}}
    return transformers.ZoeDepthForDepthEstimation(config), transformers.ZoeDepthImageProcessor(**sizes)


def depth_pro():
    vit = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    vit |= {"model_type": "dinov2", "patch_size": 4, "image_size": 16, "use_mask_token": False}
    config = transformers.DepthProConfig(
        image_model_config=vit,
        patch_model_config=vit,
        fov_model_config=vit,
        patch_size=16,
        fusion_hidden_size=16,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.2],
        scaled_images_feature_dims=[16, 16],
        num_fov_head_layers=1,
        use_fov_model=True,
    )
    sizes = {"size": {"height": 32, "width": 32}}
    return transformers.DepthProForDepthEstimation(config), transformers.DepthProImageProcessor(**sizes)


# Method -> what makes its network, what it gives, how often the network runs.
CASES = {
    "dpt-large": (dpt, "disparity", 1),
    "depth-anything": (depth_anything, "disparity", 1),
    "depth-anything-v2": (depth_anything, "disparity", 1),
    "depth-anything-v2-indoor": (
        lambda: depth_anything(depth_estimation_type="metric", max_depth=20),
        "depth_m",
        1,
    ),
    "zoedepth": (zoedepth, "depth_m", 2),
    "depth-pro": (depth_pro, "depth_m", 1),
}


@pytest.fixture
def image():
    return torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))


def save(make, folder):
    torch.manual_seed(0)
    model, processor = make()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)  # the library's own 0.02 makes nearly constant maps
        if parameter.ndim == 4 and len(parameter) == 1:  # makes the map, of what is not negative
            parameter.data.abs_()  # else the ReLU after it leaves nothing but zeros of some draws
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model.eval(), processor


@pytest.mark.parametrize("name", CASES)
def test_a_saved_network_is_loaded_and_gives_a_map_of_the_images_size(name, tmp_path, image):
    make, gives, calls = CASES[name]
    save(make, tmp_path)
    method = load_method(f"{name}={tmp_path}")
    found = method(image)
    assert found.shape == (1, 1, 40, 60) and found.std() > 1e-3 * found.mean()
    assert method.gives == gives == METHODS[name].gives
    assert method.num_calls == calls
    assert torch.equal(method(image), found)


@pytest.mark.parametrize(("name", "make"), [("dpt-large", dpt), ("depth-anything-v2", depth_anything)])
def test_the_map_is_the_librarys_own_for_the_same_picture(name, make, tmp_path, image):
    from PIL import Image

    model, processor = save(make, tmp_path)
    pixels = (image[0] * 255).round().byte()
    inputs = processor(images=Image.fromarray(pixels.permute(1, 2, 0).numpy()), return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    expected = processor.post_process_depth_estimation(outputs, target_sizes=[(40, 60)])[0]["predicted_depth"]
    assert torch.allclose(load_method(f"{name}={tmp_path}")(image)[0, 0], expected, atol=1e-5)


def test_zoedepth_averages_a_picture_and_its_mirror_image(tmp_path, image):
    model, processor = save(zoedepth, tmp_path)
    found = load_method(f"zoedepth={tmp_path}")

    def alone(picture):
        pixels = processor(images=(picture[0] * 255).round().byte(), return_tensors="pt")
        size = {"source_sizes": [(40, 60)], "target_sizes": [(40, 60)]}
        with torch.no_grad():
            return processor.post_process_depth_estimation(model(**pixels), **size)[0]["predicted_depth"]

    one, mirrored = alone(image), alone(image.flip(-1)).flip(-1)
    assert (found(image)[0, 0] - (one + mirrored) / 2).abs().max() < 0.05 * (one - mirrored).abs().max()


@pytest.mark.parametrize("name", ["dpt-large", "depth-anything", "zoedepth", "depth-pro"])
def test_weights_in_half_precision_give_the_map_that_they_give_in_single_precision(name, tmp_path, image):
    model, _ = save(CASES[name][0], tmp_path)
    found = []
    for cast in (model.half, model.float):  # the second time the same numbers
        cast().save_pretrained(tmp_path)
        method = load_method(f"{name}={tmp_path}")
        found.append(method(image))
    assert torch.allclose(*found, rtol=1e-5) and method.made_with["dtype"] == "float32"


def test_any_model_of_a_known_type_says_itself_what_it_gives(tmp_path):
    save(lambda: depth_anything(depth_estimation_type="metric", max_depth=80), tmp_path)
    assert load_method(f"transformers={tmp_path}").gives == "depth_m"


def test_missing_weights_are_answered_with_the_command_that_fetches_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="hf download Intel/dpt-large"):
        load_method(f"dpt-large={tmp_path / 'nowhere'}")


def test_a_network_of_another_kind_is_refused(tmp_path):
    config = {"model_type": "vit"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="is a vit; this loader knows dpt, depth_anything"):
        load_method(f"transformers={tmp_path}")


def test_weights_that_leave_a_part_of_the_network_random_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    save(depth_anything, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    lost = next(name for name in tensors if name.startswith("head."))
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks 1 tensors of the network, for example {lost}"):
        load_method(f"depth-anything={tmp_path}")


def test_the_device_is_taken(tmp_path):
    save(depth_anything, tmp_path)
    with pytest.raises((ValueError, RuntimeError), match="nonsense|device"):
        load_method(f"depth-anything={tmp_path}", MethodOptions(device="nonsense"))
