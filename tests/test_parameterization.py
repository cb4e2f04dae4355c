"""Diff2Flow: a v-prediction network asked for velocities, against closed forms and diffusers' own noise schedule."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors import safe_open
from safetensors.torch import save_file

from depthfm_core.cli.info import describe
from depthfm_core.flow import sample_path
from depthfm_core.loading import load_pipeline
from depthfm_core.model.checkpoints import convert, load_checkpoint, save_checkpoint
from depthfm_core.model.codec import load_codec
from depthfm_core.model.codec_parts import codec_config, codec_tensors
from depthfm_core.model.parameterization import PARAMETERIZATIONS, diffusion_timestep
from depthfm_core.model.reading import CheckpointError
from depthfm_core.model.unet import DepthFMUNet
from depthfm_core.settings import EstimationSettings
from depthfm_core.training.export import export
from depthfm_core.training.lora import LoraSettings
from depthfm_core.training.losses import masked_velocity_loss
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.stages import run_recipe
from depthfm_core.training.velocity import build_network

from .sd_prior import HYPER
from .test_training_recipe import TOY, write_toy, write_toy_frames

ASK = PARAMETERIZATIONS["diff2flow"]
ENDS = (0.0640, 0.9717)  # shares of data of the noisiest and the cleanest timestep


@pytest.fixture(scope="module")
def alpha_bar():
    """Stable Diffusion's schedule as diffusers builds it, [1000] float64."""
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    return DDPMScheduler(num_train_timesteps=1000, **betas).alphas_cumprod.double()


def data_share(alpha_bar):
    return alpha_bar.sqrt() / (alpha_bar.sqrt() + (1 - alpha_bar).sqrt())


def at_timestep(alpha_bar, timestep):
    """alpha and sigma [B, 1, 1, 1] at fractional timesteps, alpha_bar linear between whole ones."""
    left = timestep.long().clamp(max=998)
    share = timestep - left
    between = (alpha_bar[left] * (1 - share) + alpha_bar[left + 1] * share)[:, None, None, None]
    return between.sqrt(), (1 - between).sqrt()


class Recording(torch.nn.Module):
    """In place of diffusers' UNet: notes what it is fed and answers by a function of it."""

    def __init__(self, answer=lambda sample, timestep: torch.zeros_like(sample[:, :4])):
        super().__init__()
        self.conv_in = torch.nn.Conv2d(8, 4, 1)  # in whose dtype the network computes
        self.answer = answer

    def forward(self, sample, timestep, **_text):
        self.sample, self.timestep = sample, timestep
        return SimpleNamespace(sample=self.answer(sample, timestep))


def network(parameterization, unet):
    whole = DepthFMUNet(HYPER, torch.zeros(1, 2, HYPER.context_dim), parameterization=parameterization)
    whole.unet = unet
    return whole


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_of_the_true_v_it_makes_the_true_velocity_at_all_times():
    t = torch.linspace(0, 1, 41, dtype=torch.float64)
    data, noise = random(2, 41, 4, 3, 3)
    radius = torch.hypot(t, 1 - t)
    alpha, sigma = (share[:, None, None, None] for share in (t / radius, (1 - t) / radius))
    path = sample_path(noise, data, t)
    torch.testing.assert_close(ASK.point(path.x_t, t), alpha * data + sigma * noise, rtol=0, atol=1e-12)
    velocity = ASK.velocity(alpha * noise - sigma * data, path.x_t, t)
    torch.testing.assert_close(velocity, data - noise, rtol=0, atol=1e-12)


def test_a_network_that_knows_only_the_timestep_makes_the_true_velocity(alpha_bar):
    t = torch.linspace(0.0641, 0.9716, 300, dtype=torch.float64)  # what Stable Diffusion's timesteps cover
    data, noise = random(2, 300, 4, 2, 2)
    alpha, sigma = at_timestep(alpha_bar, ASK.timestep(t))
    path = sample_path(noise, data, t)
    torch.testing.assert_close(ASK.point(path.x_t, t), alpha * data + sigma * noise, rtol=0, atol=2e-3)
    velocity = ASK.velocity(alpha * noise - sigma * data, path.x_t, t)
    torch.testing.assert_close(velocity, data - noise, rtol=0, atol=2e-3)  # alpha_bar and share bend between timesteps


