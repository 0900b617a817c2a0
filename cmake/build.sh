#!/bin/sh
# Builds a preset of CMakePresets.json: cmake/build.sh PRESET [target ...]
set -eu
cd "$(dirname "$0")/.."
preset=$1
shift

# One compiler for each core, and no more than one for each 1.5 GB of memory.
jobs=$(nproc)
available=$(awk '/MemAvailable/ { print int($2 / 1500000) }' /proc/meminfo)
[ "$available" -ge 1 ] || available=1
[ "$jobs" -le "$available" ] || jobs=$available

# Another clone of the same sources is spared the compiler's work, where there is ccache.
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1

log=build/$preset.configure.log
mkdir -p build
cmake --preset "$preset" >"$log" 2>&1 || { cat "$log"; exit 1; }
if [ $# -gt 0 ]; then
    cmake --build --preset "$preset" --parallel "$jobs" --target "$@"
else
    cmake --build --preset "$preset" --parallel "$jobs"
fi
