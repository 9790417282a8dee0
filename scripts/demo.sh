#!/usr/bin/env bash
# Sets everything up in .venv and runs the demo; arguments are those of `spikebridge demo`.
set -euo pipefail
here=$PWD
. "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
cd "$here"
spikebridge demo "$@"
