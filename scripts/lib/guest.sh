# shellcheck shell=bash disable=SC2034,SC2154
# Making the guest: a Debian 12 disk image, with its kernel and initrd beside it. Sourced, not run.
#
# In $guest_folder afterwards: disk.raw (ext4 on the whole disk), vmlinuz, initrd.img. The folder
# appears whole or not at all. In $guest_bench_folder the same with more packages, and in tree/ what is
# on the disk, for running the very same programs without a machine. In $guest_cloud_folder the same
# without a tree, the disk being as published cloud images are: a GUID partition table with a root and
# an EFI system partition, and cloud-init to set it up. In $guest_installed_folder a system with the
# kernel for any hardware and GRUB's files, on two disks: mbr.raw with one partition, efi.raw with a
# GUID partition table, an EFI system partition and a root. GRUB itself is installed on them by whoever
# boots them first, as on any other machine. In $guest_desktop_folder the first guest again with the
# kernel for any hardware, as far as a machine of ours has that hardware, and Xfce, which user "user"
# (password limen) is logged in to.

# Bump when the recipe below changes: an older disk is then left alone and a new one made.
guest_recipe=1
guest_folder=$limen_cache/debian-12-$guest_recipe
guest_size=3G
guest_bench_folder=$limen_cache/debian-12-bench-$guest_recipe
guest_cloud_folder=$limen_cache/debian-cloud-12-$guest_recipe
guest_installed_folder=$limen_cache/debian-installed-12-$guest_recipe
guest_desktop_folder=$limen_cache/debian-desktop-12-$guest_recipe

# Systemd, the kernel, and what a person expects at a shell. Not the network: there is none yet.
guest_packages=(
  linux-image-cloud-amd64 systemd systemd-sysv udev dbus libpam-systemd
  login passwd util-linux mount e2fsprogs kmod procps iproute2 less nano
)
# What scripts/bench measures with, besides.
guest_bench_packages=(openssl 7zip python3 sqlite3 g++ perl zstd)
# What sets a cloud image up, and how people get into it.
guest_cloud_packages=(cloud-init cloud-guest-utils netplan.io openssh-server sudo)
# What starts from firmware.
guest_installed_packages=(
  linux-image-amd64 systemd systemd-sysv udev dbus libpam-systemd login passwd util-linux mount
  e2fsprogs kmod procps iproute2 grub2-common grub-pc-bin grub-efi-amd64-bin xen-hypervisor-4.17-amd64
)
# What shows a desktop on a graphics card.
guest_desktop_packages=(
  linux-image-amd64 systemd systemd-sysv udev dbus dbus-user-session libpam-systemd login passwd
  util-linux mount e2fsprogs kmod procps
  xserver-xorg-core xserver-xorg-input-libinput xinit fonts-dejavu-core adwaita-icon-theme
  xfce4-session xfce4-settings xfce4-panel xfwm4 xfdesktop4 xfce4-terminal
)
# The kernel's drivers for hardware that no machine of ours has; they are most of the disk.
guest_desktop_without=(
  drivers/{edac,hwmon,iio,infiniband,isdn,media,mtd,net,staging,usb/serial} 'drivers/scsi/*'
  drivers/gpu/drm/{amd,i915,nouveau,radeon} sound
)

# shellcheck disable=SC2016
# The Debian repositories that this host's apt is set up with, as sources.list lines.
guest_sources() {
  apt-get indextargets --format '$(CREATED_BY)|$(ORIGIN)|$(RELEASE)|$(REPO_URI)|$(COMPONENT)' |
    awk -F '|' '$1 == "Packages" && $2 == "Debian" && $3 ~ /^bookworm(-updates|-security)?$/ &&
      $5 == "main" && !seen[$3, $4]++ { print "deb " $4 " " $3 " main" }'
}

