#include "qemu/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "kvm/device.h"
#include "machine/accelerators.h"
#include "machine/device_catalog.h"
#include "qemu/builder.h"

namespace limen::qemu {
namespace {

using machine::CharacterDescription;
using testing::HasSubstr;

std::vector<std::string> words(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> out;
  for (std::string word; stream >> word;) out.push_back(word);
  return out;
}

Result<CommandLine> parse(const std::string& line) {
  return parse_command_line("limen-system-x86_64", words(line));
}

/// Parses with what every machine needs in front.
machine::MachineDescription machine(const std::string& line) {
  auto parsed = parse("-kernel k " + line);
  if (!parsed) ADD_FAILURE() << line << ": " << parsed.error().message;
  return parsed ? parsed->machine : machine::MachineDescription{};
}

std::string error(const std::string& line) {
  const auto parsed = parse("-kernel k " + line);
  return parsed ? "no error" : parsed.error().message;
}

TEST(CommandLine, DefaultsAreQemus) {
  const auto description = machine("-display none");
  EXPECT_EQ(description.type, "pc");
  EXPECT_EQ(description.memory_bytes, uint64_t{128} << 20);
  EXPECT_EQ(description.kernel, "k");
  ASSERT_EQ(description.serials.size(), 1u);
  EXPECT_EQ(description.characters.front().kind, CharacterDescription::Kind::kNull);
}

TEST(CommandLine, WithoutAKernelFirmwareBootsAPcWithAScreen) {
  const auto of = [](const std::string& line) { return parse(line).value().machine; };
  const auto plain = of("disk.img");
  EXPECT_EQ(plain.type, "pc");
  ASSERT_EQ(plain.devices.size(), 2u) << "a graphics card, and a network card behind it";
  EXPECT_EQ(plain.devices[0].driver, "VGA");
  ASSERT_EQ(plain.drives.size(), 1u);
  EXPECT_EQ(plain.drives[0].interface, "ide");
  EXPECT_EQ(of("-drive file=disk.img,format=raw").drives[0].interface, "ide");
  EXPECT_EQ(of("-M q35 -nodefaults disk.img").type, "q35");
  EXPECT_TRUE(of("-M q35 -nodefaults disk.img").devices.empty());
  const auto efi = machine("-bios OVMF.fd -drive file=disk.img,format=raw");
  EXPECT_EQ(efi.bios, "OVMF.fd");
  EXPECT_EQ(efi.type, "pc");
  EXPECT_EQ(efi.drives[0].interface, "ide");
  EXPECT_EQ(machine("-drive file=disk.img,format=raw").drives[0].interface, "ide");
  EXPECT_EQ(machine("-M microvm -drive file=disk.img,format=raw").drives[0].interface, "virtio");
}

TEST(CommandLine, BootOrderAndFlashAreTaken) {
  const auto description = machine(
      "-boot order=dc,once=n,menu=on,splash-time=100,strict=on "
      "-drive if=pflash,file=code.fd,readonly=on -fw_cfg name=opt/a/b,string=hello");
  EXPECT_EQ(description.boot.order, "dc");
  EXPECT_EQ(description.boot.once, "n");
  EXPECT_TRUE(description.boot.menu);
  EXPECT_TRUE(description.boot.strict);
  EXPECT_EQ(description.boot.splash_time, 100u);
  EXPECT_EQ(description.drives[0].interface, "pflash");
  ASSERT_EQ(description.firmware_items.size(), 1u);
  EXPECT_EQ(description.firmware_items[0].content.size(), 5u);
  const auto nodes =
      machine("-blockdev driver=file,filename=code.fd,node-name=c -machine q35,pflash0=c");
  EXPECT_EQ(nodes.drives[0].interface, "pflash");
  EXPECT_EQ(nodes.drives[0].index, 0u);
  EXPECT_THAT(error("-machine q35,pflash1=x"), HasSubstr("pflash1' can't find value 'x'"));
  EXPECT_THAT(error("-fw_cfg name=opt/a"), HasSubstr("either file= or string="));
}

TEST(CommandLine, BothDashesAreTaken) {
  EXPECT_EQ(machine("--m 1G --nographic").memory_bytes, uint64_t{1} << 30);
}

TEST(CommandLine, MemoryIsInMebibytesAndRoundedUp) {
  EXPECT_EQ(machine("-nographic -m 512").memory_bytes, uint64_t{512} << 20);
  EXPECT_EQ(machine("-nographic -m size=2G").memory_bytes, uint64_t{2} << 30);
  EXPECT_EQ(machine("-nographic -m 1000001b").memory_bytes, 1007616u);
}

TEST(CommandLine, MemoryThatIsNoneOrNotASizeIsAnError) {
  EXPECT_THAT(error("-m 0"), HasSubstr("-m 0: a machine needs memory"));
  EXPECT_THAT(error("-m lots"), HasSubstr("-m lots: 'lots' is not a size"));
  EXPECT_THAT(error("-m 99999999999999999999"), HasSubstr("too large a size"));
}

TEST(CommandLine, NographicPutsSerialPortAndEscapeOnTheTerminal) {
  const auto description = machine("-nographic");
  ASSERT_EQ(description.characters.size(), 1u);
  EXPECT_EQ(description.characters[0].kind, CharacterDescription::Kind::kStdio);
  EXPECT_TRUE(description.characters[0].multiplexed);
  EXPECT_EQ(description.serials, std::vector{description.characters[0].id});
}

TEST(CommandLine, NodefaultsLeavesTheSerialPortOut) {
  EXPECT_TRUE(machine("-nodefaults -nographic").serials.empty());
  EXPECT_EQ(machine("-nodefaults -serial stdio").serials.size(), 1u);
}

TEST(CommandLine, SerialPortsGoWhereTheySay) {
  const auto description =
      machine("-serial mon:stdio -serial file:/tmp/log -serial null -serial none");
  ASSERT_EQ(description.serials.size(), 3u);
  EXPECT_TRUE(description.characters[0].multiplexed);
  EXPECT_EQ(description.characters[1].path, "/tmp/log");
  EXPECT_THAT(error("-serial stdoi"), HasSubstr("did you mean 'stdio'?"));
  EXPECT_EQ(error("-serial file:"), "-serial file:: a path is missing, as in file:serial.log");
  EXPECT_THAT(error("-serial chardev:"), HasSubstr("the id of a -chardev is missing"));
  EXPECT_THAT(error("-serial chardev:c0"), HasSubstr("there is no -chardev 'c0'"));
}

TEST(CommandLine, TheTerminalHasOneUser) {
  EXPECT_THAT(error("-serial stdio -serial mon:stdio"),
              HasSubstr("cannot use stdio by multiple character devices"));
}

TEST(CommandLine, DriveIsReadWhole) {
  const auto description = machine(
      "-nographic -net none -drive file=a,,b.img,format=raw,if=none,id=d0,readonly=on,cache=none,"
      "discard=ignore,serial=S1 -device virtio-blk-pci,drive=d0,num-queues=2");
  ASSERT_EQ(description.drives.size(), 1u);
  const auto& drive = description.drives[0];
  EXPECT_EQ(drive.file, "a,b.img");
  EXPECT_EQ(drive.interface, "none");
  EXPECT_TRUE(drive.read_only);
  EXPECT_EQ(drive.cache, "none");
  EXPECT_FALSE(drive.discard_unmap);
  EXPECT_EQ(drive.serial, "S1");
  ASSERT_EQ(description.devices.size(), 1u);
  EXPECT_EQ(description.devices[0].properties.at("num-queues"), "2");
}

TEST(CommandLine, DriveErrorsNameTheValueAndTheNearestChoice) {
  EXPECT_THAT(error("-drive file=a,format=qcow"),
              HasSubstr("is in qcow format, which is not supported"));
  EXPECT_THAT(error("-drive file=a,if=virtoi"), HasSubstr("did you mean 'virtio'?"));
  EXPECT_THAT(error("-drive file=a,cache=writebck"), HasSubstr("did you mean 'writeback'?"));
  EXPECT_THAT(error("-drive file=a,raedonly=on"),
              HasSubstr("Invalid parameter 'raedonly'; did you mean 'readonly'?"));
  EXPECT_THAT(error("-drive file=a,readonly=maybe"),
              HasSubstr("Parameter 'readonly' expects 'on' or 'off', not 'maybe'"));
  EXPECT_THAT(error("-drive format=raw"), HasSubstr("file= is missing"));
  EXPECT_THAT(error("-drive file=a,if=none"), HasSubstr("if=none needs id="));
}

TEST(CommandLine, DeviceErrorsNameTheValueAndTheNearestChoice) {
  EXPECT_THAT(
      error("-device virtio-blk-pic"),
      HasSubstr(
          "'virtio-blk-pic' is not a valid device model name; did you mean 'virtio-blk-pci'?"));
  EXPECT_THAT(error("-device virtio-rng-pci,maxbytes=1"),
              HasSubstr("Property 'virtio-rng-pci.maxbytes' not found; did you mean 'max-bytes'?"));
  EXPECT_THAT(error("-device virtio-blk-pci,drive=d0,num-queues=99"),
              HasSubstr("num-queues' doesn't take value '99': out of range; valid: 1 to 64"));
  EXPECT_THAT(error("-device virtio-blk-pci,drive=nope"),
              HasSubstr("Property 'virtio-blk-pci.drive' can't find value"));
  EXPECT_THAT(error("-device virtio-blk-pci"), HasSubstr("drive property not set"));
  EXPECT_THAT(error("-device isa-debug-exit,iobase=zz"), HasSubstr("'zz' is not a number"));
  EXPECT_THAT(error("-device virtio-rng-pci,id=a -device virtio-rng-pci,id=a"),
              HasSubstr("Duplicate ID 'a' for device"));
}

TEST(CommandLine, DeviceAliasesBecomeTheirNames) {
  EXPECT_EQ(machine("-nographic -device virtio-rng").devices[0].driver, "virtio-rng-pci");
}

TEST(CommandLine, RandomSourcesAreReferredToById) {
  EXPECT_EQ(machine("-nographic -object rng-random,id=r0,filename=/dev/urandom "
                    "-device virtio-rng-pci,rng=r0")
                .objects.size(),
            1u);
  EXPECT_THAT(error("-nographic -device virtio-rng-pci,rng=r1"), HasSubstr("not found"));
  EXPECT_THAT(error("-object rng-randm,id=r0"), HasSubstr("did you mean 'rng-random'?"));
}

TEST(CommandLine, UnknownOptionNamesTheNearest) {
  EXPECT_EQ(error("-nogrphic"), "-nogrphic: invalid option; did you mean '-nographic'?");
  EXPECT_EQ(error("--kernal x"), "--kernal: invalid option; did you mean '-kernel'?");
  EXPECT_EQ(error("-append"), "option '-append' needs an argument");
}

TEST(CommandLine, AcceleratorsAreSoftItsOtherNameAndKvm) {
  EXPECT_EQ(machine("-nographic -accel tcg").accelerator, "soft");
  EXPECT_EQ(machine("-nographic -M q35,accel=tcg").accelerator, "soft");
  const std::string better = machine::kvm_is_the_choice() ? "kvm" : "soft";
  EXPECT_EQ(machine("-nographic -accel kvm:soft").accelerator, better);
  EXPECT_EQ(machine("-nographic -M q35,accel=kvm:tcg").accelerator, better);
  EXPECT_EQ(machine("-nographic -enable-kvm").accelerator, better);
  if (kvm::Device::open())
    EXPECT_EQ(machine("-nographic -accel kvm").accelerator, "kvm");
  else
    EXPECT_THAT(error("-accel kvm"), HasSubstr("use -accel soft"));
  EXPECT_THAT(error("-accel sotf"), HasSubstr("did you mean 'soft'?"));
  EXPECT_EQ(machine("-nographic -accel soft,kernel-irqchip=split")
                .accelerator_properties.at("kernel-irqchip"),
            "split");
  EXPECT_EQ(
      machine("-nographic -M q35,kernel-irqchip=off").accelerator_properties.at("kernel-irqchip"),
      "off");
  EXPECT_THAT(error("-M q35,kernel-irqchip=halt"), HasSubstr("kernel-irqchip"));
  EXPECT_EQ(machine("-nographic -accel soft,dirty-ring-size=1024")
                .accelerator_properties.at("dirty-ring-size"),
            "1024");
  EXPECT_THAT(error("-accel soft,dirty-ring-size=1000"),
              HasSubstr("dirty-ring-size=1000: should be a power of two up to 65536, or 0"));
}

TEST(CommandLine, TheFirstAcceleratorThatIsThereIsTakenWithWhatItWasTold) {
  const std::string better = machine::kvm_is_the_choice() ? "kvm" : "soft";
  const auto chosen = machine("-accel kvm,kernel-irqchip=split -accel tcg,tb-size=64");
  EXPECT_EQ(chosen.accelerator, better);
  EXPECT_EQ(chosen.accelerator_properties.contains("kernel-irqchip"), better == "kvm");
  EXPECT_EQ(chosen.accelerator_properties.contains("tb-size"), better == "soft");
  EXPECT_EQ(machine("-accel soft,tb-size=64 -accel kvm").accelerator, "soft");
  EXPECT_EQ(machine("-M q35,accel=kvm -accel tcg").accelerator, "soft");
  EXPECT_EQ(machine("-accel tcg -M q35,accel=kvm").accelerator, "soft");
  // -machine may name those of other builds.
  EXPECT_EQ(machine("-M q35,accel=xen:tcg").accelerator, "soft");
  EXPECT_THAT(error("-M q35,accel=xen:hvf"), HasSubstr("invalid accelerator 'xen'"));
  EXPECT_THAT(error("-accel tcg -accel xen"), HasSubstr("invalid accelerator 'xen'"));
}

TEST(CommandLine, AcceleratorsTakeTheAdviceThatIsForQemu) {
  EXPECT_EQ(machine("-accel tcg,thread=multi,split-wx=off").accelerator, "soft");
  EXPECT_THAT(error("-accel tcg,thread=many"), HasSubstr("'thread' does not accept value 'many'"));
  machine("-accel kvm:tcg,kvm-shadow-mem=8M,notify-vmexit=run,notify-window=0");
  EXPECT_THAT(error("-accel tcg,notify-vmexit=never"), HasSubstr("notify-vmexit"));
  EXPECT_EQ(machine("-M q35,kernel_irqchip=off").accelerator_properties.at("kernel-irqchip"),
            "off");
}

TEST(CommandLine, MachineAndProcessorsAreChecked) {
  EXPECT_FALSE(machine("-nographic -M q35,hpet=off").hpet);
  EXPECT_FALSE(machine("-nographic -M q35,pit=off").pit);
  EXPECT_EQ(machine("-nographic -M pc").type, "pc");
  EXPECT_EQ(machine("-nographic -M q35").type, "q35");
  EXPECT_THAT(error("-M isapc"), HasSubstr("unsupported machine type 'isapc'; valid choices: pc"));
  EXPECT_THAT(error("-M q36"), HasSubstr("did you mean 'q35'?"));
  EXPECT_EQ(machine("-nographic -smp 4").vcpus, 4u);
  EXPECT_THAT(error("-smp zero"), HasSubstr("not a positive number"));
  EXPECT_EQ(machine("-nographic -smp 1,sockets=1").vcpus, 1u);
  EXPECT_EQ(machine("-nographic -smp sockets=2,cores=3").topology->sockets, 2u);
  EXPECT_EQ(machine("-nographic -smp sockets=2,cores=3").vcpus, 6u);
}

TEST(CommandLine, WhatIsNotThereYetTakesNone) {
  machine("-nographic -vga none -net none -nic none -monitor none -rtc base=utc");
  EXPECT_THAT(error("-vga foo"), HasSubstr("unknown vga type: foo"));
  EXPECT_THAT(error("-vga qxl"), HasSubstr("graphics card 'qxl' is not there"));
  EXPECT_THAT(error("-rtc base=2006-06-31x"), HasSubstr("invalid datetime format '2006-06-31x'"));
}

TEST(CommandLine, TheBrowsersConsoleIsRead) {
  using Kind = CharacterDescription::Kind;
  const auto plain = machine("-display web");
  ASSERT_TRUE(plain.web);
  EXPECT_EQ(plain.web->host, "127.0.0.1");
  EXPECT_EQ(plain.web->first_port, 5780);
  EXPECT_EQ(plain.web->last_port, 5879);
  EXPECT_TRUE(plain.web->needs_token);
  EXPECT_EQ(plain.web->token, "");
  ASSERT_EQ(plain.serials.size(), 1u);
  EXPECT_EQ(plain.characters.front().kind, Kind::kWeb);
  const auto chosen = machine("-display web,port=80,addr=[::],token=0123456789abcdef -vnc :1").web;
  EXPECT_EQ(chosen->host, "::");
  EXPECT_EQ(chosen->first_port, 80);
  EXPECT_EQ(chosen->last_port, 80);
  EXPECT_EQ(chosen->token, "0123456789abcdef");
  EXPECT_FALSE(machine("-display web,token=off").web->needs_token);
  // The terminal has the serial port, as QEMU's users expect.
  EXPECT_EQ(machine("-nographic -display web").characters.front().kind, Kind::kStdio);
  EXPECT_EQ(machine("-display web -serial null -monitor web").characters.back().kind, Kind::kWeb);
  EXPECT_EQ(machine("-display web -chardev web,id=c").characters.front().id, "c");
  EXPECT_FALSE(machine("-display web -display none").web);
  EXPECT_THAT(error("-display web,port=65536"), HasSubstr("port=65536 is no port"));
  EXPECT_THAT(error("-display web,token=x"), HasSubstr("token= has 1 characters"));
  EXPECT_THAT(error("-display web,token=0123456789abcde/"), HasSubstr("letters, digits"));
  EXPECT_THAT(error("-display web,addr="), HasSubstr("addr= is empty"));
  EXPECT_THAT(error("-display web,prot=1"), HasSubstr("prot"));
  EXPECT_THAT(error("-serial web"), HasSubstr("chardev 'serial0' is one of the browser's"));
}

TEST(CommandLine, VncServersAreRead) {
  using Display = machine::MachineDescription::Display;
  EXPECT_EQ(machine("").display, Display::kDefault);
  EXPECT_EQ(machine("-nographic").display, Display::kNone);
  EXPECT_EQ(machine("-display none").display, Display::kNone);
  EXPECT_EQ(machine("-display curses").display, Display::kCurses);
  EXPECT_EQ(machine("-vnc none").display, Display::kVnc);
  EXPECT_TRUE(machine("-vnc none").vnc_servers.empty());
  const auto both = machine(
                        "-nographic -vnc :3,password=on,share=ignore,websocket=on,lossy=on "
                        "-display vnc=unix:/v,id=x,tls-creds=t")
                        .vnc_servers;
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].id, "default");
  EXPECT_EQ(both[0].address.host, "");
  EXPECT_EQ(both[0].address.port, "5903");
  EXPECT_EQ(both[0].websocket->port, "5703");
  EXPECT_TRUE(both[0].password);
  EXPECT_TRUE(both[0].lossy);
  EXPECT_EQ(both[0].share, vnc::SharePolicy::kIgnore);
  EXPECT_EQ(both[1].id, "x");
  EXPECT_EQ(both[1].address.path, "/v");
  EXPECT_EQ(both[1].tls_credentials, "t");
  EXPECT_EQ(machine("-vnc [::1]:0,to=9").vnc_servers[0].address.host, "::1");
  EXPECT_EQ(machine("-vnc [::1]:0,to=9").vnc_servers[0].address.last_port, 5909);
  EXPECT_THAT(error("-vnc 5900"), HasSubstr("HOST:NUMBER"));
  EXPECT_THAT(error("-vnc :x"), HasSubstr("error converting display number 'x'"));
  EXPECT_THAT(error("-vnc :0,to=x"), HasSubstr("to=x"));
  EXPECT_THAT(error("-vnc :0,share=all"), HasSubstr("share"));
  EXPECT_THAT(error("-vnc :0,reverse=on"), HasSubstr("reverse=on is not there"));
  EXPECT_THAT(error("-vnc :0,password=on,password-secret=s"), HasSubstr("redundant"));
  EXPECT_THAT(error("-vnc :0 -vnc :1,id=default"), HasSubstr("Duplicate ID 'default' for vnc"));
  EXPECT_THAT(error("-display sdl"), HasSubstr("Display 'sdl' is not available"));
  EXPECT_THAT(error("-k fr"), HasSubstr("en-us"));
}

