"""Compared diffusion models: tiny random networks of the real classes in the published layouts."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from depthfm_core.evaluation.baselines import MethodOptions, load_method
from depthfm_core.evaluation.baselines.geowizard import JointAttention
from depthfm_core.resize import resize_long_side

transformers = pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("scipy")

WIDTH = 16
CLIP = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_attention_heads": 2, "num_hidden_layers": 1}


@pytest.fixture
def image():
    return torch.rand(1, 3, 20, 28, generator=torch.Generator().manual_seed(0))


def unet(in_channels, class_inputs=None):
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        in_channels=in_channels,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        use_linear_projection=True,
        class_embed_type="projection" if class_inputs else None,
        projection_class_embeddings_input_dim=class_inputs,
    )


def vae():
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return diffusers.AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, **blocks)


def text_parts(folder):
    """A text encoder, and a tokenizer of five words."""
    folder.mkdir(parents=True)
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "a</w>": 3, "!": 4}
    (folder / "vocab.json").write_text(json.dumps(words), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=8)
    config = transformers.CLIPTextConfig(
        **CLIP, vocab_size=5, max_position_embeddings=8, bos_token_id=0, eos_token_id=1
    )
    return transformers.CLIPTextModel(config), tokenizer


def save_marigold(folder, scheduler=diffusers.DDIMScheduler, kind="depth"):
    torch.manual_seed(0)
    text_encoder, tokenizer = text_parts(folder / "words")
    pipeline = diffusers.MarigoldDepthPipeline(
        unet(8), vae(), scheduler(), text_encoder, tokenizer, kind, True, True, 3, 32
    )
    pipeline.save_pretrained(folder / "model")
    return folder / "model"


def save_lotus(folder, in_channels):
    torch.manual_seed(0)
    text_encoder, tokenizer = text_parts(folder / "words")
    parts = {"unet": unet(in_channels, 4), "vae": vae(), "text_encoder": text_encoder, "tokenizer": tokenizer}
    for name, part in parts.items():
        part.save_pretrained(folder / "model" / name)
    return folder / "model"


def save_geowizard(folder):
    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(**CLIP, image_size=16, patch_size=8, projection_dim=WIDTH)
    parts = {
        "unet": unet(8, 10),
        "vae": vae(),
        "image_encoder": transformers.CLIPVisionModelWithProjection(vision),
        "feature_extractor": transformers.CLIPImageProcessor(crop_size={"height": 16, "width": 16}),
        "scheduler": diffusers.DDIMScheduler(),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    return folder


def test_marigold_gives_the_pipelines_map_and_counts_steps_times_members(tmp_path, image):
    folder = save_marigold(tmp_path)
    options = {"num_steps": 2, "ensemble_size": 3, "seed": 7, "processing_resolution": 0}
    method = load_method(f"marigold-v1-1={folder}", MethodOptions(**options))
    found = method(image)
    assert (method.gives, method.num_calls) == ("depth", 6)
    pipeline = diffusers.MarigoldDepthPipeline.from_pretrained(folder)
    noise = torch.Generator().manual_seed(7)
    settings = {"num_inference_steps": 2, "ensemble_size": 3, "processing_resolution": 0, "output_type": "pt"}
    assert torch.allclose(found, pipeline(image, generator=noise, **settings).prediction, atol=1e-5)


def test_every_option_of_marigold_changes_its_map(tmp_path, image):
    folder = save_marigold(tmp_path)
    plain = load_method(f"marigold-v1-1={folder}")
    assert plain(image).shape == (1, 1, 22, 32)  # long side 32: what the model's own file says
    assert plain.num_calls == 1
    native = load_method(f"marigold-v1-1={folder}", MethodOptions(processing_resolution=0))(image)
    assert native.shape == (1, 1, 20, 28)
    for change in ({"num_steps": 2}, {"seed": 1}, {"ensemble_size": 3}):
        changed = load_method(f"marigold-v1-1={folder}", MethodOptions(processing_resolution=0, **change))(image)
        assert not torch.allclose(changed, native, atol=1e-4)


def test_the_same_seed_gives_every_image_the_same_noise(tmp_path, image):
    method = load_method(f"marigold-v1-1={save_marigold(tmp_path)}")
    assert torch.equal(method(image), method(image))


def test_a_marigold_for_disparity_says_so(tmp_path):
    assert load_method(f"marigold-v1-1={save_marigold(tmp_path, kind='disparity')}").gives == "disparity"


def test_a_marigold_of_consistency_steps_runs_its_own_scheduler(tmp_path, image):
    method = load_method(f"marigold-lcm={save_marigold(tmp_path, diffusers.LCMScheduler)}")
    assert method(image).isfinite().all() and method.num_calls == 1


@pytest.mark.parametrize(("name", "in_channels"), [("lotus-g", 8), ("lotus-d", 4), ("lotus-g-v1", 8)])
def test_lotus_is_one_run_of_the_unet_told_to_predict(name, in_channels, tmp_path, image):
    folder = save_lotus(tmp_path, in_channels)
    method = load_method(f"{name}={folder}")
    found = method(image)
    assert found.shape == (1, 1, 20, 28) and method.num_calls == 1
    assert method.gives == ("depth" if name.endswith("v1") else "disparity")
    assert torch.allclose(found, lotus_by_hand(folder, image), atol=1e-5)


@torch.no_grad()
def lotus_by_hand(folder, image):
    """Lotus's inference spelled out: t = 999, task (1, 0) as sines and cosines, clipped to [0, 1]."""
    net = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    codec = diffusers.AutoencoderKL.from_pretrained(folder / "vae")
    encoder = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder")
    text = encoder(torch.tensor([[0, 1]]))[0]
    latent = codec.encode(image * 2 - 1).latent_dist.mean * codec.config.scaling_factor
    if net.config.in_channels == 8:
        latent = torch.cat([latent, torch.randn(latent.shape, generator=torch.Generator().manual_seed(1234))], 1)
    task = torch.tensor([[0.841470985, 0.0, 0.540302306, 1.0]])
    result = net(latent, torch.tensor(999), encoder_hidden_states=text, class_labels=task).sample
    return ((codec.decode(result / codec.config.scaling_factor).sample + 1) / 2).clip(0, 1).mean(1, keepdim=True)


