#!/bin/sh
# Installs a finished build into an empty folder, builds tests/consumer against it and runs it.
#   run.sh CMAKE BUILD_DIR SOURCE_DIR WORK_DIR GENERATOR [CMAKE_OPTIONS...]
set -eu
cmake=$1 build=$2 source=$3 work=$4 generator=$5
shift 5
rm -rf "$work"
mkdir -p "$work"
"$cmake" --install "$build" --prefix "$work/installed" >"$work/install.log"
"$cmake" -S "$source" -B "$work/build" -G "$generator" -DCMAKE_PREFIX_PATH="$work/installed" "$@"
"$cmake" --build "$work/build"
"$work/build/consumer"
"$work/installed/bin/triage" --help >/dev/null
