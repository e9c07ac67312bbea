# shellcheck shell=bash disable=SC2034,SC2154
# Installing what the build, the demo and the tests need. Sourced, not run.

limen_build_packages=(
  build-essential cmake ninja-build pkg-config
  libfmt-dev libspdlog-dev libcli11-dev nlohmann-json3-dev
  libarchive-dev zlib1g-dev libzstd-dev libslirp-dev liburing-dev libseccomp-dev
  libvncserver-dev libgnutls28-dev libncurses-dev
  libwebsockets-dev novnc node-xterm libjs-xterm
  libzydis-dev libzycore-dev libxbyak-dev libgtest-dev libgmock-dev nasm python3
)
limen_guest_packages=(mmdebstrap e2fsprogs fakeroot uidmap debian-archive-keyring fdisk dosfstools)
limen_test_packages=(
  seabios ovmf ipxe-qemu
  git libclang-rt-14-dev clang-format clang-tidy-19 shellcheck acpica-tools qemu-utils
  qemu-system-common qemu-system-x86 busybox-static
  gdb iperf3 iproute2 openssh-client passt socat xorriso mtools swtpm
  openssl vncsnapshot
  grub-rescue-pc grub-pc-bin grub-efi-amd64-bin memtest86+
  debian-installer-12-netboot-amd64 debian-installer-12-netboot-i386
  chromium chromium-driver
  libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu
)

# install_packages WHY PACKAGE...: installs those that are not there. Says what before it does.
install_packages() {
  local why=$1 package missing=() installed
  shift
  installed=" $(dpkg-query -W -f '${db:Status-Status}/${Package} ' "$@" 2>/dev/null || true)"
  for package in "$@"; do
    [[ $installed == *" installed/$package "* ]] || missing+=("$package")
  done
  [ ${#missing[@]} -ne 0 ] || return 0
  command -v apt-get >/dev/null || die "no apt-get here; install by hand: ${missing[*]}"
  can_be_root || die "packages are missing, and there is no sudo here; as root, run:" \
    "apt-get install ${missing[*]}"
  say "installing Debian packages ($why): ${missing[*]}"
  mkdir -p "$limen_cache"
  # `sudo` may ask for a password: once, here, in the foreground.
  as_root true
  with_progress "apt-get update" "$limen_cache/apt-update.log" as_root apt-get update
  with_progress "apt-get install" "$limen_cache/apt-install.log" \
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    "${missing[@]}"
}
