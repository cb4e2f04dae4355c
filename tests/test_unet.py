from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from depthfm_core.flow import SOLVERS, integrate, noise_source
from depthfm_core.model.attention import ATTENTIONS, SelfAttention
from depthfm_core.model.checkpoints import load_checkpoint
from depthfm_core.model.hyperparameters import UNetHyperParameters, from_ldm, from_state_dict
from depthfm_core.model.names import diffusers_to_ldm, ldm_to_diffusers
from depthfm_core.model.parameterization import PARAMETERIZATIONS
from depthfm_core.model.unet import DepthFMUNet

HEADS = ("heads8", "headdim16")
TINY = UNetHyperParameters(32, (1, 2, 2), 2, (1, 4), 16, num_heads=4)


def relative_error(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


@pytest.fixture(scope="module", params=[(h, a) for h in HEADS for a in ATTENTIONS], ids="-".join)
def case(request, golden_dir):
    """A golden checkpoint's network, its reference numbers and the name of the attention."""
    heads, attention = request.param
    network = load_checkpoint(golden_dir / f"depthfm-micro-{heads}.ckpt").build_unet(attention)
    return network, load_file(golden_dir / f"depthfm-micro-{heads}.safetensors"), attention


def velocity_of(network, image_latent):
    return lambda x_t, t: network(x_t, torch.full((len(x_t),), t), image_latent)


@torch.no_grad()
@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 0.9])
def test_velocity_equals_the_authors(case, t):
    network, golden, attention = case
    z = golden["z_image"]
    velocity = network(z, torch.full((len(z),), t), z)
    assert relative_error(velocity, golden[f"velocity_{attention}_t{t}"]) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("num_steps", [1, 2, 4, 10])
def test_euler_trajectory_equals_the_authors(case, num_steps):
    network, golden, attention = case
    x_1, num_calls = integrate(velocity_of(network, golden["z_image"]), golden["z_image"], num_steps)
    assert relative_error(x_1, golden[f"euler_{attention}_steps{num_steps}"]) < 1e-4
    assert num_calls == num_steps


@torch.no_grad()
def test_intermediate_states_equal_the_authors(case):
    network, golden, attention = case
    states = [golden["z_image"]]
    velocity = velocity_of(network, golden["z_image"])
    integrate(velocity, states[0], 4, on_step=lambda progress: states.append(progress.x_t))
    expected = golden[f"euler_{attention}_steps4_intermediates3"]
    assert relative_error(torch.stack(states), expected) < 1e-4


@torch.no_grad()
def test_euler_from_the_noised_source_equals_the_authors(case):
    network, golden, attention = case
    x_0 = noise_source(golden["z_image"], 400, golden["noise"])
    x_1, _ = integrate(velocity_of(network, golden["z_image"]), x_0, 2)
    assert relative_error(x_1, golden[f"euler_{attention}_noised_steps2"]) < 1e-4


@pytest.fixture(scope="module")
def fine_end(case):
    """Where 48 calls of the case's network lead."""
    network, golden, _ = case
    z = golden["z_image"][:1]
    with torch.no_grad():
        return integrate(velocity_of(network, z), z, 24, "midpoint").x_1


@torch.no_grad()
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_follows_the_network_to_nearly_the_same_end(case, fine_end, solver):
    network, golden, _ = case
    z = golden["z_image"][:1]
    x_1 = integrate(velocity_of(network, z), z, 8, solver).x_1
    assert relative_error(x_1, fine_end) < (0.1 if solver == "euler" else 0.02)


@torch.no_grad()
def test_constant_text_gives_the_velocity_of_the_text_projections(golden_dir):
    checkpoint = load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt")
    whole = DepthFMUNet(checkpoint.hyper, checkpoint.null_text)
    whole.unet.load_state_dict(
        {k: v.float() for k, v in ldm_to_diffusers(checkpoint.state_dict, checkpoint.hyper).items()}
    )
    z, t = torch.randn(2, 4, 8, 8), torch.tensor([0.1, 0.7])
    before = whole(z, t, z)
    weights_before = sum(p.numel() for p in whole.parameters())
    whole.fix_null_text()
    torch.testing.assert_close(whole(z, t, z), before)
    assert sum(p.numel() for p in whole.parameters()) < weights_before