def test_every_timestep_comes_back_from_its_share_of_data(alpha_bar):
    timesteps = diffusion_timestep(data_share(alpha_bar).float())
    torch.testing.assert_close(timesteps, torch.arange(1000.0), rtol=0, atol=1e-2)


def test_the_timestep_falls_with_time_and_stays_at_the_ends():
    t = torch.linspace(0, 1, 2001)
    timestep = diffusion_timestep(t)
    assert timestep.dtype == torch.float32 and (timestep.diff() <= 0).all()
    inside = (t > ENDS[0]) & (t < ENDS[1])
    assert (timestep[inside].diff() < 0).all()
    assert (timestep[t < ENDS[0]] == 999).all() and (timestep[t > ENDS[1] + 1e-4] == 0).all()


def test_the_timestep_has_a_value_for_each_image_of_a_batch_in_any_order():
    t = torch.tensor([0.9, 0.1, 0.5])
    assert torch.equal(diffusion_timestep(t), torch.cat([diffusion_timestep(one) for one in t.split(1)]))


def test_a_first_call_in_inference_mode_leaves_training_possible():
    with torch.inference_mode():
        diffusion_timestep(torch.tensor([0.3]))
    whole = build_network(HYPER, 2, seed=0, parameterization="diff2flow")
    x_t, image_latent = random(2, 1, 4, 8, 8, dtype=torch.float32)
    whole(x_t, torch.tensor([0.3]), image_latent).square().mean().backward()
    assert whole.unet.conv_in.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_the_network_is_fed_points_and_times_in_its_own_terms(parameterization):
    whole = network(parameterization, Recording())
    x_t, image_latent = random(2, 3, 4, 4, 4, dtype=torch.float32)
    t = torch.tensor([0.0, 0.5, 1.0])
    whole(x_t, t, image_latent)
    seen, scaled = whole.unet, parameterization == "diff2flow"
    assert torch.equal(seen.sample[:, 4:], image_latent)  # never scaled
    factors = torch.tensor([1.0, 2**0.5, 1.0] if scaled else [1.0, 1.0, 1.0])
    torch.testing.assert_close(seen.sample[:, :4], x_t * factors[:, None, None, None])
    assert seen.timestep.dtype == torch.float32
    assert seen.timestep.tolist() == (pytest.approx([999, 353.9, 0], abs=0.1) if scaled else [0.0, 0.5, 1.0])


def test_a_prior_that_knows_its_data_starts_at_the_least_loss_with_diff2flow_only(alpha_bar):
    """The option's point: Gaussian data of standard deviation 1/2, a prior that predicts its v as well as can be."""
    deviation = 0.5
    t = torch.rand(4096, generator=torch.Generator().manual_seed(1))
    data, noise = deviation * random(4096, 4, 2, 2, seed=2).float(), random(4096, 4, 2, 2, seed=3).float()
    path, valid = sample_path(noise, data, t), torch.ones(4096, 1, 2, 2, dtype=torch.bool)

    def predict_v(sample, timestep):
        alpha, sigma = (share.float() for share in at_timestep(alpha_bar, timestep))
        x = sample[:, :4]
        known = x / (alpha**2 * deviation**2 + sigma**2)  # the expected data and noise are shares of it
        return alpha * (sigma * known) - sigma * (alpha * deviation**2 * known)

    spread = (t * deviation) ** 2 + (1 - t) ** 2
    along = t * deviation**2 - (1 - t)  # covariance of velocity and x_t
    least = float((deviation**2 + 1 - along**2 / spread).mean())

    def loss(name):
        predicted = network(name, Recording(predict_v))(path.x_t, t, data)
        return float(masked_velocity_loss(predicted, path.velocity, valid))

    assert loss("diff2flow") == pytest.approx(least, rel=0.03)
    assert loss("depthfm") > deviation**2 + 1  # what a network that always says zero has


