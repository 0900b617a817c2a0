#!/bin/sh
# Installs the build into a fresh folder, builds a program of a stranger against it, runs that and the installed program.
# package_test.sh CMAKE BUILD_FOLDER COMPILER SANITIZERS
set -eu
cmake=$1 build=$2 compiler=$3 sanitizers=${4-}
source=$(pwd)
if [ -n "$sanitizers" ]; then
    echo "skipped: the package is tested without sanitizers"
    exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$cmake" --install "$build" --prefix "$folder/prefix" >"$folder/install.log" || { cat "$folder/install.log"; exit 1; }
"$cmake" -S "$source/tests/package/consumer" -B "$folder/build" -DCMAKE_PREFIX_PATH="$folder/prefix" \
    -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=Release
"$cmake" --build "$folder/build"
"$folder/build/consumer" "$source/tests/data/zoo/models/base"
"$folder/prefix/bin/amalgam" --version