def test_the_discriminative_lotus_takes_no_seed_and_the_generative_one_heeds_it(tmp_path, image):
    folder = save_lotus(tmp_path, 8)
    one, other = (load_method(f"lotus-g={folder}", MethodOptions(seed=seed))(image) for seed in (1, 2))
    assert not torch.equal(one, other)
    with pytest.raises(ValueError, match="lotus-d has no seed"):
        load_method(f"lotus-d={folder}", MethodOptions(seed=1))


def test_a_picture_of_odd_size_comes_back_at_the_size_that_was_asked_for(tmp_path):
    method = load_method(f"lotus-d={save_lotus(tmp_path, 4)}", MethodOptions(processing_resolution=31))
    odd = torch.rand(1, 3, 33, 62)
    assert method(odd).shape[-2:] == resize_long_side(odd, 31).shape[-2:] == (16, 31)


def test_geowizard_denoises_depth_beside_normals(tmp_path, image):
    folder = save_geowizard(tmp_path)
    options = {"num_steps": 2, "ensemble_size": 3, "processing_resolution": 24}
    method = load_method(f"geowizard={folder}", MethodOptions(**options))
    found = method(image)
    assert found.shape == (1, 1, 17, 24) and found.std() > 0
    assert (method.gives, method.num_calls) == ("depth", 2 * 2 * 3)


def test_every_option_of_geowizard_changes_its_map(tmp_path, image):
    folder = save_geowizard(tmp_path)
    options = {"num_steps": 1, "ensemble_size": 1, "processing_resolution": 0}
    plain = load_method(f"geowizard={folder}", MethodOptions(**options))(image)
    for change in ({"num_steps": 2}, {"ensemble_size": 2}, {"seed": 1}, {"domain": "outdoor"}):
        changed = load_method(f"geowizard={folder}", MethodOptions(**{**options, **change}))(image)
        assert not torch.allclose(changed, plain, atol=1e-6), change
    with pytest.raises(ValueError, match="'moon'; choose one of indoor, outdoor, object"):
        load_method(f"geowizard={folder}", MethodOptions(domain="moon"))


def test_geowizard_is_told_the_domain_of_each_image_unless_one_was_chosen_for_all(tmp_path, image):
    folder = save_geowizard(tmp_path)
    options = {"num_steps": 1, "ensemble_size": 1, "processing_resolution": 0}
    plain = load_method(f"geowizard={folder}", MethodOptions(**options))
    outdoor = load_method(f"geowizard={folder}", MethodOptions(**options, domain="outdoor"))
    assert torch.equal(plain(image, "outdoor"), outdoor(image))
    assert torch.equal(outdoor(image, "indoor"), outdoor(image))
    assert torch.equal(plain(image), plain(image, "indoor")) and not torch.equal(plain(image), outdoor(image))


