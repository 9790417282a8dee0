#!/usr/bin/env bash
# Sets everything up in .venv and runs the linter and the tests; arguments are pytest's.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/venv.sh" dev
ruff check
ruff format --check
# One thread a worker: the workers share the cores.
OMP_NUM_THREADS=1 pytest --numprocesses auto "$@"
