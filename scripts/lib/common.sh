# shellcheck shell=bash disable=SC2034,SC2154
# What every script here needs: messages, errors, the places things live. Sourced, not run.

limen_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# mke2fs and e2fsck are there, and not everybody's PATH is.
PATH=$PATH:/usr/sbin:/sbin

# Everything that is made once and kept: guest disks, kernels. LIMEN_CACHE overrides it.
limen_cache=${LIMEN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/limen}

say() { printf '==> %s\n' "$*" >&2; }

die() {
  printf '%s: error: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

can_be_root() { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; }

# as_root COMMAND...: runs it as root, through sudo where we are not.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# with_progress TITLE LOG COMMAND...: runs a command with its output in LOG. If it lasts, says so, and
# shows every few seconds that it lives; if it fails, shows the end of LOG.
with_progress() {
  local title=$1 log=$2 status=0 started=$SECONDS tick=0 said=false
  shift 2
  # A process group of its own, so that an interruption ends all of it.
  set -m
  "$@" >"$log" 2>&1 </dev/null &
  set +m
  local child=$!
  trap 'kill -- "-$child" 2>/dev/null; exit 130' INT TERM
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.1
    tick=$((tick + 1))
    if [ "$tick" -eq 8 ]; then
      say "$title"
      said=true
    elif $said && [ -t 2 ]; then
      printf '\r    %4d s  %s\033[K' $((SECONDS - started)) "$(last_line "$log")" >&2
    elif [ $((tick % 150)) -eq 0 ]; then
      printf '    %4d s  %s\n' $((SECONDS - started)) "$(last_line "$log")" >&2
    fi
  done
  trap - INT TERM
  wait "$child" || status=$?
  if $said && [ -t 2 ]; then printf '\r\033[K' >&2; fi
  if [ "$status" -ne 0 ]; then
    tail -n 30 "$log" >&2
    die "failed after $((SECONDS - started)) s: $title (whole log: $log)"
  fi
  if $said; then say "done in $((SECONDS - started)) s"; fi
}

last_line() { tail -n 1 "$1" | tr -d '\r' | cut -c1-70; }
