"""%NODE.WIDGET% in the name of a file, which ComfyUI's front end resolves for its own nodes only.

Source: `applyTextReplacements` of ComfyUI_frontend; a name there is a property of the node, which the graph that is
sent does not have: here it is the title, or else the type.
"""

import re

_PLACEHOLDER = re.compile(r"%([^%]+)%")
_NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')


def with_widgets(prefix: str, prompt: dict | None) -> str:
    """The prefix with the values of widgets in it; what names no node or no widget of it stays as it is.

    Args:
        prefix: a file's, with %NODE.WIDGET%: a node's title, or its type, and an input that is no link.
        prompt: the graph as it was sent, or None.
    """

    def written(placeholder: re.Match) -> str:
        name, _, widget = placeholder.group(1).rpartition(".")
        value = _node(name, prompt or {}).get("inputs", {}).get(widget)
        return _NOT_IN_NAMES.sub("_", str(value)) if isinstance(value, str | int | float) else placeholder.group()

    return _PLACEHOLDER.sub(written, prefix)


def _node(name: str, prompt: dict) -> dict:
    """The first node of this title, or else of this type, or an empty one."""
    titled = [node for node in prompt.values() if (node.get("_meta") or {}).get("title") == name]
    typed = [node for node in prompt.values() if node.get("class_type") == name]
    return next(iter(titled + typed), {})