TEST(CommandLine, WhatGoesWithAKernelNeedsOne) {
  const auto initrd = parse("-initrd i"), append = parse("-append quiet");
  ASSERT_FALSE(initrd);
  EXPECT_THAT(initrd.error().message, HasSubstr("an initrd needs a -kernel"));
  ASSERT_FALSE(append);
  EXPECT_THAT(append.error().message, HasSubstr("a command line needs a -kernel"));
}

TEST(CommandLine, HelpListsEveryOptionAndDevice) {
  const auto help = parse("-help").value().print.value();
  for (const auto& option : options()) EXPECT_THAT(help, HasSubstr("-" + std::string(option.name)));
  const auto devices = parse("-device help").value().print.value();
  for (const auto& device : machine::device_catalog())
    EXPECT_THAT(devices, HasSubstr(std::string(device.driver)));
  EXPECT_THAT(parse("-device virtio-blk-pci,help").value().print.value(), HasSubstr("num-queues"));
  EXPECT_THAT(parse("-cpu help").value().print.value(), HasSubstr("qemu64"));
  EXPECT_THAT(parse("-machine help").value().print.value(), HasSubstr("q35"));
  EXPECT_THAT(parse("-accel help").value().print.value(), HasSubstr("soft"));
  EXPECT_THAT(parse("-version").value().print.value(), HasSubstr(LIMEN_VERSION));
}

