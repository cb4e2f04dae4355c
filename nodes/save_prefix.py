"""%NODE.WIDGET% in the name of a file, which ComfyUI's front end resolves for its own nodes only.

Source: `applyTextReplacements` of ComfyUI_frontend; a name there is a property of the node, which the graph that is
sent does not have: here it is the title, or else the type.
"""

import re

_NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')


def with_widgets(prefix: str, prompt: dict | None) -> str:
    """The prefix with the values of widgets in it; what names no node or no widget of it stays as it is.

    Args:
        prefix: a file's, with %NODE.WIDGET%: a node's title, or its type, and an input that is no link.
        prompt: the graph as it was sent, or None.
    """
    written, *parts = prefix.split("%")
    while parts:
        value = _value(parts[0], prompt or {}) if len(parts) > 1 else None
        if value is None:  # this % may begin nothing, and the next one a placeholder
            written += f"%{parts.pop(0)}"
        else:
            written += _NOT_IN_NAMES.sub("_", value) + parts[1]
            parts = parts[2:]
    return written


def _value(placeholder: str, prompt: dict) -> str | None:
    """What the widget that is named holds; None where there is none of this name."""
    name, _, widget = placeholder.rpartition(".")
    value = _node(name, prompt).get("inputs", {}).get(widget)
    return str(value) if isinstance(value, str | int | float) else None


def _node(name: str, prompt: dict) -> dict:
    """The first node of this title, or else of this type, or an empty one."""
    titled = [node for node in prompt.values() if (node.get("_meta") or {}).get("title") == name]
    typed = [node for node in prompt.values() if node.get("class_type") == name]
    return next(iter(titled + typed), {})
