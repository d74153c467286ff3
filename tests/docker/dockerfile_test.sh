#!/usr/bin/env bash
# Runs the steps of docker/Dockerfile, as they stand there, on plain Debian roots instead of the CUDA image: no Docker engine
# is needed, and no GPU. Without root, debootstrap or a mirror it exits with 77: skipped.
#   dockerfile_test.sh PROJECT [WORK]
# WORK (default: a folder that is removed at the end) may hold base.tar, a root to start from, and gets one.
# TRIAGE_DEBIAN_MIRROR names the mirror.
set -euo pipefail
project=$(cd "$1" && pwd)
dockerfile=$project/docker/Dockerfile
mirror=${TRIAGE_DEBIAN_MIRROR:-http://deb.debian.org/debian}
suite=bookworm
# What the image would have and this root has not: a CUDA compiler.
declare -A given=([CUDA]=OFF)

skip() {
  echo "SKIPPED: $*"
  exit 77
}
fail() {
  echo "FAILED: $*"
  exit 1
}
[[ $(id -u) == 0 ]] || skip "chroot needs root"
command -v debootstrap >/dev/null || skip "debootstrap is not installed"

work=${2:-$(mktemp -d)}
mkdir -p "$work"
roots=()
clean_up() {
  local root
  for root in "${roots[@]}"; do
    umount "$root/proc" "$root/dev/null" 2>/dev/null || true
    rm -rf --one-file-system "$root"
  done
  [[ -n ${kept:-} ]] || rm -rf --one-file-system "$work"
}
[[ $# -gt 1 ]] && kept=yes
trap clean_up EXIT

if [[ ! -e $work/base.tar ]]; then
  debootstrap --variant=minbase "$suite" "$work/base" "$mirror" >"$work/debootstrap.log" 2>&1 ||
    skip "debootstrap made no root: $(tail -n 1 "$work/debootstrap.log")"
  # Where packages come through a proxy or another mirror, the root uses the same.
  [[ -e /etc/apt/apt.conf ]] && cp /etc/apt/apt.conf "$work/base/etc/apt/"
  cp -r /etc/apt/apt.conf.d/. "$work/base/etc/apt/apt.conf.d/"
  tar -C "$work/base" -cf "$work/base.tar" .
  rm -rf --one-file-system "$work/base"
fi

declare -A values=() stages=()  # build arguments and environment; root of each stage by name
root= user=root folder=/ entry= lines=0

expand() {  # TEXT: ${NAME} and $NAME as Docker replaces them, from `values`
  local text=$1 result= name
  while [[ $text =~ ^([^$]*)\$(\{([A-Za-z_]+)\}|([A-Za-z_]+))(.*)$ ]]; do
    name=${BASH_REMATCH[3]:-${BASH_REMATCH[4]}}
    result+=${BASH_REMATCH[1]}${values[$name]-}
    text=${BASH_REMATCH[5]}
  done
  printf '%s' "$result$text"
}

environment() {  # prints NAME=value for env
  local name
  for name in "${!values[@]}"; do printf '%s\0' "$name=${values[$name]}"; done
}

inside() {  # COMMAND...: in the current root, as the current user, in the current folder
  local variables=()
  mapfile -d '' -t variables < <(environment)
  chroot --userspec="$user" "$root" /usr/bin/env -i "${variables[@]}" HOME="$(eval_home)" DEBIAN_FRONTEND=noninteractive \
    /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$folder" "$@"
}
eval_home() { [[ $user == root ]] && echo /root || echo "/home/$user"; }

start_stage() {  # FROM's arguments
  local name=${3:-last}
  root=$work/stage-${#roots[@]}
  rm -rf --one-file-system "$root"
  mkdir -p "$root"
  roots+=("$root")
  tar -C "$root" -xf "$work/base.tar"
  mkdir -p "$root/proc"
  mount -t proc proc "$root/proc"
  cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
  stages[$name]=$root
  user=root folder=/
  local base=${values[BASE]-}
  values=([PATH]=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin [BASE]=$base)
}

copy() {  # [--from=STAGE] SOURCE... TARGET
  local from=$project
  if [[ $1 == --from=* ]]; then
    from=${stages[${1#--from=}]-}
    [[ -n $from ]] || fail "COPY $1: there is no such stage"
    shift
  fi
  local target=${!#} source
  for source in "${@:1:$#-1}"; do
    [[ -e $from/$source ]] || fail "COPY: $source does not exist"
    if [[ $from == "$project" ]]; then
      grep -qx "!${source%%/*}" "$dockerfile.dockerignore" || fail "COPY: $source is kept out by Dockerfile.dockerignore"
    fi
    if [[ -d $from/$source ]]; then  # a folder's content goes into the target
      mkdir -p "$root$target"
      cp -a "$from/$source/." "$root$target/"
    else
      [[ $target == */ ]] && mkdir -p "$root$target" || mkdir -p "$(dirname "$root$target")"
      cp -a "$from/$source" "$root$target"
    fi
  done
}

step() {  # INSTRUCTION REST
  local name value
  case $1 in
    ARG)
      name=${2%%=*} value=${2#*=}
      [[ $2 == *=* ]] || value=
      values[$name]=${given[$name]-$value}
      ;;
    FROM) read -ra words <<<"$2"; start_stage "${words[@]}" ;;
    RUN) inside /bin/sh -c "$2" ;;
    COPY) read -ra words <<<"$(expand "$2")"; copy "${words[@]}" ;;
    ENV) value=$(expand "${2#*=}"); values[${2%%=*}]=$value ;;
    USER) user=$2 ;;
    WORKDIR) folder=$2; mkdir -p "$root$2" ;;
    ENTRYPOINT) entry=$2 ;;
    *) fail "the test does not know $1" ;;
  esac
}

# Lines that end with a backslash go on; comments and blank lines are nothing.
statement=
while IFS= read -r line || [[ -n $line ]]; do
  [[ $line =~ ^[[:space:]]*(#.*)?$ ]] && continue
  if [[ $line == *\\ ]]; then
    statement+="${line%\\} "
    continue
  fi
  statement+=$line
  read -r instruction rest <<<"$statement"
  echo "step: ${statement:0:110}"
  step "$instruction" "$rest" >"$work/step.log" 2>&1 || {
    tail -n 30 "$work/step.log"
    fail "$statement"
  }
  statement=
  lines=$((lines + 1))
done <"$dockerfile"

[[ ${#stages[@]} == 2 ]] || fail "two stages were expected, not ${#stages[@]}"
[[ $(inside id -u) != 0 ]] || fail "the container would run as root"
[[ ! -e $root/build && ! -e $root/source ]] || fail "the second stage holds the build"
read -ra words <<<"$(tr -d '[],"' <<<"${entry//,/ }")"
[[ ${words[*]} == "triage verdict" ]] || fail "the entry point is ${words[*]}"
inside "${words[@]}" --device cpu --kernel cpu_sddmm --only grid --quick --html report.html >"$work/out" 2>"$work/err" || {
  cat "$work/out" "$work/err"
  fail "the entry point does not run"
}
grep -q "cpu_sddmm: .* all correct" "$work/out" || fail "the verdict is not in the output"
[[ -s $root$folder/report.html ]] || fail "the user cannot write into the work folder"
inside triage matrix --receipts /opt/triage/receipts >"$work/out" || fail "the receipts cannot be read"
code=0
inside "${words[@]}" --device cuda >"$work/out" 2>"$work/err" || code=$?
[[ $code == 3 ]] || fail "without a GPU the exit code is $code, not 3"
echo "passed: $lines steps"
