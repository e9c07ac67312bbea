#include <fmt/format.h>

#include <array>

#include "qemu/builder.h"

namespace limen::qemu {
namespace {

constexpr std::array kOptions = {
    Option{"machine",
           "pc|q35[,accel=soft|kvm|kvm:soft][,kernel-irqchip=on|split|off][,hpet=on|off]"
           "[,pit=on|off][,acpi=on|off][,memory-backend=ID]",
           "board", &Builder::machine},
    Option{"M", "pc|q35", "the same", &Builder::machine},
    Option{"accel",
           "soft|kvm[,tier=translator|interpreter][,tb-size=MIB][,stats=on|off]"
           "[,kernel-irqchip=on|split|off][,dirty-ring-size=N]",
           "what runs the guest's instructions (tcg: another name for soft)",
           &Builder::accelerator},
    Option{"enable-kvm", "", "use KVM where there is one, else soft", &Builder::enable_kvm},
    Option{"cpu", "host|max|qemu64[,+feature,-feature]", "processor model", &Builder::cpu},
    Option{"smp", "[cpus=]N[,sockets=N][,dies=N][,cores=N][,threads=N][,maxcpus=N]",
           "number of processors, and how they are grouped", &Builder::smp},
    Option{"m", "[size=]512M", "memory; without a letter in MiB", &Builder::memory},
    Option{"kernel", "FILE", "Linux bzImage, PVH ELF or multiboot kernel", &Builder::kernel},
    Option{"initrd", "FILE", "initial RAM disk, or multiboot modules", &Builder::initrd},
    Option{"append", "TEXT", "kernel command line", &Builder::append},
    Option{"drive",
           "file=FILE[,format=raw][,if=virtio|ide|none][,media=disk|cdrom][,id=ID]\n"
           "          [,index=N][,bus=N][,unit=N]\n"
           "          [,readonly=on|off][,snapshot=on|off][,serial=TEXT]\n"
           "          [,cache=writeback|none|writethrough|directsync|unsafe]\n"
           "          [,aio=threads|native|io_uring][,discard=unmap|ignore]\n"
           "          [,detect-zeroes=off|on|unmap][,file.locking=on|off]\n"
           "          [,rerror=report|ignore|stop][,werror=enospc|report|ignore|stop]\n"
           "          [,throttling.iops-total=N][,throttling.bps-total=N][,...-read][,...-write]\n"
           "          [,...-max=N][,...-max-length=SECONDS][,throttling.iops-size=BYTES]\n"
           "          [,throttling.group=NAME]",
           "disk image", &Builder::drive},
    Option{"blockdev",
           "[driver=]file|raw|host_device|throttle|null-co,node-name=NAME[,file=NODE]\n"
           "          [,filename=FILE][,read-only=on|off][,cache.direct=on|off]... | JSON",
           "disk image, for -device ...,drive=NAME", &Builder::block_device},
    Option{"cdrom", "FILE", "CD-ROM image, in a drive of the board's controller", &Builder::cdrom},
    Option{"hda", "FILE", "first disk", &Builder::hard_disk_a},
    Option{"hdb", "FILE", "second disk", &Builder::hard_disk_b},
    Option{"hdc", "FILE", "third disk", &Builder::hard_disk_c},
    Option{"hdd", "FILE", "fourth disk", &Builder::hard_disk_d},
    Option{"snapshot", "", "what is written to disks is gone when the machine ends",
           &Builder::snapshot},
    Option{"device", "DRIVER[,property=value,...] | JSON", "add a device; -device help lists them",
           &Builder::device},
    Option{
        "object",
        "rng-random,id=ID[,filename=/dev/urandom] | rng-builtin,id=ID | iothread,id=ID |\n"
        "          throttle-group,id=ID[,limits.iops-total=N]... |\n"
        "          secret,id=ID,data=TEXT|file=FILE[,format=raw|base64] |\n"
        "          memory-backend-ram|-memfd,id=ID,size=SIZE[,share=on|off][,prealloc=on|off] |\n"
        "          memory-backend-file,id=ID,size=SIZE,mem-path=PATH[,share=on|off]\n"
        "          | JSON",
        "source of random bytes, I/O thread, limits of disks, secret, memory", &Builder::object},
    Option{
        "chardev",
        "socket,id=ID,path=PATH|host=HOST,port=PORT|fd=FD[,server=on][,wait=off][,telnet=on]\n"
        "          [,reconnect=SECONDS] | pty|stdio|null|web,id=ID | file|pipe,id=ID,path=PATH\n"
        "          | ringbuf,id=ID[,size=BYTES] | udp,id=ID,port=PORT[,host=HOST][,localaddr=...]\n"
        "          [,localport=PORT]; all: [,mux=on][,logfile=FILE[,logappend=on]]",
        "where a serial port, console or monitor leads", &Builder::character},
    Option{
        "serial",
        "stdio|mon:stdio|web|pty|null|none|file:FILE|pipe:PATH|unix:PATH[,server=on][,wait=off]\n"
        "          |tcp:HOST:PORT[,...]|telnet:HOST:PORT[,...]|chardev:ID",
        "serial port (once per port)", &Builder::serial},
    Option{"monitor", "DEVICE", "human monitor on what -serial takes, too; none: no monitor",
           &Builder::monitor},
    Option{"qmp", "DEVICE", "machine protocol (QMP) on what -serial takes, too",
           &Builder::control_monitor},
    Option{"qmp-pretty", "DEVICE", "the same, indented", &Builder::pretty_control_monitor},
    Option{"mon", "[chardev=]ID[,mode=readline|control][,pretty=on]", "monitor on a -chardev",
           &Builder::general_monitor},
    Option{"echr", "NUMBER", "escape key of multiplexed terminals in place of 1 (Ctrl-a)",
           &Builder::escape_key},
    Option{"S", "", "do not start the processors: a monitor's cont does", &Builder::start_paused},
    Option{"display",
           "none | curses | vnc=DISPLAY[,...] |\n"
           "          web[,port=N][,addr=HOST][,token=TOKEN|token=off]",
           "what shows the screen; web: a browser, at the URL that is printed", &Builder::display},
    Option{"vnc",
           "none | [HOST]:N|unix:PATH[,to=N][,password=on|off][,password-secret=ID]\n"
           "          [,tls-creds=ID][,websocket=on|PORT][,lossy=on|off][,id=ID]\n"
           "          [,share=allow-exclusive|force-shared|ignore]",
           "show the screen to VNC clients at port 5900 + N", &Builder::vnc},
    Option{"k", "en-us", "keyboard layout of VNC clients that send symbols",
           &Builder::keyboard_layout},
    Option{"vga", "std|virtio|none", "the graphics card (default: std; with -kernel: none)",
           &Builder::vga},
    Option{"tpmdev", "emulator,id=ID,chardev=ID", "a TPM 2.0: swtpm at the other end of a socket",
           &Builder::tpm_device},
    Option{"usb", "", "a USB controller (xHCI)", &Builder::usb},
    Option{"usbdevice", "keyboard|mouse|tablet", "a USB device, and a controller for it",
           &Builder::usb_device},
    Option{"netdev",
           "user|tap|bridge|socket|stream|dgram|hubport,id=ID[,...]\n"
           "          user[,restrict=on|off][,hostfwd=RULE][,guestfwd=RULE][,tftp=DIR]...\n"
           "          tap[,ifname=NAME][,fd=N][,script=FILE|no][,queues=N]...\n"
           "          stream,addr.type=unix|inet,addr.path=FILE[,server=on|off]...",
           "what stands behind a network card", &Builder::netdev},
    Option{"nic", "TYPE[,model=MODEL][,mac=MAC][,...] | none",
           "a network card and what stands behind it (default: user)", &Builder::nic},
    Option{"net", "nic[,model=MODEL][,macaddr=MAC] | TYPE[,...] | none",
           "the same in two, joined by a hub", &Builder::network},
    Option{"mem-prealloc", "", "have all memory ready from the start", &Builder::preallocate},
    Option{"overcommit", "[mem-lock=on|off][,cpu-pm=on|off]",
           "keep the memory from being swapped out", &Builder::overcommit},
    Option{"boot", "[order=DRIVES][,menu=off][,strict=on|off]...",
           "from where firmware boots: a floppy, c disk, d CD, n network", &Builder::boot},
    Option{"bios", "FILE", "firmware; without a kernel SeaBIOS, if none is named", &Builder::bios},
    Option{"fw_cfg", "[name=]NAME,file=FILE|string=TEXT",
           "an item that firmware and guest can read", &Builder::firmware_item},
    Option{"audiodev", "[driver=]none,id=ID", "there is no sound card yet", &Builder::audio_device},
    Option{"rtc", "[base=utc|localtime|DATE][,driftfix=none|slew]", "real-time clock",
           &Builder::clock},
    Option{"name", "[guest=]TEXT", "name of the machine", &Builder::name},
    Option{"nographic", "", "serial port on this terminal; Ctrl-a h helps, Ctrl-a x ends",
           &Builder::no_graphic},
    Option{"nodefaults", "", "no devices that were not asked for", &Builder::no_defaults},
    Option{"no-reboot", "", "end instead of rebooting", &Builder::no_reboot},
    Option{"no-shutdown", "", "stand still instead of ending at power-off", &Builder::no_shutdown},
    Option{"gdb", "tcp:[HOST]:PORT|unix:PATH|stdio|none", "let a gdb debug the guest",
           &Builder::debugger},
    Option{"s", "", "the same as -gdb tcp::1234", &Builder::debugger_at_default},
    Option{"action", "reboot=reset|shutdown,shutdown=poweroff|pause,panic=shutdown|pause|...",
           "what follows what the guest does", &Builder::action},
    Option{"watchdog-action", "reset|shutdown|poweroff|pause|debug|none|inject-nmi",
           "the same as -action watchdog=", &Builder::watchdog_action},
    Option{"uuid", "UUID", "number of the machine", &Builder::uuid},
    Option{"global", "DRIVER.PROPERTY=VALUE", "default of a device", &Builder::global},
    Option{"no-acpi", "", "no ACPI tables", &Builder::no_acpi},
    Option{"no-hpet", "", "no HPET", &Builder::no_hpet},
    Option{"daemonize", "", "go to the background once the machine is there", &Builder::daemonize},
    Option{"pidfile", "FILE", "write the process's number to FILE", &Builder::pid_file},
    Option{"msg", "[timestamp=on|off]", "how messages look", &Builder::messages},
    Option{"sandbox",
           "on[,obsolete=allow|deny][,elevateprivileges=allow|deny|children]\n"
           "          [,spawn=allow|deny][,resourcecontrol=allow|deny]",
           "refuse system calls that no machine needs", &Builder::sandbox},
    Option{"runas", "USER|UID:GID", "change to that user before the guest runs", &Builder::run_as},
    Option{"run-with", "user=USER|UID:GID", "the same", &Builder::run_with},
    Option{"add-fd", "fd=FD,set=SET[,opaque=TEXT]",
           "file descriptor FD is what /dev/fdset/SET opens", &Builder::add_descriptor},
    Option{"readconfig", "FILE", "options from a file", &Builder::read_configuration},
    Option{"d", "ITEM[,ITEM...]", "log what the engine does; -d help lists the items",
           &Builder::log_items},
    Option{"D", "FILE", "write what -d and -trace log to FILE, not to standard error",
           &Builder::log_file},
    Option{"trace", "[enable=]PATTERN[,events=FILE][,file=FILE]",
           "log events as they happen; -trace help lists them", &Builder::trace_events},
    Option{"perfmap", "", "write /tmp/perf-PID.map, by which perf names the guest's code",
           &Builder::perf_map},
    Option{"no-user-config", "", "taken, without effect: there are no configuration files",
           &Builder::ignore},
    Option{"version", "", "print the version", &Builder::version},
    Option{"help", "", "print this", &Builder::help},
    Option{"h", "", "print this", &Builder::help},
};

}  // namespace

std::span<const Option> options() { return kOptions; }

std::string help_text(std::string_view program) {
  std::string text = fmt::format(
      "Limen {}: a virtual machine, with the options of qemu-system-x86_64\n"
      "usage: {} [options]\n\n",
      LIMEN_VERSION, program);
  for (const auto& option : kOptions) {
    const auto head = fmt::format("-{} {}", option.name, option.argument);
    if (head.size() > 32)
      text += fmt::format("  {}\n  {:<32} {}\n", head, "", option.help);
    else
      text += fmt::format("  {:<32} {}\n", head, option.help);
  }
  text += fmt::format(
      "\n-machine, -accel, -cpu, -d and -device take 'help'; so does -device DRIVER,help.\n\n"
      "example:\n"
      "  {} -M q35 -accel soft -m 1G -nographic \\\n"
      "      -kernel vmlinuz -initrd initrd.img -append \"root=/dev/vda rw console=ttyS0\" \\\n"
      "      -drive file=debian.raw,format=raw,if=virtio\n",
      program);
  return text;
}

}  // namespace limen::qemu