# What makes the new system ("$1") a guest. Given to mmdebstrap as text: where that works as another
# user, it could not read a file in our home.
guest_customize() {
  cat <<'SCRIPT'
set -eu
root=$1
echo limen-guest >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 limen-guest\n' >"$root/etc/hosts"
printf '/dev/vda / ext4 defaults,errors=remount-ro 0 1\n' >"$root/etc/fstab"
echo 'root:limen' | chroot "$root" chpasswd
# A login prompt on the serial port and, when there is one, on the virtio console. getty@tty1 has no
# screen to stand on. There is no network for apt's timers, and no LVM for the scrubber.
chroot "$root" systemctl enable serial-getty@ttyS0.service
chroot "$root" systemctl mask getty@tty1.service systemd-networkd-wait-online.service \
  apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service
chroot "$root" systemctl set-default multi-user.target
# An emulated machine on a busy host may need minutes for what systemd gives 90 seconds.
mkdir -p "$root/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultTimeoutStartSec=900s\nDefaultDeviceTimeoutSec=900s\n' \
  >"$root/etc/systemd/system.conf.d/slow-machine.conf"
# Every machine made from this image gets its own identity at first boot.
: >"$root/etc/machine-id"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
SCRIPT
}

# What the desktop ("$1" is its root) gets before its kernel is installed: an initial RAM disk with no more
# than it takes to mount the root. The other drivers are loaded from there.
guest_desktop_prepare() {
  cat <<'SCRIPT'
set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
echo 'MODULES=list' >"$1/etc/initramfs-tools/conf.d/limen"
printf '%s\n' virtio_pci virtio_blk ext4 >"$1/usr/share/initramfs-tools/modules.d/limen"
SCRIPT
}

# And at the end: somebody who is logged in on the first virtual terminal, where the X server then is.
guest_desktop_customize() {
  cat <<'SCRIPT'
set -eu
root=$1
chroot "$root" useradd --create-home --shell /bin/bash user
echo 'user:limen' | chroot "$root" chpasswd
cat >"$root/etc/systemd/system/desktop.service" <<UNIT
[Unit]
Description=Xfce on the first virtual terminal
Wants=systemd-logind.service
After=systemd-logind.service systemd-user-sessions.service

[Service]
User=user
WorkingDirectory=~
PAMName=login
TTYPath=/dev/tty1
TTYReset=yes
StandardInput=tty
StandardOutput=journal
UtmpIdentifier=tty1
UtmpMode=user
ExecStart=/usr/bin/startx /usr/bin/startxfce4 -- vt1 -keeptty

[Install]
WantedBy=graphical.target
UNIT
chroot "$root" systemctl enable desktop.service
chroot "$root" systemctl set-default graphical.target
SCRIPT
}

# How each script that packs a guest begins: it unpacks the archive (argument 1) in the work folder
# (argument 2), and puts kernel and initrd beside the disk, of argument 3's size. Under fakeroot, so
# that files keep their owners without root.
guest_unpack() {
  cat <<'SCRIPT'
set -eu
archive=$1 work=$2 size=$3
mkdir "$work/root"
tar -C "$work/root" --numeric-owner --xattrs --xattrs-include='*' -xf "$archive"
cp "$work"/root/boot/vmlinuz-* "$work/out/vmlinuz"
cp "$work"/root/boot/initrd.img-* "$work/out/initrd.img"
chmod 644 "$work"/out/*
SCRIPT
}

# Makes a file system on the whole disk.
guest_pack() {
  guest_unpack
  cat <<'SCRIPT'
truncate -s "$size" "$work/out/disk.raw"
mke2fs -q -F -t ext4 -L limen-root -E lazy_itable_init=0,root_owner=0:0 \
  -d "$work/root" "$work/out/disk.raw"
SCRIPT
}

# The same with a partition table around the file system, the partitions numbered as on Debian's cloud
# images: 1 the root, 14 for a boot loader of the BIOS's, 15 the EFI system partition.
guest_cloud_pack() {
  guest_unpack
  cat <<'SCRIPT'
disk=$work/out/disk.raw
truncate -s "$size" "$disk"
sfdisk -q "$disk" <<TABLE
label: gpt
15 : start=8192, size=120M, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
14 : start=2048, size=3M, type=21686148-6449-6E6F-744E-656564454649
1 : start=262144, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
TABLE
part() {
  sfdisk --dump "$disk" | sed -n "s/.*disk.raw$1 : start= *\([0-9]*\), size= *\([0-9]*\), .*uuid=\([^,]*\).*/\1 \2 \3/p" |
    tr A-F a-f
}
set -- $(part 15)
truncate -s $(($2 * 512)) "$work/efi"
mkfs.vfat -n EFI "$work/efi" >/dev/null
dd if="$work/efi" of="$disk" bs=64k seek=$(($1 * 512))B conv=notrunc,sparse status=none
efi=$3
set -- $(part 1)
{
  echo "PARTUUID=$3 / ext4 defaults,errors=remount-ro,x-systemd.growfs 0 1"
  echo "PARTUUID=$efi /boot/efi vfat umask=0077,nofail 0 2"
} >"$work/root/etc/fstab"
mkdir -p "$work/root/boot/efi"
# There are no other locales in it.
echo 'locale: C.UTF-8' >"$work/root/etc/cloud/cloud.cfg.d/50_locale.cfg"
truncate -s $(($2 * 512)) "$work/ext4"
mke2fs -q -F -t ext4 -L limen-root -E lazy_itable_init=0,root_owner=0:0 -d "$work/root" "$work/ext4"
dd if="$work/ext4" of="$disk" bs=64k seek=$(($1 * 512))B conv=notrunc,sparse status=none
SCRIPT
}