def test_a_method_says_what_it_is_run_with_chosen_or_its_own(tmp_path):
    marigold = save_marigold(tmp_path / "marigold")
    own = {"num_steps": 50, "ensemble_size": 10, "seed": 1234, "processing_resolution": 32, "dtype": "float32"}
    assert load_method(f"marigold-v1-0={marigold}").made_with == own
    chosen = {"num_steps": 3, "ensemble_size": 2, "seed": 5, "processing_resolution": 0}
    found = load_method(f"marigold-v1-0={marigold}", MethodOptions(**chosen)).made_with
    assert found == chosen | {"processing_resolution": "of the picture", "dtype": "float32"}
    wizard = load_method(f"geowizard={save_geowizard(tmp_path / 'wizard')}").made_with
    assert wizard == {
        **{"num_steps": 10, "ensemble_size": 10, "seed": 1234},
        **{"processing_resolution": 768, "dtype": "float32", "domain": "indoor"},
    }
    lotus = load_method(f"lotus-g={save_lotus(tmp_path / 'lotus', 8)}").made_with
    assert lotus == {"processing_resolution": "of the picture", "dtype": "float32", "seed": 1234}


def rounded(folder, dtype):
    """Weights of every part that float16 can hold, saved in one precision or the other."""
    for file in folder.rglob("*.safetensors"):
        save_file({name: tensor.half().to(dtype) for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    for file in folder.rglob("config.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        named = config.keys() & {"dtype", "torch_dtype"}
        file.write_text(json.dumps(config | dict.fromkeys(named, str(dtype)[6:])), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "save", "options"),
    [
        ("marigold-v1-1", save_marigold, {}),
        ("lotus-d", lambda folder: save_lotus(folder, 4), {}),
        ("geowizard", save_geowizard, {"num_steps": 1, "ensemble_size": 1, "processing_resolution": 0}),
    ],
)
def test_weights_in_half_precision_give_the_map_that_they_give_in_single_precision(
    name, save, options, tmp_path, image
):
    found = [
        load_method(f"{name}={rounded(save(tmp_path / str(dtype)[6:]), dtype)}", MethodOptions(**options))(image)
        for dtype in (torch.float16, torch.float32)
    ]
    assert torch.allclose(*found, atol=1e-5)


@torch.no_grad()
def geowizard_by_hand(folder, image):
    """One step of one member, indoors: CLIP's embedding for a text, sines and cosines, the first half kept."""
    net = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    joint = {k: JointAttention() if "attn1" in k else v for k, v in net.attn_processors.items()}
    net.set_attn_processor(joint)
    codec = diffusers.AutoencoderKL.from_pretrained(folder / "vae")
    clip = transformers.CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
    extractor = transformers.CLIPImageProcessor.from_pretrained(folder / "feature_extractor")
    small = F.interpolate(image, (16, 16), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(values)[:, None, None] for values in (extractor.image_mean, extractor.image_std))
    embedding = clip((small - mean) / std).image_embeds[:, None].expand(2, 1, WIDTH)
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    s, c = one.sin(), one.cos()
    classes = torch.stack(
        [
            torch.stack([zero, s, one, c, s, zero, zero, c, one, one]),
            torch.stack([s, zero, c, one, s, zero, zero, c, one, one]),
        ]
    )
    latent = codec.encode(image * 2 - 1).latent_dist.mean * codec.config.scaling_factor
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(1234))
    scheduler = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(1)
    t = scheduler.timesteps[0]
    predicted = net(torch.cat([latent, noise], 1).repeat(2, 1, 1, 1), t, embedding, class_labels=classes).sample
    result = scheduler.step(predicted, t, noise.repeat(2, 1, 1, 1)).prev_sample[0:1]
    return (codec.decode(result / codec.config.scaling_factor).sample.mean(1, keepdim=True).clip(-1, 1) + 1) / 2


def test_geowizards_depth_is_the_first_half_of_the_denoised_batch(tmp_path, image):
    folder = save_geowizard(tmp_path)
    options = MethodOptions(num_steps=1, ensemble_size=1, processing_resolution=0)
    found = load_method(f"geowizard={folder}", options)(image)
    assert torch.allclose(found, geowizard_by_hand(folder, image), atol=1e-5)


def test_joint_attention_is_plain_attention_over_the_tokens_of_both():
    attention = diffusers.models.attention_processor.Attention(query_dim=8, heads=2, dim_head=4)
    tokens = torch.randn(2, 5, 8)
    found = JointAttention()(attention, tokens)
    both = torch.cat([tokens[0], tokens[1]])[None]
    assert torch.allclose(found, attention(tokens, encoder_hidden_states=both.repeat(2, 1, 1)), atol=1e-6)
    assert not torch.allclose(found, attention(tokens), atol=1e-3)


@pytest.mark.parametrize("name", ["marigold-v1-0", "lotus-g", "geowizard"])
def test_missing_weights_are_answered_with_the_command_that_fetches_them(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name} cannot be loaded from .*hf download "):
        load_method(f"{name}={tmp_path / 'nowhere'}")
