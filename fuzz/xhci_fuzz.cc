// xHCI under a hostile driver: registers, rings and contexts in any order, with keyboard, tablet
// and storage behind them.
#include "base/log.h"
#include "block/scsi/disk.h"
#include "display/input.h"
#include "fuzz/storage_fuzz.h"
#include "pci/pci_bus.h"
#include "usb/hid/keyboard.h"
#include "usb/hid/pointer.h"
#include "usb/mass_storage.h"
#include "usb/xhci/xhci.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limen;
  using namespace limen::usb;
  using namespace limen::usb::xhci;
  using fuzz::require;
  constexpr uint64_t kRam = 64 << 10;
  constexpr uint64_t kContexts = 0x1000, kCommands = 0x2000, kSegments = 0x3000, kEvents = 0x4000,
                     kInput = 0x5000, kOutput = 0x6000, kRings = 0x8000, kData = 0xE000;
  constexpr uint32_t kDevices = 3, kBlocks = 64;
  log::set_level(log::Level::kError);
  const memory::GuestMemory::Layout layout{{0}, kRam};
  static auto memory = *memory::GuestMemory::create(std::span(&layout, 1));
  static auto loop = *EventLoop::create(EventLoop::Time::kManual);
  const auto ram = memory->span({0}, kRam);
  std::memset(ram.data(), 0, ram.size());

  memory::IoSpace ports("ports"), mmio("mmio");
  fuzz::NullMsi msi;
  fuzz::Disk disk(false);
  display::Input input;
  pci::PciBus bus("pcie.0", {.ports = &ports, .mmio = &mmio, .msi = &msi});
  auto controller = *Xhci::create({.usb2_ports = 3, .usb3_ports = 3, .slots = 4}, *memory, *loop);
  require(bus.attach(*controller).has_value());
  require(pci::assign_resources(bus, {0xC000'0000, 1 << 20}, {0xC000, 0x1000}).has_value());
  controller->config_write(4, 2, 7);
  const uint64_t base = *controller->bar_mapping(Xhci::kRegisterBar);
  const auto plug_storage = [&] {
    return controller
        ->plug(std::make_unique<MassStorage>(*block::scsi::Disk::create({}, disk), ""), 3)
        .has_value();
  };
  require(
      controller->plug(std::make_unique<Keyboard>(HidProperties{}, *loop, input), 1).has_value());
  require(controller->plug(std::make_unique<Pointer>(true, HidProperties{}, *loop, input), 2)
              .has_value());
  require(plug_storage());

  const auto set = [&](uint64_t offset, uint64_t value) { mmio.write(base + offset, 4, value); };
  const auto put = [&](uint64_t at, const auto& value) {
    std::memcpy(ram.data() + at, &value, sizeof value);
  };
  uint32_t command_at = 0;
  uint32_t ring_at[kDevices + 1][5] = {};
  const auto push = [&](uint64_t ring, uint32_t& at, Trb trb) {
    trb.control |= 1;
    put(ring + 16 * at, trb);
    at = (at + 1) % kBlocks;
  };
  const auto command = [&](uint32_t type, uint32_t slot, uint64_t parameter, uint32_t control) {
    push(kCommands, command_at,
         {.parameter = parameter, .control = type << 10 | slot << 24 | control});
    set(kDoorbells, 0);
  };
  const auto ring_of = [&](uint32_t slot, uint32_t index) {
    return kRings + 0x1400 * (slot - 1) + 0x400 * index;
  };
  // A driver that behaves up to here, so that most inputs reach the devices.
  const auto start = [&] {
    std::memset(ring_at, 0, sizeof ring_at);
    command_at = 0;
    std::memset(ram.data(), 0, kRam);
    set(kOperational + kUsbCmd, cmd::kReset);
    set(kOperational + kConfig, 4);
    set(kOperational + kDcbaap, kContexts);
    set(kOperational + kCrcr, kCommands | 1);
    put(kSegments, uint64_t{kEvents});
    put(kSegments + 8, uint64_t{256});
    set(kRuntime + kInterrupters + kErstSz, 1);
    set(kRuntime + kInterrupters + kErdp, kEvents);
    set(kRuntime + kInterrupters + kErstBa, kSegments);
    set(kOperational + kUsbCmd, cmd::kRun | cmd::kInterrupts);
    for (uint32_t slot = 1; slot <= kDevices; ++slot) {
      const uint32_t port = slot == 3 ? 6 : slot;
      set(kPorts + 16 * (port - 1), portsc::kReset | portsc::kPower);
      command(kEnableSlot, 0, 0, 0);
      put(kContexts + 8 * slot, uint64_t{kOutput + 0x800 * (slot - 1)});
      put(kInput, Context{0, 3});
      put(kInput + 32, Context{4u << 27, port << 16});
      const uint32_t types[] = {kNoType, kControl, kNoType, slot == 3 ? kBulkIn : kInterruptIn,
                                slot == 3 ? kBulkOut : kNoType};
      for (uint32_t index = 1; index < 5; ++index)
        put(kInput + 32 * (index + 1),
            Context{0, types[index] << 3, static_cast<uint32_t>(ring_of(slot, index)) | 1});
      command(kAddressDevice, slot, kInput, 0);
      put(kInput, Context{0, slot == 3 ? 0x19u : 0x09u});
      command(kConfigureEndpoint, slot, kInput, 0);
      auto& at = ring_at[slot][1];
      push(ring_of(slot, 1), at,
           {.parameter = 9 << 8 | 1 << 16,
            .status = 8,
            .control = kSetupStage << 10 | trb::kImmediate});
      push(ring_of(slot, 1), at, {.control = kStatusStage << 10});
      set(kDoorbells + 4 * slot, 1);
    }
    loop->poll();
  };
  start();

  fuzz::Reader reader{{data, size}};
  while (!reader.left.empty()) {
    switch (const uint64_t what = reader.take(1); what % 10) {
      case 0:
        set(reader.take(1) * 4 % 0x480, reader.take(4));
        break;
      case 1:
        set(kRuntime + reader.take(1), reader.take(2));
        break;
      case 2:
        set(kDoorbells + what / 10 % 5 * 4, reader.take(1) % 32);
        break;
      case 3:
        mmio.read(base + reader.take(2) % kRegisterBytes, 1u << what / 10 % 4);
        break;
      case 4:
        reader.scribble(ram);
        break;
      case 5:
        switch (reader.take(1) % 10) {
          case 0:
            disk.hold = true;
            break;
          case 1:
            disk.release();
            break;
          case 2:
            disk.error = disk.error == 0 ? 28 : 0;
            break;
          case 3:
            controller->unplug(3).reset();
            break;
          case 4:
            (void)plug_storage();
            break;
          case 5:
            loop->advance(std::chrono::milliseconds(500));
            break;
          case 6:
            controller->reset();
            controller->config_write(0x10, 4, static_cast<uint32_t>(base));
            controller->config_write(4, 2, 7);
            [[fallthrough]];
          default:
            start();
        }
        break;
      case 6:
        input.key(static_cast<display::KeyCode>(reader.take(1)), what >= 128);
        input.move_to(static_cast<unsigned>(reader.take(2)), static_cast<unsigned>(what));
        input.sync();
        break;
      case 7:
        command(kEnableSlot + static_cast<uint32_t>(reader.take(1)) % 16 % 15,
                static_cast<uint32_t>(what / 10 % 5), kInput,
                static_cast<uint32_t>(reader.take(1)) << 16);
        break;
      case 8: {  // a control request
        const auto slot = static_cast<uint32_t>(what / 10 % kDevices + 1);
        auto& at = ring_at[slot][1];
        const uint64_t setup = reader.take(8);
        push(ring_of(slot, 1), at,
             {.parameter = setup, .status = 8, .control = kSetupStage << 10 | trb::kImmediate});
        if (setup >> 48 != 0)
          push(ring_of(slot, 1), at,
               {.parameter = kData,
                .status = static_cast<uint32_t>(setup >> 48) & 0x1FFF,
                .control = kDataStage << 10});
        push(ring_of(slot, 1), at, {.control = kStatusStage << 10 | trb::kInterrupt});
        set(kDoorbells + 4 * slot, 1);
        break;
      }
      default: {  // a transfer; for the storage a command in its wrapper
        const auto slot = static_cast<uint32_t>(what / 10 % kDevices + 1);
        const uint32_t index = slot == 3 && what >= 128 ? 4 : 3;
        uint32_t length = static_cast<uint32_t>(reader.take(2)) & 0x1FFF;
        if (index == 4 && length % 2 == 0) {
          uint8_t wrapper[31] = {'U', 'S', 'B', 'C'};
          reader.take_into(std::as_writable_bytes(std::span(wrapper)).subspan(8));
          wrapper[10] = wrapper[11] = 0;  // 64 KiB at most
          wrapper[13] &= 1;
          wrapper[14] = static_cast<uint8_t>(wrapper[14] % 16 + 1);
          std::memcpy(ram.data() + kData, wrapper, sizeof wrapper);
          length = sizeof wrapper;
        }
        push(ring_of(slot, index), ring_at[slot][index],
             {.parameter = kData,
              .status = length,
              .control = kNormal << 10 | static_cast<uint32_t>(reader.take(1)) << 1});
        set(kDoorbells + 4 * slot, index);
      }
    }
  }
  disk.release();
  for (unsigned connector = 1; connector <= 3; ++connector) controller->unplug(connector).reset();
  return 0;
}
