#!/bin/sh
# Looks for what pip cannot install and, on Debian or Ubuntu as root, installs what is missing; elsewhere names it in one line.
#
#   scripts/system_libraries.sh python [PYTHON]   what a virtual environment needs
#   scripts/system_libraries.sh qt                what napari's window and the Qt tests need
#
# Always ends with status 0: most of the package works without these, and the one line says what does not.
set -u

missing=""
what=${1:-qt}

need() { # need PACKAGE COMMAND...: the package is missing where the command fails
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

library() {
    # the cache of the dynamic linker, or the folders it searches by default
    { ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null; } | grep -q "[[:space:]]$1" && return 0
    ls /usr/lib/"$1"* /usr/lib64/"$1"* /usr/lib/*/"$1"* >/dev/null 2>&1
}

[ "$(uname -s)" = Linux ] || exit 0

case $what in
python)
    python=${2:-python3}
    need "$(basename "$(readlink -f "$(command -v "$python")")")-venv" "$python" -c "import ensurepip, venv"
    ;;
qt)
    need xvfb command -v Xvfb
    need xauth command -v xauth
    need libegl1 library libEGL.so.1
    need libxkbcommon-x11-0 library libxkbcommon-x11.so.0
    need libxcb-cursor0 library libxcb-cursor.so.0
    need libxcb-icccm4 library libxcb-icccm.so.4
    need libxcb-keysyms1 library libxcb-keysyms.so.1
    need libxcb-shape0 library libxcb-shape.so.0
    need libdbus-1-3 library libdbus-1.so.3
    need libfontconfig1 library libfontconfig.so.1
    need libglib2.0-0 library libglib-2.0.so.0
    need libgl1 library libGL.so.1
    ;;
*)
    echo "usage: $0 python [PYTHON] | qt" >&2
    exit 2
    ;;
esac

[ -n "$missing" ] || exit 0

log=$(mktemp)
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "installing missing system libraries:$missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # a list of package names
    if apt-get update >"$log" 2>&1 && apt-get install -y --no-install-recommends $missing >>"$log" 2>&1; then
        rm -f "$log"
        exit 0
    fi
    echo "could not install system libraries ($(grep -m1 '^E:' "$log" || tail -n1 "$log")); still missing:$missing"
else
    echo "missing system libraries:$missing; on Debian or Ubuntu: sudo apt-get install --no-install-recommends$missing"
fi
rm -f "$log"
