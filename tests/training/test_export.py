"""Export: parts that were trained apart become one checkpoint."""

import torch

from pipelines.composer_vivace import ComposerVivace
from pipelines.hub import load_published, save_checkpoint
from tests.conftest import make_pipeline
from training import export
from training.checkpoint_code import stale_files


def test_a_composer_goes_into_the_checkpoint(tmp_path):
    save_checkpoint(make_pipeline(instruments=("piano",)), tmp_path / "parts", fp16=False)
    composer = ComposerVivace(width=24, layers=1, heads=2, kernel=3, text_dim=16)
    composer.save_pretrained(tmp_path / "composer")
    export.main([
        "--unet", str(tmp_path / "parts" / "unet"), "--latents", str(tmp_path / "parts"),
        "--text_encoder", str(tmp_path / "parts"), "--composer", str(tmp_path / "composer"),
        "--default_score_guidance_scale", "1.5", "--output_dir", str(tmp_path / "out"),
    ])  # fmt: skip
    assert stale_files(tmp_path / "out") == []  # refreshing its code leaves that of the composer there
    pipe = load_published(tmp_path / "out")
    assert pipe.config.default_score_guidance_scale == 1.5
    kept, given = pipe.composer.state_dict(), composer.state_dict()
    assert all(torch.allclose(kept[name], given[name], atol=1e-3) for name in given)  # stored as fp16
    assert pipe.compose("slow piano", bars=2, bpm=100, seed=7)[0].bars == 2
