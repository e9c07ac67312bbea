// NVMe under a hostile driver: registers, doorbells, queues and lists in any order.
#include "base/log.h"
#include "fuzz/storage_fuzz.h"
#include "pci/pci_bus.h"
#include "storage/nvme/nvme.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limen;
  using fuzz::require;
  constexpr uint64_t kRam = 64 << 10;
  constexpr uint64_t kSubmission = 0x1000, kCompletion = 0x4000;  // a page for each queue
  constexpr uint32_t kEntries = 32, kQueues = 3;
  log::set_level(log::Level::kError);
  const memory::GuestMemory::Layout layout{{0}, kRam};
  static auto memory = *memory::GuestMemory::create(std::span(&layout, 1));
  const auto ram = memory->span({0}, kRam);
  std::memset(ram.data(), 0, ram.size());

  memory::IoSpace ports("ports"), mmio("mmio");
  fuzz::NullMsi msi;
  fuzz::Disk disk(false);
  pci::PciBus bus("pcie.0", {.ports = &ports, .mmio = &mmio, .msi = &msi});
  auto controller =
      *storage::Nvme::create({.serial = "fuzz", .queue_pairs = 4, .vectors = 4}, *memory, disk);
  require(bus.attach(*controller).has_value());
  require(pci::assign_resources(bus, {0xC000'0000, 1 << 20}, {0xC000, 0x1000}).has_value());
  controller->config_write(4, 2, 7);
  const uint64_t base = *controller->bar_mapping(storage::Nvme::kRegisterBar);
  uint32_t tails[kQueues] = {};
  const auto put = [&](uint64_t offset, uint64_t value) { mmio.write(base + offset, 4, value); };
  const auto submit = [&](uint32_t queue, const storage::nvme::Command& command) {
    std::memcpy(ram.data() + kSubmission + queue * 0x1000 + tails[queue] * 64, &command, 64);
    tails[queue] = (tails[queue] + 1) % kEntries;
    put(0x1000 + queue * 8, tails[queue]);
  };
  // A driver that behaves up to here, so that most inputs reach the disk.
  const auto start = [&] {
    put(0x14, 0);
    std::ranges::fill(tails, 0u);
    put(0x24, (kEntries - 1) << 16 | (kEntries - 1));
    put(0x28, kSubmission);
    put(0x30, kCompletion);
    put(0x14, 4u << 20 | 6u << 16 | 1);
    for (uint32_t queue = 1; queue < kQueues; ++queue) {
      submit(0, {.opcode = 5,
                 .prp1 = kCompletion + queue * 0x1000,
                 .words = {(kEntries - 1) << 16 | queue, 3}});
      submit(0, {.opcode = 1,
                 .prp1 = kSubmission + queue * 0x1000,
                 .words = {(kEntries - 1) << 16 | queue, queue << 16 | 1}});
    }
  };
  start();

  fuzz::Reader input{{data, size}};
  while (!input.left.empty()) {
    switch (const uint64_t what = input.take(1); what % 8) {
      case 0:
        put(input.take(1) % 0x40, input.take(4));
        break;
      case 1:
        put(0x1000 + input.take(1), input.take(2));
        break;
      case 2:
        mmio.read(base + input.take(2) % 0x4000, 1u << what / 8 % 4);
        break;
      case 3:
        input.scribble(ram);
        break;
      case 4:
        switch (input.take(1) % 6) {
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
            controller->resized();
            break;
          case 4:
            controller->reset();
            controller->config_write(0x10, 4, static_cast<uint32_t>(base));
            controller->config_write(4, 2, 7);
            [[fallthrough]];
          default:
            start();
        }
        break;
      default: {
        const auto queue = static_cast<uint32_t>(what / 8 % kQueues);
        storage::nvme::Command command;
        command.opcode = static_cast<uint8_t>(input.take(1) % 16);
        command.id = static_cast<uint16_t>(what);
        command.namespace_id = 1;
        command.prp1 = input.take(2);
        command.prp2 = input.take(2);
        for (unsigned i = 0; i < 3; ++i) command.words[i] = static_cast<uint32_t>(input.take(4));
        // Most transfers are near enough to be possible.
        if (queue != 0 && (what & 0x80) != 0) {
          command.words[0] &= 0x7F;
          command.words[1] = 0;
          command.words[2] &= 0x1F;
        }
        submit(queue, command);
        put(0x1004 + queue * 8, input.take(1));
      }
    }
  }
  disk.release();
  return 0;
}
