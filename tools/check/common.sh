# Sourced by the checks in this folder: they run from the root of the tree and build under build-check/.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
export root
export QUERN_SPIRV="$root/build-check/spirv" # compiled once for all builds
jobs=$(nproc)
export CLICOLOR_FORCE=0

# need PROGRAM PURPOSE: ends the check when a program is missing, naming what installs it.
need() {
    if ! command -v "$1" >/dev/null; then
        echo "$0: $1 is missing; to install it: tools/packages $2" >&2
        exit 1
    fi
}

# configure NAME MESON_OPTION...: configures build-check/NAME where that is not done; sets $dir.
configure() {
    dir=build-check/$1
    shift
    if [ ! -f "$dir/build.ninja" ]; then
        mkdir -p build-check
        meson setup "$dir" "$@" >"$dir.log" 2>&1 || {
            cat "$dir.log" >&2
            return 1
        }
    fi
}

# compile NAME MESON_OPTION...: the same, and builds it.
compile() {
    configure "$@"
    ninja -C "$dir" -j "$jobs" --quiet
}

# compile_gcc: builds what several checks use, a release of gcc without warnings; sets $dir. In .ci/run it is the build
# that was tested first.
compile_gcc() {
    CC=gcc compile gcc -Dwerror=true
}

# run_tests DIR MESON_TEST_ARGUMENT...: runs the tests of a build and prints how many passed.
run_tests() {
    tests=$1
    shift
    rc=0
    meson test -C "$tests" --no-rebuild --print-errorlogs "$@" >"$tests/tests.out" 2>&1 || rc=$?
    [ $rc -eq 0 ] || cat "$tests/tests.out"
    python3 tools/check/summary.py "$tests" || rc=1
    return $rc
}
