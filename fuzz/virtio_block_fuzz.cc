// A whole virtio disk under a hostile driver: registers, configuration space, MSI-X table and guest
// memory are written in any order.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/log.h"
#include "pci/pci_bus.h"
#include "virtio/block/block.h"
#include "virtio/virtio_pci.h"

namespace {

using namespace limen;

constexpr uint64_t kRam = 64 << 10;
constexpr uint64_t kRegisters = 0xC000'0000, kTable = 0xC000'4000;
constexpr uint64_t kDisk = 32 << 10;

void require(bool condition) {
  if (!condition) std::abort();
}

class Disk final : public block::BlockDevice {
 public:
  uint64_t size() const override { return kDisk; }
  bool read_only() const override { return false; }
  bool supports_discard() const override { return true; }
  void submit(block::Request request) override {
    require(request.offset <= kDisk && request.length <= kDisk - request.offset);
    uint64_t total = 0;
    for (const iovec& buffer : request.buffers) {
      std::memset(request.kind == block::Request::Kind::kRead ? buffer.iov_base : bytes_, 1,
                  buffer.iov_len);
      total += buffer.iov_len;
    }
    require(request.buffers.empty() || total == request.length);
    request.done(0);
  }
  Result<> drain() override { return {}; }

 private:
  std::byte bytes_[kDisk];
};

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
  Disk disk;
  pci::PciBus bus("pcie.0", {.ports = &ports, .mmio = &mmio, .msi = &msi});
  virtio::VirtioPci function({"fuzz", 0}, *virtio::Block::create({.num_queues = 2}, disk), *memory);
  require(bus.attach(function).has_value());
  require(pci::assign_resources(bus, {kRegisters, 1 << 20}, {0xC000, 0x1000}).has_value());

  // A driver that behaves up to here, so that most inputs reach the rings.
  const auto common = [&](uint64_t offset, unsigned width, uint64_t value) {
    mmio.write(kRegisters + offset, width, value);
  };
  common(0x14, 1, 3);
  common(0x08, 4, 0);
  common(0x0C, 4, (1u << 28) | (1u << 29) | (1u << 13) | (1u << 14) | (1u << 9) | (1u << 11));
  common(0x08, 4, 1);
  common(0x0C, 4, 1);
  common(0x14, 1, 11);
  common(0x18, 2, 16);
  common(0x20, 8, 0);
  common(0x28, 8, 0x100);
  common(0x30, 8, 0x200);
  common(0x1C, 2, 1);
  common(0x14, 1, 15);

  Reader input{{data, size}};
  while (!input.left.empty()) {
    switch (input.take(1) % 6) {
      case 0: {
        const uint64_t at = input.take(2) % kRam;
        const size_t count = std::min<size_t>({input.take(1), kRam - at, input.left.size()});
        std::memcpy(ram.data() + at, input.left.data(), count);
        input.left = input.left.subspan(count);
        break;
      }
      case 1: {
        const uint64_t at = input.take(2) % 0x4000;
        const unsigned width = 1u << input.take(1) % 4;
        mmio.write(kRegisters + at, width, input.take(width));
        break;
      }
      case 2:
        mmio.read(kRegisters + input.take(2) % 0x4000, 1u << input.take(1) % 4);
        break;
      case 3: {
        const auto at = static_cast<uint16_t>(input.take(1));
        const unsigned width = 1u << input.take(1) % 3;
        // BAR moves are left out: each is a new table of the address space.
        if (at < 0x04 || at >= 0x28)
          function.config_write(at, width, static_cast<uint32_t>(input.take(width)));
        (void)function.config_read(at, width);
        break;
      }
      case 4:
        mmio.write(kRegisters + 0x3000 + 4 * (input.take(1) % 3), 2, 0);
        break;
      default: {
        const uint64_t at = input.take(2) % 0x1000;
        const unsigned width = 1u << input.take(1) % 4;
        mmio.write(kTable + at, width, input.take(width));
        (void)mmio.read(kTable + at, width);
        break;
      }
    }
  }
  return 0;
}