# The same on two disks, mbr.raw and efi.raw, for a machine whose firmware starts them.
guest_installed_pack() {
  guest_unpack
  cat <<'SCRIPT'
{
  echo "LABEL=limen-root / ext4 defaults,errors=remount-ro 0 1"
  echo "LABEL=EFI /boot/efi vfat umask=0077,nofail 0 2"
} >"$work/root/etc/fstab"
mkdir -p "$work/root/boot/efi"
cat >"$work/root/etc/default/grub" <<DEFAULTS
GRUB_TIMEOUT=2
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=quiet
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
XEN_OVERRIDE_GRUB_DEFAULT=0
DEFAULTS
truncate -s "$size" "$work/ext4"
mke2fs -q -F -t ext4 -L limen-root -E lazy_itable_init=0,root_owner=0:0 -d "$work/root" "$work/ext4"
truncate -s 64M "$work/efi"
mkfs.vfat -n EFI "$work/efi" >/dev/null
# put FILE DISK MIB
put() { dd if="$1" of="$2" bs=1M seek="$3" conv=notrunc,sparse status=none; }
mbr=$work/out/mbr.raw efi=$work/out/efi.raw
truncate -s "$size" "$mbr" "$efi"
truncate -s +2M "$mbr"
echo 'start=2048, type=83, bootable' | sfdisk -q --label dos "$mbr"
put "$work/ext4" "$mbr" 1
truncate -s +66M "$efi"
sfdisk -q --label gpt "$efi" <<TABLE
start=2048, size=64M, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
start=133120, size=$size, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
TABLE
put "$work/efi" "$efi" 1
put "$work/ext4" "$efi" 65
SCRIPT
}

# guest_build_with PACK WORK PACKAGE...: builds into the folder WORK a guest with these packages;
# everything it needs lies inside. $guest_options, if set, are more options for mmdebstrap.
guest_build_with() (
  set -euo pipefail
  pack=$1 work=$2
  shift 2
  sources=$(guest_sources)
  if [ -z "$sources" ]; then
    echo "apt on this host knows no Debian bookworm repository (apt-get indextargets)" >&2
    exit 1
  fi
  mkdir "$work/out"
  "$pack" >"$work/pack"
  printf -v include '%s,' "$@"
  mmdebstrap --variant=minbase --include="${include%,}" --format=tar \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --customize-hook="$(guest_customize)" "${guest_options[@]}" \
    bookworm - - <<<"$sources" >"$work/root.tar"
  echo "making the file system"
  fakeroot sh "$work/pack" "$work/root.tar" "$work" "$guest_size"
)

guest_build() { guest_build_with guest_pack "$@"; }
guest_build_cloud() { guest_build_with guest_cloud_pack "$@"; }
guest_build_installed() { guest_build_with guest_installed_pack "$@"; }
guest_build_desktop() {
  local drivers guest_options=(
    --essential-hook="$(guest_desktop_prepare)" --customize-hook="$(guest_desktop_customize)"
  )
  for drivers in "${guest_desktop_without[@]}"; do
    guest_options+=(--dpkgopt="path-exclude=/lib/modules/*/kernel/$drivers/*")
  done
  guest_build_with guest_pack "$@"
}