def diff2flow_checkpoint(golden_dir):
    checkpoint = load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt")
    codec = load_codec(golden_dir / "micro-vae-diffusers.safetensors")
    bundled = {"codec_tensors": codec_tensors(codec), "codec_config": codec_config(codec)}
    return replace(checkpoint, **bundled, parameterization="diff2flow")


def depth_of(model):
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    return load_pipeline(model)(image, EstimationSettings(processing_resolution=0)).log_depth


def test_the_parameterization_travels_in_our_files_through_convert_and_info(golden_dir, tmp_path):
    save_checkpoint(diff2flow_checkpoint(golden_dir), tmp_path / "a.safetensors", "float32")
    save_checkpoint(load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt"), tmp_path / "c.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "float32")
    facts = [describe(load_checkpoint(tmp_path / f"{name}.safetensors"))["parameterization"] for name in "abc"]
    assert facts == ["diff2flow", "diff2flow", "depthfm"]
    depth = depth_of(tmp_path / "a.safetensors")
    assert torch.equal(depth, depth_of(tmp_path / "b.safetensors"))
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        metadata = file.metadata() | {"parameterization": "depthfm"}
        save_file({name: file.get_tensor(name) for name in file.keys()}, tmp_path / "d.safetensors", metadata=metadata)  # noqa: SIM118
    assert not torch.allclose(depth, depth_of(tmp_path / "d.safetensors"), atol=1e-2)


def test_an_exported_network_estimates_what_it_did_before(golden_dir, tmp_path):
    codec = load_codec(golden_dir / "micro-vae-diffusers.safetensors")
    whole = build_network(HYPER, 2, seed=0, parameterization="diff2flow").eval()
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.copy_(parameter.half())  # as the file rounds it
    export(whole, codec, 400, 64, 1.0, tmp_path / "a.safetensors")
    pipeline = load_pipeline(tmp_path / "a.safetensors")
    x_t, image_latent, t = *random(2, 2, 4, 8, 8, dtype=torch.float32), torch.tensor([0.02, 0.6])
    with torch.no_grad():
        before, after = (one(x_t, t, image_latent) for one in (whole, pipeline.network))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


def test_a_file_of_an_unknown_parameterization_is_refused(golden_dir, tmp_path):
    checkpoint = load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt")
    tensors = dict(checkpoint.state_dict) | {"empty_text_embedding": checkpoint.null_text}
    metadata = {"ldm_hparams": json.dumps(checkpoint.hyper.to_ldm()), "parameterization": "edm"}
    save_file(tensors, tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match="'edm'; choose one of depthfm, diff2flow"):
        load_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="'edm'; choose one of depthfm, diff2flow"):
        build_network(HYPER, 2, seed=0, parameterization="edm")


def test_a_recipe_sets_the_parameterization_and_trains_it_with_lora(tmp_path):
    text = TOY.replace("[network]", '[network]\nparameterization = "diff2flow"')
    recipe = read_recipe(write_toy(tmp_path, text.replace("noising_step = 300", "lora = { rank = 2 }")))
    assert recipe.flow["second"].lora == LoraSettings(rank=2)
    write_toy_frames(tmp_path)
    run_recipe(recipe, tmp_path)
    model = tmp_path / "model.safetensors"
    assert load_checkpoint(model).parameterization == "diff2flow"
    assert load_pipeline(model)(torch.rand(1, 3, 32, 48)).depth.isfinite().all()
    with pytest.raises(ValueError, match="'edm'; choose one of depthfm, diff2flow"):
        read_recipe(write_toy(tmp_path, text.replace("diff2flow", "edm")))
