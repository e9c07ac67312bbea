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

# build FOLDER TARGET...: builds; silent when everything is up to date.
build() {
  local folder=$1
  shift
  # `ninja -n` may want to look at the globbed folders first, which takes a moment and no more.
  if ! ninja -C "$folder" -n "$@" 2>/dev/null | grep -q 'no work to do'; then
    with_progress "building $* in $folder" "$folder/build.log" ninja -C "$folder" "$@"
  fi
}
