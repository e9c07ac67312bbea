// An e1000 under a hostile driver: registers and guest memory are written in any order, and frames
// come in meanwhile.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "base/log.h"
#include "base/unique_fd.h"
#include "nic/e1000/e1000.h"
#include "pci/pci_bus.h"

namespace {

using namespace limen;

constexpr uint64_t kRam = 64 << 10;
constexpr uint64_t kRegisters = 0xC000'0000;

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
  using namespace nic::e1000;
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
  auto card = *nic::E1000::create({.mac = {2, 0, 0, 0, 0, 1}, .netdev = "n"}, *memory, *network);
  require(bus.attach(*card).has_value());
  require(pci::assign_resources(bus, {kRegisters, 1 << 20}, {0xC000, 0x1000}).has_value());
  card->config_write(4, 2, 7);

  // A driver that behaves up to here, so that most inputs reach the rings.
  const auto put = [&](uint32_t offset, uint64_t value) {
    mmio.write(kRegisters + offset, 4, value);
  };
  put(kTdlen, 256);
  put(kTdbal, 0x1000);
  put(kRdlen, 256);
  put(kRdbal, 0x2000);
  put(kRdt, 15);
  put(kIms, 0xFF);
  put(kTctl, 2);
  put(kRctl, 0x801A);

  constexpr std::array kInteresting = {kCtrl, kEecd, kEerd,  kMdic,  kIcr, kItr, kIcs,   kIms,
                                       kRctl, kTctl, kRdbal, kRdlen, kRdh, kRdt, kTdbal, kTdlen,
                                       kTdh,  kTdt,  kRal,   kVfta,  kMta, kVet};
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
      case 1:
        put(kInteresting[input.take(1) % kInteresting.size()], input.take(4));
        break;
      case 2:
        mmio.write(kRegisters + input.take(2), 1u << input.take(1) % 4, input.take(4));
        break;
      case 3:
        mmio.read(kRegisters + input.take(2), 1u << input.take(1) % 4);
        break;
      case 4:
        put(kTdt, input.take(1) % 16);
        network->run([] {});
        break;
      default: {
        const size_t wanted = input.take(1);
        const size_t count = std::min(wanted, input.left.size());
        (void)::send(wire.get(), input.left.data(), count, MSG_DONTWAIT);
        input.left = input.left.subspan(count);
        network->run([] {});
        break;
      }
    }
  }
  card->reset();
  card.reset();
  require(network->remove("n").has_value());
  return 0;
}
