"""Every compared method behind one call: an image in, a map out, and what the map means said beside it.

`load_method("marigold-v1-1")` takes the weights from the library's cache, `load_method("marigold-v1-1=FOLDER")` from a
path. Nothing is fetched.
"""

from dataclasses import fields
from pathlib import Path

from .depthfm import DEPTHFM
from .geowizard import GEOWIZARD
from .hub_cards import HUB
from .hugging_face import HUGGING_FACE
from .lotus import LOTUS
from .marigold import MARIGOLD
from .method import GIVES, Method, MethodCard, MethodOptions, Request
from .onnx_graph import ONNX
from .packages import PACKAGES
from .sanity import SANITY

METHODS: dict[str, MethodCard] = {
    **DEPTHFM,
    **SANITY,
    **HUB,
    **HUGGING_FACE,
    **MARIGOLD,
    **GEOWIZARD,
    **LOTUS,
    **ONNX,
    **PACKAGES,
}

__all__ = ["GIVES", "METHODS", "Method", "MethodCard", "MethodOptions", "find_method", "load_method"]


def load_method(model: str, options: MethodOptions | None = None) -> Method:
    """A method by name, with its weights.

    Args:
        model: a key of `METHODS`; or NAME=PATH for weights at another place; or the path of a DepthFM checkpoint.
        options: see `MethodOptions`.

    Raises:
        ValueError: for an unknown name, an option that the method does not take, missing weights or packages (with the
            command that fetches them), or weights that do not fit.
    """
    options = options or MethodOptions()
    name, card, weights = find_method(model)
    _check_options(name, card, options)
    return card.load(Request(name, card, weights, options))


def find_method(model: str) -> tuple[str, MethodCard, str]:
    """The name, the card and the weights' place of a method given as NAME, NAME=PATH or a DepthFM checkpoint's path.

    Raises:
        ValueError: for an unknown name, or a method without default weights and no path.
    """
    name, _, weights = model.partition("=")
    if name not in METHODS:
        if not Path(model).exists():
            raise ValueError(
                f"There is no method or file {model!r}; choose NAME, NAME=PATH or a DepthFM checkpoint, with NAME one "
                f"of {', '.join(METHODS)}."
            )
        name, weights = "depthfm", model
    card = METHODS[name]
    if not (weights or card.weights):
        raise ValueError(f"{name} needs a path to its weights: {card.fetch}")
    return name, card, weights or card.weights


def _check_options(name: str, card: MethodCard, options: MethodOptions) -> None:
    chosen = [field.name for field in fields(options) if getattr(options, field.name) != field.default]
    foreign = [option for option in chosen if option not in ("device", *card.options)]
    if foreign:
        takes = ", ".join(("device", *card.options))
        raise ValueError(f"{name} has no {', '.join(foreign)}; it takes {takes}.")
