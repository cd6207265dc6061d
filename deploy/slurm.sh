#!/usr/bin/env bash
# A coordinator and its workers as one Slurm job; requeued or submitted again, the run goes on where it stood.
#   sbatch --nodes=2 --ntasks-per-node=1 --gpus-per-node=4 deploy/slurm.sh EXPERIMENT.toml RUN_DIR
# Every task has a worker on each of the GPUs that Slurm gives it, or one on the CPU.
# RUN_DIR is on a file system that all nodes share, and beside it, in RUN_DIR.certs, are the certificates that they
# show each other; lotteryfl is on the PATH of every node.
#SBATCH --job-name=lotteryfl
#SBATCH --ntasks=4
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail
experiment=${1:?the experiment file is missing}
run_dir=${2:?the run directory is missing}
host=$(hostname) # this script runs on the first node
port=$((20000 + SLURM_JOB_ID % 10000))
certs=${run_dir%/}.certs

rm -f "$certs/coordinator/tls.crt" # may be for another node, where the job was before
lotteryfl certs --out "$certs" --coordinator "$host" --worker worker

lotteryfl serve "$experiment" --listen "0.0.0.0:$port" --run-dir "$run_dir" --allow-missing \
  --tls-cert "$certs/coordinator/tls.crt" --tls-key "$certs/coordinator/tls.key" --tls-ca "$certs/ca.crt" &
coordinator=$!
srun --kill-on-bad-exit=0 lotteryfl work --devices all --coordinator "$host:$port" --patience 300 --name worker/ \
  --tls-cert "$certs/worker/tls.crt" --tls-key "$certs/worker/tls.key" --tls-ca "$certs/ca.crt" ||
  echo "not every worker ended well" >&2

# Every worker has gone. If the run has ended, so has the coordinator, or is about to.
sleep 10
kill "$coordinator" 2>/dev/null || true
wait "$coordinator" # its exit code is the job's
