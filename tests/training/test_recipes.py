"""The launch recipes: Accelerate reads the configs, and the cluster script is sound."""

import subprocess

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel


@pytest.mark.parametrize("name", ["one_gpu", "two_cpus", "eight_gpus", "fsdp"])
def test_accelerate_reads_the_configs(name):
    path = f"training/recipes/{name}.yaml"
    config = load_config_from_file(path)  # refuses keys that it does not know
    words = launch_command_parser().parse_args(["--config_file", path, "-m", "training.train_unet", "--seed", "1"])
    assert words.training_script_args == ["--seed", "1"] and config.num_processes in (1, 2, 8)
    if name == "fsdp":
        (block,) = UNet1DConditionModel._no_split_modules
        assert config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"] == block
        assert config.fsdp_config["fsdp_version"] == 2


def test_slurm_script_is_sound():
    subprocess.run(["bash", "-n", "training/recipes/slurm.sh"], check=True)
