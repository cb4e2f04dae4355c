import pytest
import torch

from depthfm_core.flow import REDUCTIONS, combine_members, ensemble, member_noise


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_members_noise_does_not_depend_on_the_ensembles_size():
    assert torch.equal(member_noise(7, 5, (4, 3, 6))[:2], member_noise(7, 2, (4, 3, 6)))


def test_members_and_seeds_differ():
    first, second = member_noise(7, 2, (4, 3, 6))
    assert not torch.equal(first, second)
    assert not torch.equal(first, member_noise(8, 1, (4, 3, 6))[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_noise_does_not_depend_on_pytorchs_defaults(dtype):
    expected = member_noise(0, 2, (4, 3, 6))
    usual = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with torch.device("meta"):
            noise = member_noise(0, 2, (4, 3, 6))
    finally:
        torch.set_default_dtype(usual)
    assert noise.dtype == torch.float32 and torch.equal(noise, expected)


def test_drawing_noise_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    member_noise(0, 2, (4, 2, 2))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("seed", "size", "word"), [(0, 0, "ensemble_size"), (-1, 1, "seed"), (2**64, 1, "seed")])
def test_impossible_ensembles_are_refused(seed, size, word):
    with pytest.raises(ValueError, match=word):
        member_noise(seed, size, (4, 2, 2))


def test_without_alignment_the_mean_and_deviation_are_the_plain_ones():
    members = draw(2, 5, 1, 6, 7)
    centre, spread = combine_members(members, "mean", align=False)
    torch.testing.assert_close(centre, members.mean(1))
    torch.testing.assert_close(spread, members.std(1))


@pytest.mark.parametrize("size", [4, 5])
def test_without_alignment_the_median_is_the_plain_one(size):
    members = draw(1, size, 1, 6, 7).double()
    centre, spread = combine_members(members, "median", align=False)
    expected = members.quantile(0.5, dim=1)
    torch.testing.assert_close(centre, expected)
    deviation = (members - expected[:, None]).abs().quantile(0.5, dim=1)
    torch.testing.assert_close(spread / deviation, (spread / deviation).mean().expand_as(spread))


@pytest.mark.parametrize("size", [*range(2, 11), 15])
def test_the_medians_spread_of_normal_noise_is_its_deviation_on_average(size):
    _, spread = combine_members(draw(1, size, 1, 200, 400), "median", align=False)
    assert spread.mean() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("reduction", ["mean", "median"])
def test_members_that_differ_by_scale_and_shift_only_agree_after_alignment(reduction):
    base = draw(1, 1, 1, 16, 16)
    scale = torch.tensor([0.5, 1.0, 1.5]).reshape(1, 3, 1, 1, 1)
    shift = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1, 1)  # 0 on average, and in the middle
    centre, spread = combine_members(base * scale + shift, reduction)
    assert spread.max() < 1e-5
    torch.testing.assert_close(centre, base[:, 0], rtol=1e-4, atol=1e-4)


def test_alignment_keeps_the_range_of_the_ensemble():
    members = draw(1, 1, 1, 32, 32) + 0.3 * draw(1, 6, 1, 32, 32, seed=1)
    centre, spread = combine_members(members)
    assert centre.std() == pytest.approx(members.mean(1).std().item(), rel=1e-4)
    assert spread.mean() == pytest.approx(0.3, rel=0.15)


def test_the_median_ignores_one_wild_member():
    members = draw(1, 1, 1, 8, 8).repeat(1, 5, 1, 1, 1)
    members[:, 3] += 10 * draw(1, 1, 8, 8, seed=2)
    centre, _ = combine_members(members, "median", align=False)
    assert torch.equal(centre, members[:, 0])


@pytest.mark.parametrize("wild", [lambda shape: 3 * shape + 1, lambda shape: 30 * shape - 10], ids=["3x+1", "30x-10"])
def test_one_wild_member_moves_neither_range_nor_level_of_the_median(wild):
    shape = draw(1, 1, 1, 32, 32)
    good = shape + 0.01 * draw(1, 6, 1, 32, 32, seed=1)
    alone, _ = combine_members(good, "median")
    centre, _ = combine_members(torch.cat([good, wild(shape.flip(-1))], 1), "median")
    assert centre.std() == pytest.approx(alone.std().item(), rel=0.05)
    assert centre.mean() == pytest.approx(alone.mean().item(), abs=0.02)


def test_one_member_is_its_own_answer_with_no_spread():
    members = draw(3, 1, 1, 4, 4)
    centre, spread = combine_members(members)
    assert torch.equal(centre, members[:, 0]) and not spread.any()


def test_constant_members_stay_finite():
    centre, spread = combine_members(torch.ones(1, 3, 1, 4, 4) * torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1, 1))
    torch.testing.assert_close(centre, torch.full((1, 1, 4, 4), 2.0))
    assert spread.isfinite().all()


def test_contradicting_members_have_a_large_spread():
    base = draw(1, 1, 1, 8, 8)
    centre, spread = combine_members(torch.cat([base, -base], 1))
    assert centre.abs().max() < 1e-5
    assert spread.mean() > base.abs().mean()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("members", [(1.0, -0.5), (1.0, 1.0, -1.0), (1.0, 1.0, 1.0, -2.0), (1.0, 1.0, 1.0, 1.0, -1.5)])
def test_where_a_member_contradicts_the_others_they_are_combined_as_they_are(members, reduction):
    shape = draw(1, 1, 8, 8)
    stacked = torch.stack([factor * (shape - shape.mean()) for factor in members], dim=1)
    for aligned, plain in zip(*(combine_members(stacked, reduction, align=a) for a in (True, False)), strict=True):
        torch.testing.assert_close(aligned, plain, rtol=0, atol=1e-5)


def test_each_image_of_a_batch_is_combined_alone():
    members = draw(3, 4, 1, 5, 5)
    together = combine_members(members)
    alone = combine_members(members[1:2])
    torch.testing.assert_close(together[0][1:2], alone[0])
    torch.testing.assert_close(together[1][1:2], alone[1])


def test_an_unknown_reduction_or_shape_is_refused():
    with pytest.raises(ValueError, match="mean, median"):
        combine_members(torch.zeros(1, 2, 1, 2, 2), "max")
    with pytest.raises(ValueError, match="expected"):
        combine_members(torch.zeros(2, 1, 2, 2))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_large_maps_are_combined_strip_by_strip_to_the_same(reduction, monkeypatch):
    members = torch.randn(2, 5, 1, 7, 6, generator=torch.Generator().manual_seed(0))
    expected = combine_members(members, reduction)
    for values_at_once in (1, 130):  # a row at a time, two rows at a time
        monkeypatch.setattr(ensemble, "_VALUES_AT_ONCE", values_at_once)
        for found, whole in zip(combine_members(members, reduction), expected, strict=True):
            torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("alike", "unlike", "aligned"), [(10, 300, False), (20, 100, True)])
def test_members_that_share_less_than_a_tenth_are_combined_as_they_are(alike, unlike, aligned):
    """Some members are one map, and each of the others one of its own, unlike all: their mean is 0.06 or 0.19 wide."""
    maps = draw(20 * 20, 1 + unlike)
    shapes = torch.linalg.qr(maps - maps.mean(0))[0].T.reshape(-1, 1, 20, 20)
    members = torch.cat([shapes[:1].expand(alike, -1, -1, -1), shapes[1:]])[None]
    centre, plain = (combine_members(members, align=align)[0] for align in (True, False))
    assert torch.allclose(centre, plain, rtol=0, atol=1e-5) is not aligned
