#!/usr/bin/env bash
# Train on several processes: tools/dist_train.sh CONFIG NPROC [tools/train.py options]
# On several machines run it on each, with NNODES, NODE_RANK and MASTER_ADDR set.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG NPROC_PER_NODE [options of tools/train.py]" >&2
    exit 2
fi
CONFIG=$1
NPROC=$2
HERE=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH="$HERE/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m mmvlm.utils.launch \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$NPROC" \
    "$HERE/train.py" "$CONFIG" --launcher pytorch "${@:3}"
