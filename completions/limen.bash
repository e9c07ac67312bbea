# Completion of limen, limen-system-x86_64 and limen-img in bash.

# Offers words ($1, separated by blanks) for the word being typed.
_limen_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "${COMP_WORDS[COMP_CWORD]}"); }

_limen_files() {
  mapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
  compopt -o filenames 2>/dev/null
}

_limen_devices="virtio-blk-pci virtio-net-pci e1000 virtio-scsi-pci scsi-hd scsi-cd ide-hd ide-cd
  ich9-ahci piix3-ide nvme VGA bochs-display virtio-gpu-pci virtio-vga virtio-rng-pci
  virtio-serial-pci virtconsole virtserialport virtio-balloon-pci virtio-blk-device
  virtio-net-device virtio-scsi-device virtio-rng-device virtio-serial-device virtio-balloon-device
  pcie-root-port pvpanic pvpanic-pci
  qemu-xhci usb-kbd usb-mouse usb-tablet usb-storage i6300esb tpm-tis tpm-crb
  isa-serial isa-debug-exit isa-debugcon pc-testdev"

_limen() {
  local previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} sub=${COMP_WORDS[2]}
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    _limen_words "run image host --help --version"
    return
  fi
  case $command in
    run)
      case $previous in
        -d | --disk | -k | --kernel | -i | --initrd | --bios) _limen_files ;;
        --cpu) _limen_words "host max qemu64 IvyBridge Opteron_G1" ;;
        --accel) _limen_words "soft kvm kvm:soft" ;;
        --console) _limen_words "stdio none file:" ;;
        --network) _limen_words "user none tap,ifname=" ;;
        --user-data | --meta-data | --network-config | --vendor-data) _limen_files ;;
        -p | --publish | --hostname) ;;
        --device) _limen_words "$_limen_devices help" ;;
        -c | --cpus) _limen_words "1 2 4 8" ;;
        -m | --memory) _limen_words "256M 512M 1G 2G 4G" ;;
        -a | --append | -n | --name) ;;
        *)
          _limen_words "--disk --kernel --bios --initrd --append --memory --cpus --cpu --accel --name
            --console --device --network --publish --user-data --meta-data --network-config
            --vendor-data --hostname --read-only --no-reboot --verbose --help"
          ;;
      esac
      ;;
    image)
      if [ "$COMP_CWORD" -eq 2 ]; then
        _limen_words "bench check commit compare convert create dd info map measure rebase resize seed
          snapshot --help"
        return
      fi
      case ${COMP_WORDS[COMP_CWORD]}/$sub in
        -*/info) _limen_words "--json --force --help" ;;
        -*/resize) _limen_words "--shrink --help" ;;
        -*/create) _limen_words "--help" ;;
        -*/seed)
          _limen_words "--user-data --meta-data --network-config --vendor-data --hostname --help"
          ;;
        *) _limen_files ;;
      esac
      ;;
    host) _limen_words "--json --help" ;;
  esac
}

