// A whole virtio network card under a hostile driver: its control queue first of all, its rings,
// and frames that come in meanwhile.
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/log.h"
#include "base/unique_fd.h"
#include "pci/pci_bus.h"
#include "virtio/net/net.h"
#include "virtio/virtio_pci.h"

namespace {

using namespace limen;

constexpr uint64_t kRam = 64 << 10;
constexpr uint64_t kRegisters = 0xC000'0000, kTable = 0xC000'4000;

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
  pci::PciBus bus("pcie.0", {.ports = &ports, .mmio = &mmio, .msi = &msi});
  static auto network = *net::Network::create();
  int ends[2];
  require(::socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
  const UniqueFd wire(ends[0]);
  require(network
              ->add(*net::parse_backend(
                  {{"type", "socket"}, {"id", "n"}, {"fd", std::to_string(ends[1])}}))
              .has_value());
  virtio::VirtioPci function({"fuzz", 0}, *virtio::Net::create({.netdev = "n"}, *network), *memory);
  require(bus.attach(function).has_value());
  require(pci::assign_resources(bus, {kRegisters, 1 << 20}, {0xC000, 0x1000}).has_value());

  // A driver that behaves up to here, so that most inputs reach the rings.
  const auto common = [&](uint64_t offset, unsigned width, uint64_t value) {
    mmio.write(kRegisters + offset, width, value);
  };
  common(0x14, 1, 3);
  common(0x08, 4, 0);
  common(0x00, 4, 0);
  const auto offered = mmio.read(kRegisters + 0x04, 4);
  common(0x0C, 4, offered);
  common(0x08, 4, 1);
  common(0x0C, 4, 1);
  common(0x14, 1, 11);
  for (unsigned queue = 0; queue < 3; ++queue) {
    common(0x16, 2, queue);
    common(0x18, 2, 16);
    common(0x20, 8, 0x400 * queue);
    common(0x28, 8, 0x400 * queue + 0x100);
    common(0x30, 8, 0x400 * queue + 0x200);
    common(0x1C, 2, 1);
  }
  common(0x14, 1, 15);

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
        mmio.write(kRegisters + 0x3000 + 4 * (input.take(1) % 4), 2, 0);
        network->run([] {});
        break;
      case 5: {
        const size_t wanted = input.take(1);
        const size_t count = std::min(wanted, input.left.size());
        (void)::send(wire.get(), input.left.data(), count, MSG_DONTWAIT);
        input.left = input.left.subspan(count);
        network->run([] {});
        break;
      }
      default: {
        const uint64_t at = input.take(2) % 0x1000;
        const unsigned width = 1u << input.take(1) % 4;
        mmio.write(kTable + at, width, input.take(width));
        (void)mmio.read(kTable + at, width);
        break;
      }
    }
  }
  function.reset();
  require(network->remove("n").has_value());
  return 0;
}
