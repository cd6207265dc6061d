#!/usr/bin/env bash
# A coordinator here and a worker on every HOST, which needs lotteryfl on its PATH and no open port but ssh's:
# the worker reaches the coordinator through the connection that started it.
#   deploy/ssh.sh EXPERIMENT.toml RUN_DIR HOST...
# PORT: where the coordinator listens, here and, by that connection, on the hosts. [default: 7000]
# LOTTERYFL: the program on the hosts, as .venv/bin/lotteryfl. [default: lotteryfl]
set -euo pipefail
experiment=${1:?the experiment file is missing}
run_dir=${2:?the run directory is missing}
shift 2
: "${1:?the hosts are missing}"
port=${PORT:-7000}

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for host in "$@"; do
  # shellcheck disable=SC2029 # the variables are meant to be replaced here
  ssh -o BatchMode=yes -o ExitOnForwardFailure=yes -o ServerAliveInterval=15 -R "localhost:$port:localhost:$port" \
    "$host" "${LOTTERYFL:-lotteryfl} work --coordinator localhost:$port --name $host" &
done
lotteryfl serve "$experiment" --listen "localhost:$port" --run-dir "$run_dir" --allow-missing
wait # for the workers, which know that the run is over
