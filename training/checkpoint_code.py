"""Refresh the code in a checkpoint folder: `python -m training.checkpoint_code checkpoints/small`.

A checkpoint contains the code that loads it: copies of files of `pipelines/` and `autoencoder/`. This command writes
them again from the source and removes files that no longer exist there.
"""

import argparse
import inspect
from pathlib import Path

from autoencoder.autoencoder_vivace import AutoencoderVivace
from pipelines.composer_vivace import ComposerVivace
from pipelines.pipeline_vivace import VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from pipelines.vivace_checkpoint import custom_pipeline_code, read_sources


def checkpoint_code(folder: Path) -> dict[str, str]:
    """The code files of a checkpoint from the source: path within its folder -> text."""
    code, kinds = {}, {"": VivacePipeline, "unet/": UNet1DConditionModel, "vae/": AutoencoderVivace}
    if (folder / "composer").is_dir():
        kinds["composer/"] = ComposerVivace
    for place, kind in kinds.items():
        source = Path(inspect.getsourcefile(kind))
        code |= {place + name: text for name, text in read_sources(source).items()}
        if kind is VivacePipeline:
            code["pipeline.py"] = custom_pipeline_code(source, kind.__name__)
    return code


def stale_files(folder: Path) -> list[str]:
    """Paths within a checkpoint folder of files that differ from the source, are missing, or are no longer needed."""
    code = checkpoint_code(folder)
    present = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.py")}
    return sorted(name for name in code.keys() | present.keys() if code.get(name) != present.get(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a checkpoint folder, as checkpoints/small")
    folder = parser.parse_args().folder
    code = checkpoint_code(folder)
    if not (folder / "model_index.json").is_file():
        parser.error(f"folder {folder}: no model_index.json there; give a checkpoint folder")
    for name in stale_files(folder):
        if name in code:
            (folder / name).write_text(code[name])
        else:
            (folder / name).unlink()
        print(folder / name)


if __name__ == "__main__":
    main()
