"""Which model files the loader offers, and where they are."""

from pathlib import Path

import folder_paths

from ..depthfm_core.model.catalog import NANO_PATH

OWN_FOLDER = "depthfm"
# Of two files with one name the folder that stands first wins. The folders that are not ours hold other models as well.
SHARED_FOLDERS = ("geometry_estimation", "checkpoints", "diffusion_models")
BUNDLED = {"nano": NANO_PATH}


def register_model_folder() -> None:
    """Adds `models/depthfm` to the folders of that name that extra_model_paths.yaml may already have made."""
    table = folder_paths.folder_names_and_paths
    folders, suffixes = table.get(OWN_FOLDER, ([], set()))
    own = str(Path(folder_paths.models_dir) / OWN_FOLDER)
    table[OWN_FOLDER] = (
        [*folders, *([] if own in folders else [own])],
        set(suffixes) | set(folder_paths.supported_pt_extensions),
    )


def model_names() -> list[str]:
    """The loader's menu: the bundled model, every file in `depthfm`, and files elsewhere with "depthfm" in the name."""
    return list(_origins())


def model_path(name: str) -> Path:
    """The file of an entry of the menu.

    Raises:
        ValueError: for a name that is not on the menu.
    """
    if name in BUNDLED:
        return BUNDLED[name]
    origins = _origins()
    if name not in origins:
        raise ValueError(no_such_model(name))
    return Path(folder_paths.get_full_path_or_raise(origins[name], name))


def no_such_model(name: str) -> str:
    """The sentence for a name that is not on the menu."""
    searched = ", ".join(str(folder) for key in _searched() for folder in folder_paths.get_folder_paths(key))
    return f"There is no DepthFM model {name!r}; put the file into one of {searched}."


def _origins() -> dict[str, str | None]:
    """Name on the menu to the model folder that it comes from; None for what ships with the pack."""
    origins: dict[str, str | None] = dict.fromkeys(BUNDLED)
    for folder in _searched():
        for name in folder_paths.get_filename_list(folder):
            if folder == OWN_FOLDER or "depthfm" in name.lower().replace("-", "").replace("_", ""):
                origins.setdefault(name, folder)
    return origins


def _searched() -> list[str]:
    known = folder_paths.folder_names_and_paths
    return [folder for folder in (OWN_FOLDER, *SHARED_FOLDERS) if folder in known]
