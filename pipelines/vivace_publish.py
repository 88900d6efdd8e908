"""What `save_pretrained` writes beside the weights: the code that loads them, and no path of this machine.

diffusers copies a remote pipeline's helper files only if the pipeline's own file names them (`from .helper import`), so
that file, and the pipeline.py that `custom_pipeline="user/name"` reads, name all of them.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import hashlib
import inspect
import json
import re
import shutil
import sys
from pathlib import Path

from diffusers.utils import logging

logger = logging.get_logger(__name__)

LOCAL_FACTS = ("_name_or_path", "name_or_path", "is_local", "local_files_only")  # of the machine, not the model


def helper_stems(source: Path) -> list[str]:
    """Stems of the files beside `source` that it imports, found as diffusers finds them."""
    return sorted(set(re.findall(r"^\s*from\s+\.(\S+)\s+import", source.read_text(), flags=re.MULTILINE)))


def ship(kind: type, folder: Path) -> list[str]:
    """Copy the file of a class, and the files beside it that it imports, into `folder`; [stem, class name]."""
    source = Path(inspect.getsourcefile(kind))
    for path in (source, *(source.with_name(f"{stem}.py") for stem in helper_stems(source))):
        if path.resolve() != (folder / path.name).resolve():
            shutil.copyfile(path, folder / path.name)
    return [source.stem, kind.__name__]


def ship_code(pipe, folder: Path) -> None:
    """Beside a model_index.json just written: the code of the pipeline and of each component that is ours."""
    path = folder / pipe.config_name
    index = json.loads(path.read_text())
    index["_class_name"] = ship(type(pipe), folder)
    stem, name = index["_class_name"]
    helpers = helper_stems(folder / f"{stem}.py")
    shim = [f"from .{stem} import {name}", *(f"from .{helper} import __doc__ as _{helper}" for helper in helpers)]
    (folder / "pipeline.py").write_text("\n".join(shim) + "\n")
    for part, component in pipe.components.items():
        kind = type(getattr(component, "_orig_mod", component))  # a compiled module wraps the original
        if component is not None and kind.__module__.split(".")[0] not in ("diffusers", "transformers"):
            index[part] = ship(kind, folder / part)
        if index[part] == ["transformers", "TokenizersBackend"]:  # transformers' new name for the same class
            index[part][1] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    for config in (path, *folder.glob("*/*config.json")):
        values = json.loads(config.read_text())
        kept = {k: v for k, v in values.items() if k not in LOCAL_FACTS}
        if len(kept) < len(values):
            config.write_text(json.dumps(kept, indent=2) + "\n")


def settle(pipeline_file: Path, package: str, before: str | None) -> str:
    """Digest of the pipeline's code, after a clean end of loading it as remote code.

    diffusers runs the pipeline file of every checkpoint that it loads in one and the same module, but would keep the
    helpers of the first: they are taken out of `sys.modules`, so that the next checkpoint gets its own. Of two versions
    in one process the older pipeline then runs the pipeline file's newer code. That cannot be helped, but is said.

    Args:
        pipeline_file: beside it lie the helpers.
        package: that these files are modules of.
        before: what this function returned when the file was last run in this process, or None.
    """
    files = [pipeline_file, *(pipeline_file.with_name(f"{stem}.py") for stem in helper_stems(pipeline_file))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    if package.startswith("diffusers_modules"):
        for name in [name for name in sys.modules if name.startswith(f"{package}.vivace_")]:
            del sys.modules[name]
        if before not in (None, digest):
            logger.warning("two versions of Vivace's code in one process: give each checkpoint a process of its own")
    return digest
