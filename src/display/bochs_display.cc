#include "display/bochs_display.h"

#include <algorithm>
#include <cstring>

namespace limen::display {
namespace {

constexpr pci::PciFunction::Identity kIdentity = {.vendor = 0x1234,
                                                  .device = 0x1111,
                                                  .revision = 2,
                                                  .class_code = 0x038000,  // display, other
                                                  .subsystem_vendor = 0x1AF4,
                                                  .subsystem = 0x1100};

}  // namespace

BochsDisplay::BochsDisplay(const BochsDisplayProperties& properties, std::span<std::byte> memory)
    : PciFunction(properties.name, kIdentity),
      memory_(memory),
      registers_(*this, properties.edid),
      vbe_(memory.size()) {
  set_bar(kMemoryBar, {.kind = pci::BarKind::kMemory32,
                       .prefetchable = true,
                       .size = memory.size(),
                       .ram = memory});
  set_bar(kRegisterBar,
          {.kind = pci::BarKind::kMemory32, .size = RegisterBar::kBytes, .handler = &registers_});
}

void BochsDisplay::reset() {
  PciFunction::reset();
  const std::lock_guard lock(mutex_);
  vbe_.reset();
  big_endian_ = false;
}

uint16_t BochsDisplay::read_vbe(uint16_t index) {
  const std::lock_guard lock(mutex_);
  return vbe_.read(index);
}

void BochsDisplay::write_vbe(uint16_t index, uint16_t value) {
  const std::lock_guard lock(mutex_);
  const auto clear = vbe_.write(index, value);
  std::memset(memory_.data(), 0, std::min<uint64_t>(clear, memory_.size()));
}

bool BochsDisplay::big_endian() {
  const std::lock_guard lock(mutex_);
  return big_endian_;
}

void BochsDisplay::set_big_endian(bool big_endian) {
  const std::lock_guard lock(mutex_);
  big_endian_ = big_endian;
}

void BochsDisplay::update(Frame& frame, bool all, std::vector<Rectangle>& changed) {
  LinearMode mode;
  bool shows = false;
  {
    const std::lock_guard lock(mutex_);
    // Palettes and planes are a VGA's.
    shows = vbe_.enabled() && vbe_.bits() > 8;
    if (shows) mode = vbe_.mode();
    mode.big_endian = big_endian_;
  }
  if (!shows || !mode.fits(memory_.size())) {
    frame = {};
    return;
  }
  static constexpr Palette kNone{};
  picture_.update(mode, memory_, kNone, frame, all, changed);
}

}  // namespace limen::display