# As guest_build, with the disk's files in a folder beside it. They belong to whoever runs this; devices, which
# only root could make, stay out.
guest_build_with_tree() {
  guest_build "$@"
  echo "unpacking the files"
  mkdir "$1/out/tree"
  tar -C "$1/out/tree" --no-same-owner --exclude='./dev/*' -xf "$1/root.tar"
}

# make_guest_in FOLDER TITLE BUILDER PACKAGE...: makes a guest in FOLDER unless it is there.
make_guest_in() {
  local folder=$1 title=$2 builder=$3 work
  shift 3
  [ ! -d "$folder" ] || return 0
  mkdir -p "$limen_cache"
  # Two callers at once: the second waits and finds the first one's disk.
  exec 8>"$limen_cache/guest.lock"
  flock 8
  if [ ! -d "$folder" ]; then
    work=$(mktemp -d "$limen_cache/making-guest.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    say "the guest disk is made once and kept in $folder"
    with_progress "$title" "$limen_cache/make-guest.log" "$builder" "$work" "$@"
    mv "$work/out" "$folder"
    rm -rf "$work"
    trap - EXIT
  fi
  exec 8>&-
}

# make_guest: makes the guest disk unless it is there.
make_guest() {
  make_guest_in "$guest_folder" "making a Debian 12 disk (downloads about 130 MB)" guest_build \
    "${guest_packages[@]}"
}

# make_bench_guest: the same for the guest that scripts/bench measures in.
make_bench_guest() {
  make_guest_in "$guest_bench_folder" "making a Debian 12 disk to measure in (downloads about 220 MB)" \
    guest_build_with_tree "${guest_packages[@]}" "${guest_bench_packages[@]}"
}

# make_cloud_guest: the same for the guest that cloud-init sets up.
make_cloud_guest() {
  make_guest_in "$guest_cloud_folder" "making a Debian 12 cloud image (downloads about 170 MB)" \
    guest_build_cloud "${guest_packages[@]}" "${guest_cloud_packages[@]}"
}

# make_installed_guest: the same for the guest that firmware starts.
make_installed_guest() {
  make_guest_in "$guest_installed_folder" "making Debian 12 disks with a boot loader (downloads about 200 MB)" \
    guest_build_installed "${guest_installed_packages[@]}"
}

# make_desktop_guest: the same for the guest with a desktop.
make_desktop_guest() {
  make_guest_in "$guest_desktop_folder" "making a Debian 12 disk with a desktop (downloads about 240 MB)" \
    guest_build_desktop "${guest_desktop_packages[@]}"
}

# Debian's kernel for any hardware, in a folder of its own: vmlinuz, and the modules (*.ko) that the tests
# load. The guest's own, for clouds, has no drivers of such cards.
guest_kernel_recipe=6
guest_kernel_folder=$limen_cache/kernel-debian-12-$guest_kernel_recipe
guest_kernel_modules=(
  virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk
  crc16 crc32c_generic mbcache jbd2 ext4 e1000
  scsi_common scsi_mod crct10dif_common crc-t10dif crct10dif_generic crc64 crc64-rocksoft_generic
  crc64-rocksoft t10-pi libata libahci ahci ata_piix ata_generic sd_mod cdrom sr_mod nvme-common
  nvme-core nvme drm drm_kms_helper ttm drm_ttm_helper drm_vram_helper bochs drm_shmem_helper
  virtio_dma_buf virtio-gpu usb-common usbcore xhci-hcd xhci-pci usb-storage uas hid hid-generic
  usbhid evdev watchdog i6300esb tpm tpm_tis_core tpm_tis tpm_crb
  irqbypass ccp kvm kvm-amd
  failover net_failover virtio_net tun tap vhost_iotlb vhost vhost_net
)

guest_build_kernel() (
  set -euo pipefail
  work=$1
  shift
  package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2 }')
  mkdir "$work/out" "$work/out/modules"
  cd "$work"
  apt-get download "$package"
  dpkg-deb -x linux-image-*.deb root
  cp root/boot/vmlinuz-* out/vmlinuz
  for module in "$@"; do
    find root/lib/modules -name "$module.ko" -exec cp {} out/modules/ \;
  done
)

# make_guest_kernel: fetches it unless it is there.
make_guest_kernel() {
  make_guest_in "$guest_kernel_folder" "fetching Debian's kernel (70 MB)" guest_build_kernel \
    "${guest_kernel_modules[@]}"
}