TEST(CommandLine, LogItemsAreQemus) {
  const auto log = machine("-nographic -d in_asm,int -d out_asm -D file.log -perfmap").log;
  EXPECT_EQ(log.items, (std::set<std::string>{"in_asm", "int", "out_asm"}));
  EXPECT_EQ(log.file, "file.log");
  EXPECT_TRUE(log.perf_map);
  EXPECT_FALSE(machine("-nographic").log.perf_map);
  EXPECT_EQ(error("-d in_ams"), "-d in_ams: unknown log item 'in_ams'; did you mean 'in_asm'?");
  EXPECT_THAT(error("-d int,cpu"), HasSubstr("unknown log item 'cpu'"));
  EXPECT_THAT(error("-D"), HasSubstr("needs an argument"));
  const auto help = parse("-d help");
  ASSERT_TRUE(help && help->print);
  for (const auto* name : {"in_asm", "out_asm", "int"}) EXPECT_THAT(*help->print, HasSubstr(name));
}

TEST(CommandLine, TheClockBeginsWhereItIsSet) {
  using Base = machine::ClockDescription::Base;
  const auto clock = [](const std::string& rtc) { return machine("-nographic -rtc " + rtc).clock; };
  EXPECT_EQ(clock("base=localtime").base, Base::kLocalTime);
  EXPECT_EQ(clock("base=2006-06-17T16:01:21").date, 1150560081);
  EXPECT_EQ(clock("base=2006-06-17").date, 1150502400);
  EXPECT_FALSE(clock("base=utc").catch_up);
  EXPECT_TRUE(clock("base=utc,driftfix=slew").catch_up);
}

}  // namespace
}  // namespace limen::qemu
