import pytest
import torch
from safetensors.torch import load_file

from depthfm_core.flow import cosine_alpha_bar, noise_source, sample_path

STEPS_IN_FILE = (1, 50, 200, 400, 600, 800, 999)


@pytest.fixture(scope="module")
def golden(golden_dir):
    return load_file(golden_dir / "depthfm-micro-heads8.safetensors")


def test_alpha_bar_equals_the_published_schedule(golden):
    ours = torch.tensor([cosine_alpha_bar(step) for step in STEPS_IN_FILE], dtype=torch.float64)
    torch.testing.assert_close(ours, golden["alpha_bar"], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("step", [50, 400])
def test_noised_source_equals_the_published_q_sample(golden, step):
    x_0 = noise_source(golden["z_image"], step, golden["noise"])
    torch.testing.assert_close(x_0, golden[f"q_sample_{step}"], rtol=1e-4, atol=1e-5)


def test_step_zero_adds_no_noise():
    latent, noise = torch.randn(2, 1, 4, 3, 3)
    assert torch.equal(noise_source(latent, 0, noise), latent)


def test_noising_keeps_unit_variance():
    latent, noise = torch.randn(2, 1, 4, 200, 200, generator=torch.Generator().manual_seed(0))
    assert noise_source(latent, 700, noise).std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("step", [-1, 1000])
def test_a_step_outside_the_schedule_is_refused(step):
    with pytest.raises(ValueError, match="noising_step"):
        cosine_alpha_bar(step)


def test_path_starts_at_the_source_ends_at_depth_and_moves_with_its_velocity():
    x_0, x_1 = torch.randn(2, 3, 4, 2, 5)
    t = torch.tensor([0.0, 0.25, 1.0])
    x_t, velocity = sample_path(x_0, x_1, t)
    torch.testing.assert_close(x_t[0], x_0[0])
    torch.testing.assert_close(x_t[2], x_1[2])
    later = sample_path(x_0, x_1, t + 0.5).x_t
    torch.testing.assert_close(later - x_t, 0.5 * velocity)