_limen_system() {
  local previous=${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  case ${previous/#--/-} in
    -kernel | -initrd | -bios | -cdrom | -hda | -hdb | -hdc | -hdd) _limen_files ;;
    -machine | -M) _limen_words "pc q35 microvm none help" ;;
    -accel) _limen_words "soft kvm kvm:soft tcg help" ;;
    -cpu) _limen_words "host max qemu64 IvyBridge Opteron_G1 help" ;;
    -device) _limen_words "$_limen_devices help" ;;
    -serial | -monitor | -qmp | -qmp-pretty)
      _limen_words "stdio mon:stdio web pty file: pipe: unix: tcp: telnet: null none chardev:"
      ;;
    -chardev) _limen_words "socket,id= pty,id= stdio,id= web,id= file,id= pipe,id= null,id= ringbuf,id=" ;;
    -mon) _limen_words "chardev=" ;;
    -action) _limen_words "reboot= shutdown= panic= watchdog=" ;;
    -watchdog-action) _limen_words "reset shutdown poweroff pause debug none inject-nmi" ;;
    -usbdevice) _limen_words "keyboard mouse tablet" ;;
    -tpmdev) _limen_words "emulator,id=" ;;
    -sandbox) _limen_words "on off" ;;
    -msg) _limen_words "timestamp=on" ;;
    -run-with) _limen_words "user=" ;;
    -pidfile | -readconfig) _limen_files ;;
    -object) _limen_words "rng-random,id= rng-builtin,id= iothread,id= throttle-group,id=" ;;
    -blockdev) _limen_words "file,node-name= raw,node-name= qcow2,node-name= throttle,node-name= null-co,node-name=" ;;
    -display) _limen_words "none curses vnc= web web,port=" ;;
    -vnc) _limen_words "none localhost:0 unix: :0" ;;
    -k) _limen_words "en-us" ;;
    -vga) _limen_words "std virtio none help" ;;
    -netdev) _limen_words "user,id= tap,id= bridge,id= socket,id= stream,id= dgram,id= hubport,id= help" ;;
    -nic) _limen_words "user user,model= tap none help" ;;
    -net) _limen_words "nic nic,model= user tap none help" ;;
    -smp) _limen_words "1 2 4 cpus= sockets= dies= cores= threads=" ;;
    -d) _limen_words "in_asm out_asm int help" ;;
    -D) _limen_files ;;
    -rtc) _limen_words "base=utc base=localtime" ;;
    -m) _limen_words "256M 512M 1G 2G 4G" ;;
    -drive)
      _limen_words "file="
      compopt -o nospace 2>/dev/null
      ;;
    -append | -name | -uuid | -echr | -global | -runas) ;;
    *)
      _limen_words "-machine -accel -enable-kvm -cpu -smp -m -kernel -initrd -append -bios -fw_cfg -drive -device
        -blockdev -cdrom -hda -hdb -hdc -hdd -snapshot
        -object -chardev -serial -monitor -display -vnc -k -vga -netdev -nic -net -rtc -name -nographic -nodefaults
        -qmp -qmp-pretty -mon -echr -gdb -s -S -action -watchdog-action -usb -usbdevice -tpmdev -uuid -global -no-hpet -daemonize -pidfile -msg
        -sandbox -runas -run-with -readconfig -no-reboot -no-shutdown -d -D -perfmap -no-user-config
        -trace -add-fd -boot -no-acpi -mem-prealloc -overcommit -audiodev -version -help"
      ;;
  esac
}

_limen_img() {
  local previous=${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    _limen_words "bench check commit compare convert create dd info map measure rebase resize snapshot
      --help --version"
    return
  fi
  case $previous in
    -f | -F | -O | --format) _limen_words "raw qcow2" && return ;;
    -t | -T) _limen_words "none writeback writethrough directsync unsafe" && return ;;
    -r) _limen_words "leaks all" && return ;;
  esac
  case ${COMP_WORDS[COMP_CWORD]}/${COMP_WORDS[1]} in
    -*/create) _limen_words "-f -o -b -F -u -q --help" ;;
    -*/info) _limen_words "-f -U --output=human --output=json --backing-chain --help" ;;
    -*/check) _limen_words "-f -q -r -U --output=human --output=json --help" ;;
    -*/convert) _limen_words "-f -O -o -c -p -n -B -F -l -S -m -W -U -t -T --help" ;;
    -*/resize) _limen_words "-f -q --shrink --preallocation=metadata --preallocation=falloc --preallocation=full --help" ;;
    -*/rebase) _limen_words "-b -F -f -p -u --help" ;;
    -*/commit) _limen_words "-b -d -f -p -q --help" ;;
    -*/compare) _limen_words "-f -F -p -q -s -U --help" ;;
    -*/snapshot) _limen_words "-a -c -d -l -U --help" ;;
    -*/map) _limen_words "-f -U --output=human --output=json --start-offset= --max-length= --help" ;;
    -*/measure) _limen_words "-O -o -f -l --size --output=human --output=json --help" ;;
    -*/bench) _limen_words "-c -d -f -n -o -q -s -S -t -w -U --help" ;;
    *) _limen_files ;;
  esac
}

complete -F _limen limen
complete -F _limen_system limen-system-x86_64
complete -F _limen_img limen-img
