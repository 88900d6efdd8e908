#!/bin/bash
# Four machines of eight GPUs:   sbatch training/recipes/slurm.sh training.train_unet --config training/configs/base/unet.yaml
# Two minutes before its time is up a run is sent SIGTERM, writes a checkpoint and ends; the same command goes on.
#SBATCH --job-name=vivace
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --output=runs/slurm-%j.log
set -euo pipefail

export MAIN_ADDRESS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MAIN_PORT=$((20000 + SLURM_JOB_ID % 20000))
export OMP_NUM_THREADS=1

# One launcher a machine; it starts a process for each GPU there. exec: the signal reaches the launcher itself.
srun --kill-on-bad-exit=1 bash -c 'exec accelerate launch \
    --multi_gpu --num_machines "$SLURM_NNODES" --num_processes $((8 * SLURM_NNODES)) --machine_rank "$SLURM_PROCID" \
    --main_process_ip "$MAIN_ADDRESS" --main_process_port "$MAIN_PORT" --rdzv_backend c10d \
    --mixed_precision no --dynamo_backend no -m "$@"' launcher "$@"
