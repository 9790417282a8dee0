# Sourced: makes the clone's own virtual environment in .venv and activates it.
# Usage: . scripts/venv.sh [EXTRA]
cd "$(dirname "${BASH_SOURCE[0]}")/.."

_find_python() {
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "spikebridge needs Python 3.11 or newer; install it and try again" >&2
    return 1
}

_install() {
    local extra=${1:+[$1]} version
    version=$(cat pyproject.toml constraints.txt | cksum)
    case "$(cat .venv/installed 2>/dev/null)" in
        "$version$extra" | "$version[dev]") return ;;
    esac
    echo "installing spikebridge$extra into $PWD/.venv (a minute or two the first time) …" >&2
    # torch first: asking for it by its pinned version lets pip take a build that is at hand.
    python -m pip install --quiet --no-compile "$(grep '^torch==' constraints.txt)" uv
    # uv does in half a minute what takes pip three; pip knows more ways to reach an index.
    uv pip install --quiet --compile-bytecode --constraint constraints.txt --editable ".$extra" ||
        python -m pip install --quiet --constraint constraints.txt --editable ".$extra"
    echo "$version$extra" >.venv/installed
}

[ -x .venv/bin/python ] || "$(_find_python)" -m venv .venv
. .venv/bin/activate
_install "${1:-}"
