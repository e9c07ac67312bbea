// A whole virtio graphics card under a hostile driver: commands and rings in any order, and the
// picture drawn meanwhile.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/log.h"
#include "pci/pci_bus.h"
#include "virtio/gpu/gpu.h"
#include "virtio/virtio_pci.h"

namespace {

using namespace limen;

constexpr uint64_t kRam = 64 << 10;
constexpr uint64_t kRegisters = 0xC000'0000;
constexpr uint64_t kRings = 0, kRequest = 0x1000, kAnswer = 0x2000, kAnswerBytes = 0x1000;

void require(bool condition) {
  if (!condition) std::abort();
}

struct NullMsi final : irq::MsiSink {
  void send_msi(const irq::MsiMessage&) override {}
};

/// The input, a few bytes at a time.
struct Reader {
  std::span<const uint8_t> left;
  uint64_t take(size_t count) {
    uint64_t value = 0;
    count = std::min(count, left.size());
    std::memcpy(&value, left.data(), count);
    left = left.subspan(count);
    return value;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  log::set_level(log::Level::kError);
  const memory::GuestMemory::Layout layout{{0}, kRam};
  static auto memory = *memory::GuestMemory::create(std::span(&layout, 1));
  const auto ram = memory->span({0}, kRam);
  std::memset(ram.data(), 0, ram.size());

  memory::IoSpace ports("ports"), mmio("mmio");
  NullMsi msi;
  pci::PciBus bus("pcie.0", {.ports = &ports, .mmio = &mmio, .msi = &msi, .memory = memory.get()});
  auto device =
      std::make_unique<virtio::Gpu>(virtio::GpuProperties{.max_hostmem = 4 << 20}, *memory);
  auto& gpu = *device;
  virtio::VirtioPci function({"fuzz", 0}, std::move(device), *memory);
  require(bus.attach(function).has_value());
  require(pci::assign_resources(bus, {kRegisters, 1 << 20}, {0xC000, 0x1000}).has_value());

  // A driver that behaves up to here, so that most inputs reach the commands.
  const auto common = [&](uint64_t offset, unsigned width, uint64_t value) {
    mmio.write(kRegisters + offset, width, value);
  };
  const auto start = [&] {
    common(0x14, 1, 0);
    common(0x14, 1, 3);
    common(0x08, 4, 0);
    common(0x0C, 4, 2);
    common(0x08, 4, 1);
    common(0x0C, 4, 1);
    common(0x14, 1, 11);
    for (unsigned queue = 0; queue < 2; ++queue) {
      common(0x16, 2, queue);
      common(0x18, 2, 16);
      common(0x20, 8, kRings + 0x400 * queue);
      common(0x28, 8, kRings + 0x400 * queue + 0x100);
      common(0x30, 8, kRings + 0x400 * queue + 0x200);
      common(0x1C, 2, 1);
    }
    common(0x14, 1, 15);
  };
  start();
  uint16_t offered[2] = {};
  const auto put = [&](uint64_t at, const auto& value) {
    std::memcpy(ram.data() + at, &value, sizeof value);
  };
  /// One request of the bytes at kRequest.
  const auto send = [&](unsigned queue, uint32_t bytes) {
    const uint64_t base = kRings + 0x400 * queue;
    struct Descriptor {
      uint64_t address;
      uint32_t length;
      uint16_t flags, next;
    };
    put(base, Descriptor{kRequest, bytes, 1, 1});
    put(base + 16, Descriptor{kAnswer, kAnswerBytes, 2, 0});
    put(base + 0x100 + 4 + 2 * (offered[queue] % 16), uint16_t{0});
    put(base + 0x100 + 2, ++offered[queue]);
    mmio.write(kRegisters + 0x3000 + 4 * queue, 2, queue);
  };

  display::Frame frame;
  Reader input{{data, size}};
  while (!input.left.empty()) {
    switch (input.take(1) % 7) {
      case 0: {
        const uint64_t at = input.take(2) % kRam;
        const size_t count = std::min<size_t>({input.take(1), kRam - at, input.left.size()});
        std::memcpy(ram.data() + at, input.left.data(), count);
        input.left = input.left.subspan(count);
        break;
      }
      case 1:
      case 2: {  // a command with small numbers behind its header
        std::memset(ram.data() + kRequest, 0, 0x100);
        const auto type = static_cast<uint32_t>(0x100 + input.take(1) % 12);
        put(kRequest, type);
        const size_t words = input.take(1) % 16;
        for (size_t i = 0; i < words; ++i)
          put(kRequest + 24 + 4 * i, static_cast<uint32_t>(input.take(1)));
        send(0, static_cast<uint32_t>(24 + 4 * words));
        break;
      }
      case 3: {  // one of any bytes
        const size_t wanted = input.take(1);
        const size_t count = std::min(wanted, input.left.size());
        std::memcpy(ram.data() + kRequest, input.left.data(), count);
        input.left = input.left.subspan(count);
        send(static_cast<unsigned>(input.take(1) % 2), static_cast<uint32_t>(count));
        break;
      }
      case 4: {
        const uint64_t at = input.take(2) % 0x4000;
        const unsigned width = 1u << input.take(1) % 4;
        mmio.write(kRegisters + at, width, input.take(width));
        (void)mmio.read(kRegisters + at, width);
        break;
      }
      case 5:
        gpu.wish_size(static_cast<unsigned>(input.take(2)), static_cast<unsigned>(input.take(2)));
        break;
      default: {
        std::vector<display::Rectangle> changed;
        gpu.update(frame, input.take(1) % 2 != 0, changed);
        require(frame.pixels.size() == size_t{frame.width} * frame.height);
        for (const auto& part : changed)
          require(part.x + part.width <= frame.width && part.y + part.height <= frame.height);
        (void)gpu.pointer();
        break;
      }
    }
  }
  function.reset();
  return 0;
}
