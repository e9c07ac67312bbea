// A VGA under a hostile guest: ports, the window at A0000h, video memory and the register BAR in
// any order, and the picture drawn meanwhile.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "display/bochs_display.h"
#include "display/vga/vga.h"
#include "pci/pci_bus.h"

namespace {

using namespace limen;

constexpr uint64_t kVideoMemory = 1 << 20;
constexpr unsigned kMostPixels = 4 << 20;

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

/// Draws, and holds the source to its word.
void update(display::Source& source, display::Frame& frame, bool all) {
  const unsigned width = frame.width, height = frame.height;
  std::vector<display::Rectangle> changed;
  source.update(frame, all, changed);
  require(frame.pixels.size() == size_t{frame.width} * frame.height);
  require(frame.pixels.size() <= kMostPixels);
  for (const auto& part : changed) {
    require(part.width != 0 && part.height != 0);
    require(part.x + part.width <= frame.width && part.y + part.height <= frame.height);
  }
  if (frame.width != 0 && (frame.width != width || frame.height != height))
    require(!changed.empty());
  for (const uint32_t pixel : frame.pixels) require((pixel >> 24) == 0);
  (void)source.text();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const memory::GuestMemory::Layout layout{{0}, 64 << 10};
  static auto memory =
      *memory::GuestMemory::create(std::span(&layout, 1), {}, true, 2 * kVideoMemory);
  static const auto vga_memory = *memory->reserve(kVideoMemory);
  static const auto bochs_memory = *memory->reserve(kVideoMemory);
  std::ranges::fill(vga_memory, std::byte{});

  memory::IoSpace ports("ports"), mmio("mmio");
  NullMsi msi;
  pci::PciBus bus("pcie.0", {.ports = &ports, .mmio = &mmio, .msi = &msi, .memory = memory.get()});
  display::vga::Vga vga({}, ports, mmio, vga_memory);
  display::BochsDisplay bochs({}, bochs_memory);
  require(bus.attach(vga).has_value());
  require(bus.attach(bochs).has_value());
  require(pci::assign_resources(bus, {0xC000'0000, 1 << 24}, {0xC000, 0x1000}).has_value());
  const uint64_t registers = *vga.bar_mapping(display::vga::Vga::kRegisterBar);
  const uint64_t bochs_registers = *bochs.bar_mapping(display::BochsDisplay::kRegisterBar);
  ports.write(0x3C0, 1, 0x20);

  display::Frame frame, bochs_frame;
  Reader input{{data, size}};
  unsigned updates = 0;
  while (!input.left.empty()) {
    switch (input.take(1) % 8) {
      case 0: {
        const unsigned width = 1u << input.take(1) % 3;
        ports.write(0x3B0 + input.take(1) % 0x30, width, input.take(width));
        break;
      }
      case 1:
        (void)ports.read(0x3B0 + input.take(1) % 0x30, 1u << input.take(1) % 3);
        break;
      case 2:
        ports.write(0x1CE, 2, input.take(1) % 12);
        ports.write(0x1CF, 2, input.take(2));
        (void)ports.read(0x1CF, 2);
        break;
      case 3: {
        const unsigned width = 1u << input.take(1) % 4;
        const uint64_t at = 0xA0000 + input.take(3) % 0x20000;
        mmio.write(at, width, input.take(width));
        (void)mmio.read(at, width);
        break;
      }
      case 4: {
        const unsigned width = 1u << input.take(1) % 4;
        const uint64_t at =
            (input.take(1) % 2 != 0 ? registers : bochs_registers) + input.take(2) % 0x1000;
        mmio.write(at, width, input.take(width));
        (void)mmio.read(at, width);
        break;
      }
      case 5: {
        const uint64_t at = input.take(3) % kVideoMemory;
        const size_t count =
            std::min<size_t>({input.take(1), kVideoMemory - at, input.left.size()});
        std::memcpy(vga_memory.data() + at, input.left.data(), count);
        std::memcpy(bochs_memory.data() + at, input.left.data(), count);
        input.left = input.left.subspan(count);
        break;
      }
      case 6: {  // an index and data, so that registers are met
        constexpr uint16_t kPairs[] = {0x3C4, 0x3CE, 0x3D4, 0x3B4};
        ports.write(kPairs[input.take(1) % 4], 2, input.take(2));
        break;
      }
      default:
        // Drawing takes long beside the rest.
        if (++updates > 8) break;
        update(vga.source(), frame, input.take(1) % 2 != 0);
        update(bochs, bochs_frame, false);
        break;
    }
  }
  update(vga.source(), frame, false);
  update(bochs, bochs_frame, true);
  vga.reset();
  update(vga.source(), frame, false);
  return 0;
}
