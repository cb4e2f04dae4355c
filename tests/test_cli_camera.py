"""`predict` and the field of view: an option's, or else the photograph's own, or else 60 degrees."""

import pytest
from PIL import Image

WIDE_DEG, TURNED_DEG = 73.08532604119694, 54.32280834311816  # 24 mm on film: 52 x 36 pixels, and upright


@pytest.fixture
def taken(photo, tmp_path):
    """The photo as a camera with this focal length on 35 mm film would have written it."""

    def take(film_focal, orientation=1):
        exif = Image.Exif()
        exif[0x0112], exif[0x8769] = orientation, {0xA405: film_focal}
        path = tmp_path / f"{film_focal}-{orientation}" / photo.name
        path.parent.mkdir(exist_ok=True)
        Image.open(photo).save(path, exif=exif)
        return path

    return take


@pytest.fixture
def seen(saved, loaded):
    """The bytes of a picture's normals and points, which depend on the field of view, and the line on the picture."""

    def see(picture, *options):
        lines, errors, folder = saved("--save", "normals,ply", *options, inputs=(picture,))
        assert errors == ""
        return [(folder / f"photo{ending}").read_bytes() for ending in ("_normals.png", ".ply")], lines[-1]

    return see


@pytest.mark.parametrize(("orientation", "fov_deg"), [(1, WIDE_DEG), (6, TURNED_DEG)])
def test_a_photographs_own_field_of_view_is_taken_and_told(seen, taken, orientation, fov_deg):
    picture = taken(24, orientation)
    views, told = seen(picture)
    by_option, told_by_option = seen(picture, "--fov", str(fov_deg))
    usual, _ = seen(picture, "--fov", "60")
    assert views == by_option and all(view != other for view, other in zip(views, usual, strict=True))
    assert f", field of view {fov_deg:.1f} degrees by EXIF, " in told and "EXIF" not in told_by_option


@pytest.mark.parametrize("film_focal", [None, 0, 65535])
def test_without_a_usable_focal_length_it_is_60_degrees(seen, photo, taken, film_focal):
    views, told = seen(photo if film_focal is None else taken(film_focal))
    assert views == seen(photo, "--fov", "60")[0] and "EXIF" not in told


@pytest.mark.parametrize("options", [("--fov", "100"), ("--focal", "20")], ids=" ".join)
def test_an_option_overrides_exif(seen, photo, taken, options):
    views, told = seen(taken(24), *options)
    assert views == seen(photo, *options)[0] and "EXIF" not in told


def test_each_picture_of_a_run_has_its_own(saved, loaded, photo, taken):
    pictures = (taken(24), photo, taken(100))
    together, folders = (
        saved("--save", "ply", inputs=pictures)[2],
        (saved("--save", "ply", inputs=(p,))[2] for p in pictures),
    )
    alone = [(folder / "photo.ply").read_bytes() for folder in folders]
    assert sorted(path.read_bytes() for path in together.iterdir()) == sorted(alone) and len(set(alone)) == 3


def test_it_is_told_only_where_something_depends_on_it(saved, loaded, taken):
    assert "EXIF" not in saved("--save", "npy,color", inputs=(taken(24),))[0][-1]
