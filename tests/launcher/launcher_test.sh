#!/usr/bin/env bash
# Tests of ./triage on a small project of the same shape, so that they take seconds and no network.
#   launcher_test.sh LAUNCHER CMAKE
# Where packages would be installed, stand-ins for apt-get, sudo, id and python3 come first in PATH.
set -euo pipefail
launcher=$1
real_cmake=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

unset TRIAGE_BUILD_DIR TRIAGE_CMAKE_ARGS CDPATH
export TRIAGE_NO_INSTALL=1
failures=0

check() {  # DESCRIPTION COMMAND...
  if "${@:2}"; then
    echo "ok: $1"
  else
    echo "FAILED: $1"
    sed 's/^/  out: /' "$work/out"
    sed 's/^/  err: /' "$work/err"
    failures=$((failures + 1))
  fi
}

launch() {  # ARGUMENTS...: runs the launcher of $project; output in $work/out and $work/err, exit code in $code
  code=0
  "$project/triage" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
}

says() { grep -q -e "$1" "$work/err"; }
silent() { [[ ! -s $work/err ]]; }

# A checkout in a folder with a space in its name: a program that prints its arguments and exits with the number that
# follows `exit`, and one test.
new_project() {  # NAME
  project=$work/$1
  mkdir -p "$project"/{cmake,include,src,verdict,tests}
  cp "$launcher" "$project/triage"
  cat >"$project/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.24)
project(small LANGUAGES CXX)
file(GLOB sources CONFIGURE_DEPENDS src/*.cpp)
add_executable(triage_program ${sources})
set_target_properties(triage_program PROPERTIES OUTPUT_NAME triage)
message(STATUS "Triage small: configured")
enable_testing()
add_test(NAME one COMMAND triage_program exit ${SMALL_TEST_EXITS_WITH})
set_tests_properties(one PROPERTIES LABELS cpu)
CMAKE
  cat >"$project/src/main.cpp" <<'CPP'
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>
int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) std::printf("[%s]", argv[i]);
  std::printf("\n");
  if (argc > 2 && !std::strcmp(argv[1], "sleep")) sleep(std::atoi(argv[2]));
  return argc > 2 && !std::strcmp(argv[1], "exit") ? std::atoi(argv[2]) : 0;
}
CPP
}

# A PATH with the tools that the launcher may take for granted, and nothing else.
new_bin() {
  bin=$work/bin-$RANDOM
  mkdir "$bin"
  local tool
  for tool in bash sh env cat cp mv rm mkdir touch find sort head tail grep awk sed readlink dirname id nproc flock \
    uname basename printf sleep ln chmod date ls; do
    if command -v "$tool" >/dev/null; then ln -s "$(type -P "$tool")" "$bin/$tool"; fi
  done
}

stand_in() {  # NAME: its script comes from standard input
  rm -f "$bin/$1"
  { echo '#!/bin/sh'; cat; } >"$bin/$1"
  chmod +x "$bin/$1"
}

# The headers whose presence the launcher looks for, so that only what a test takes away is missing.
headers=$work/headers
mkdir -p "$headers"/include/{CLI,nlohmann,fmt,gtest,dlpack}
touch "$headers"/include/{CLI/CLI.hpp,nlohmann/json.hpp,fmt/format.h,gtest/gtest.h,dlpack/dlpack.h}
export CMAKE_PREFIX_PATH=$headers

# --- Before a build
new_project "check out"
launch --help
check "--help works before a build" test "$code" = 0
check "--help prints to standard output" grep -q '^Usage: ./triage' "$work/out"
check "--help builds nothing" test ! -e "$project/build"
launch
check "no command is a usage error" test "$code" = 2
check "no command prints nothing to standard output" test ! -s "$work/out"

# --- First run
launch verdict --quick "two words" ""
check "the first run builds and runs" test "$code" = 0
check "arguments pass through as they are" test "$(cat "$work/out")" = "[verdict][--quick][two words][]"
check "the first run says what it does" says "^triage: configuring"
check "the summary line of CMake is shown" says "Triage small: configured"

# --- Second run
before=$(stat -c %Y.%Z "$project/build/default/triage")
start=$(date +%s%N)
launch list
elapsed=$((($(date +%s%N) - start) / 1000000))
check "the second run takes under a second ($elapsed ms)" test "$elapsed" -lt 1000
check "the second run says nothing of its own" silent
check "the second run rebuilds nothing" test "$(stat -c %Y.%Z "$project/build/default/triage")" = "$before"
for expected in 1 3 5; do
  launch exit "$expected"
  check "exit code $expected passes through" test "$code" = "$expected"
done
(cd / && "$project/triage" list >"$work/out" 2>"$work/err")
check "it runs from another folder" silent
ln -s "$project/triage" "$work/link"
check "it runs through a symbolic link" test "$("$work/link" list)" = "[list]"

# --- Changes
sed -i 's/"\[%s\]"/"<%s>"/' "$project/src/main.cpp"
launch list
check "an edited source is rebuilt" test "$(cat "$work/out")" = "<list>"
echo 'int extra() { return 1; }' >"$project/src/extra.cpp"
launch list
check "a new source is noticed" says extra.cpp
rm "$project/src/extra.cpp"
launch list
check "a removed source is noticed" says building
TRIAGE_CMAKE_ARGS="-DCMAKE_BUILD_TYPE=Debug" launch list
check "other options configure afresh" says configuring
launch list
check "and so does going back" says configuring
echo 'broken' >>"$project/src/main.cpp"
launch list
check "a compile error is the launcher's failure" test "$code" = 125
check "a compile error is shown" says "main.cpp"
sed -i '$d' "$project/src/main.cpp"
launch list
check "and is gone after the repair" test "$code" = 0
mv "$project/CMakeLists.txt" "$work/saved"
echo 'message(FATAL_ERROR "no such thing")' >"$project/CMakeLists.txt"
launch list
TRIAGE_BUILD_DIR=$work/other launch list
check "a configuration error is the launcher's failure" test "$code" = 125
check "a configuration error is shown" says "no such thing"
mv "$work/saved" "$project/CMakeLists.txt"
touch "$project/CMakeLists.txt"

# --- Tests
TRIAGE_CMAKE_ARGS="-DSMALL_TEST_EXITS_WITH=0" launch test
check "test runs the tests" grep -q '100% tests passed' "$work/out"
check "test passes" test "$code" = 0
TRIAGE_CMAKE_ARGS="-DSMALL_TEST_EXITS_WITH=1" launch test
check "a failing test fails" test "$code" = 8
TRIAGE_CMAKE_ARGS="-DSMALL_TEST_EXITS_WITH=1" launch test -R none
check "options go to ctest" grep -q 'No tests were found' "$work/out" "$work/err"

# --- Two at once
new_project twice
"$project/triage" list >"$work/out1" 2>"$work/err1" &
first=$!
"$project/triage" list >"$work/out2" 2>"$work/err2" &
second=$!
check "of two at once the first succeeds" wait "$first"
check "of two at once the second succeeds" wait "$second"
cat "$work/err1" "$work/err2" >"$work/err"
check "only one of them configures" test "$(grep -c configuring "$work/err")" = 1
"$project/triage" sleep 5 >"$work/out1" 2>"$work/err1" &
sleeper=$!
touch "$project/src/main.cpp"
start=$(date +%s)
launch list
check "a running program does not hold the lock" test $(($(date +%s) - start)) -lt 5
kill "$sleeper" 2>/dev/null || true
wait "$sleeper" 2>/dev/null || true

# --- Where nothing can be written
TRIAGE_BUILD_DIR=/proc/triage launch list
check "a folder that cannot be written gets a sentence" says "cannot be written; set TRIAGE_BUILD_DIR"
check "and the launcher's exit code" test "$code" = 125

# --- Missing packages
new_project bare
new_bin
stand_in apt-get <<<'exit 0'
stand_in id <<<'echo 1000'
PATH=$bin launch list
check "without root nothing is installed" test "$code" = 125
check "but the one command is named" says "^  sudo apt-get install -y g++ cmake ninja-build ccache$"
rm "$bin/apt-get"
PATH=$bin launch list
check "other systems get the list" says "missing, by their Debian names: g++ cmake ninja-build"

# The stand-in for apt-get "installs" what it is asked for.
stand_in id <<<'echo 0'
stand_in apt-get <<SCRIPT
echo "\$@" >>"$work/apt.log"
case "\$*" in
  *install*)
    ln -sf "$(type -P c++)" "$bin/c++"; ln -sf "$real_cmake" "$bin/cmake"
    ln -sf "$(type -P as)" "$bin/as"; ln -sf "$(type -P ld)" "$bin/ld"
    for tool in ar ranlib nm make ninja ctest; do
      path=\$(PATH=$PATH command -v \$tool) && ln -sf "\$path" "$bin/\$tool"
    done ;;
esac
exit 0
SCRIPT
PATH=$bin launch list
check "with TRIAGE_NO_INSTALL root installs nothing either" test ! -e "$work/apt.log"
TRIAGE_NO_INSTALL='' PATH=$bin launch list
check "root installs what is missing and goes on" test "$code" = 0
check "after an update of the package lists" test "$(head -n 1 "$work/apt.log")" = "-q update"
check "and says so" says "^triage: installing g++ cmake"

# --- An older CMake: a newer one comes from PyPI
new_project old
stand_in cmake <<<'echo "cmake version 3.22.1"'
PATH=$bin launch list
check "an old CMake without python3-venv names that package" says "sudo apt-get install -y python3-venv"
stand_in python3 <<SCRIPT
[ "\$1" = -c ] && exit 0
[ "\$1 \$2" = "-m venv" ] || exit 1
mkdir -p "\$3/bin"
printf '#!/bin/sh\nln -s "$real_cmake" "%s/bin/cmake"\n' "\$3" >"\$3/bin/pip"
chmod +x "\$3/bin/pip"
SCRIPT
PATH=$bin launch list
check "an old CMake is replaced by one in build/tools" test -x "$project/build/tools/bin/cmake"
check "which then builds" test "$code" = 0

echo
if [[ $failures -gt 0 ]]; then
  echo "$failures checks failed"
  exit 1
fi
echo "all checks passed"
