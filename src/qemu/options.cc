#include <fmt/format.h>

#include <array>

#include "qemu/builder.h"

namespace limen::qemu {
namespace {

constexpr std::array kOptions = {
    Option{"machine", "q35[,accel=soft][,hpet=on|off][,pit=on|off]", "board", &Builder::machine},
    Option{"M", "q35", "the same", &Builder::machine},
    Option{"accel", "soft[,tier=translator|interpreter][,tb-size=MIB][,stats=on|off]",
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
           "file=FILE[,format=raw][,if=virtio|none][,id=ID][,readonly=on|off]\n"
           "          [,cache=writeback|none|writethrough|directsync|unsafe]\n"
           "          [,discard=unmap|ignore][,serial=TEXT]",
           "disk image", &Builder::drive},
    Option{"device", "DRIVER[,property=value,...]", "add a device; -device help lists them",
           &Builder::device},
    Option{"object", "rng-random,id=ID[,filename=/dev/urandom] | rng-builtin,id=ID",
           "source of random bytes", &Builder::object},
    Option{"chardev", "stdio|null,id=ID | file,id=ID,path=FILE[,append=on]",
           "where a serial port or console leads", &Builder::character},
    Option{"serial", "stdio|mon:stdio|file:FILE|null|none|chardev:ID",
           "serial port (once per port)", &Builder::serial},
    Option{"monitor", "none", "there is no monitor yet", &Builder::monitor},
    Option{"display", "none", "there is no display yet", &Builder::display},
    Option{"vga", "none", "there is no graphics card yet", &Builder::vga},
    Option{"net", "none", "there is no network yet", &Builder::network},
    Option{"nic", "none", "there is no network yet", &Builder::network},
    Option{"rtc", "base=utc", "real-time clock", &Builder::clock},
    Option{"name", "[guest=]TEXT", "name of the machine", &Builder::name},
    Option{"nographic", "", "serial port on this terminal; Ctrl-a h helps, Ctrl-a x ends",
           &Builder::no_graphic},
    Option{"nodefaults", "", "no devices that were not asked for", &Builder::no_defaults},
    Option{"no-reboot", "", "end instead of rebooting", &Builder::no_reboot},
    Option{"no-shutdown", "", "stand still instead of ending at power-off", &Builder::no_shutdown},
    Option{"gdb", "tcp:[HOST]:PORT|unix:PATH|stdio|none", "let a gdb debug the guest",
           &Builder::debugger},
    Option{"s", "", "the same as -gdb tcp::1234", &Builder::debugger_at_default},
    Option{"S", "", "start with the processors standing still", &Builder::start_stopped},
    Option{"d", "ITEM[,ITEM...]", "log what the engine does; -d help lists the items",
           &Builder::log_items},
    Option{"D", "FILE", "write what -d logs to FILE, not to standard error", &Builder::log_file},
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
