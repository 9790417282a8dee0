#!/usr/bin/env bash
# Sets everything up in .venv and runs linter, type checker and tests; arguments are pytest's.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/venv.sh" dev
ruff check
ruff format --check
if pyright --version >/dev/null 2>&1; then
    pyright
else
    trap 'echo "not checked: types, as pyright could not be fetched from the npm registry" >&2' EXIT
fi
# One thread a worker: the workers share the cores.
OMP_NUM_THREADS=1 pytest --numprocesses auto "$@"