class Transfers(TorchDispatchMode):
    """Notes the operations for which a computer waits for its GPU: a number or truth of a tensor, and its shape."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        if name in ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "_to_copy"):
            copied_to = (kwargs or {}).get("device")
            if name != "_to_copy" or copied_to is not None:
                self.seen.append(name)
        return operation(*args, **(kwargs or {}))


@torch.no_grad()
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_steps_of_a_known_number_never_wait_for_the_device(golden_dir, solver, parameterization):
    checkpoint = load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt")
    network = replace(checkpoint, parameterization=parameterization).build_unet(dtype=torch.bfloat16)
    z = torch.zeros(1, 4, 8, 8)
    with Transfers() as transfers:
        integrate(lambda x_t, t: network(x_t, x_t.new_full((len(x_t),), t), z), z, 2, solver, rtol=9, atol=9)
    assert bool(transfers.seen) == (solver == "dopri5")  # the adaptive one has to look at its error


@torch.no_grad()
def test_a_batch_gives_what_its_images_give_alone(case):
    network, golden, _ = case
    z, t = golden["z_image"], torch.tensor([0.2, 0.8])
    alone = network(z[1:], t[1:], z[1:])
    torch.testing.assert_close(network(z, t, z)[1:], alone, rtol=1e-4, atol=1e-5)


def test_velocity_keeps_the_dtype_of_its_input_in_half_precision(golden_dir):
    network = load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt").build_unet(dtype=torch.bfloat16)
    with torch.no_grad():
        velocity = network(torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.zeros(1, 4, 8, 8))
    assert network.dtype == torch.bfloat16 and velocity.dtype == torch.float32


@pytest.mark.parametrize(
    "hyper", [TINY, UNetHyperParameters(64, (1, 2), 1, (1, 2), 8, num_heads=-1, num_head_channels=16)]
)
def test_names_go_to_ldm_and_back(hyper):
    own = DepthFMUNet(hyper, torch.zeros(1, 3, hyper.context_dim)).unet.state_dict()
    ldm = diffusers_to_ldm(own, hyper)
    assert all(
        name.startswith(("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "out.")) for name in ldm
    )
    back = ldm_to_diffusers(ldm, hyper)
    assert back.keys() == own.keys() and all(back[name] is own[name] for name in own)


def test_hyper_parameters_are_read_off_the_shapes():
    ldm = diffusers_to_ldm(DepthFMUNet(TINY, torch.zeros(1, 3, 16)).unet.state_dict(), TINY)
    inferred = from_state_dict(ldm)
    assert inferred == UNetHyperParameters(32, (1, 2, 2), 2, (1, 4), 16, num_heads=8)  # heads do not show in shapes


def test_published_hyper_parameters_survive_the_round_trip(published_hparams):
    hyper = from_ldm(published_hparams)
    assert hyper.heads == (8, 8, 8, 8) and hyper.attends == (True, True, True, False)
    assert from_ldm(hyper.to_ldm()) == hyper


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"num_heads": 7}, "7 heads"),
        ({"num_heads": 8, "num_head_channels": 64}, "num_head_channels"),
        ({"model_channels": 40}, "norm groups"),
        ({"colour": 1}, "colour"),
        ({"channel_mult": 2}, "channel_mult"),
        ({"channel_mult": [2, 4]}, "first entry"),
        ({"num_res_blocks": [1, 2]}, "num_res_blocks"),
        ({"use_spatial_transformer": False}, "use_spatial_transformer"),
    ],
)
def test_hyper_parameters_that_fit_no_network_are_refused(change, word):
    with pytest.raises(ValueError, match=word):
        from_ldm(TINY.to_ldm() | change)


def test_missing_hyper_parameters_are_named():
    with pytest.raises(ValueError, match="context_dim"):
        from_ldm({k: v for k, v in TINY.to_ldm().items() if k != "context_dim"})


def test_an_unknown_attention_or_a_foreign_text_is_refused():
    with pytest.raises(ValueError, match="plain, rescaled"):
        DepthFMUNet(TINY, torch.zeros(1, 3, 16), "flash")
    with pytest.raises(ValueError, match=r"\[1, L, 16\]"):
        DepthFMUNet(TINY, torch.zeros(1, 3, 24))


@pytest.mark.parametrize("rescaled", [False, True])
def test_logits_beyond_the_range_of_half_precision_are_scaled_before_they_are_rounded(rescaled, monkeypatch):
    """PyTorch's kernel for MPS rounds the product of query and key, then scales it and goes on in float32."""

    def as_on_mps(query, key, value, scale):
        logits = (query.float() @ key.float().mT).to(query.dtype).float()
        return (logits * scale).softmax(-1).to(value.dtype) @ value

    layer = Attention(64, heads=1, dim_head=64).half()
    for projection in (layer.to_q, layer.to_k):
        projection.weight.data = 64.0 * torch.eye(64).half()
    tokens = torch.randn(1, 12, 64, generator=torch.Generator().manual_seed(0)).half()
    assert 4096 * (tokens.float() @ tokens.float().mT).amax() > torch.finfo(torch.half).max
    attend = SelfAttention(rescaled)
    expected = attend(layer, tokens)
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", as_on_mps)
    assert torch.allclose(attend(layer, tokens), expected, atol=2e-3)
