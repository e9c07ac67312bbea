# shellcheck shell=bash disable=SC2034,SC2154
# Building. Sourced, not run.

# configure FOLDER OPTION...: runs CMake in a build folder that was not configured yet.
configure() {
  local folder=$1
  shift
  [ ! -f "$folder/build.ninja" ] || return 0
  local options=(-G Ninja -DCMAKE_BUILD_TYPE=Release)
  ! command -v ccache >/dev/null || options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  mkdir -p "$folder"
  with_progress "configuring $folder" "$folder/configure.log" \
    cmake -S "$limen_root" -B "$folder" "${options[@]}" "$@"
}

# build FOLDER TARGET...: brings the targets up to date.
build() {
  local folder=$1
  shift
  with_progress "building $* in $folder" "$folder/build.log" ninja -C "$folder" "$@"
}
