#include "device/debug_ports.h"

#include <cstring>

namespace limen::device {

DebugConsole::DebugConsole(memory::IoSpace& ports, uint16_t port, CharacterBackend& backend,
                           uint8_t readback)
    : ports_(ports), port_(port), backend_(backend), readback_(readback) {
  ports_.claim(port_, 1, *this, "debug console");
}

DebugConsole::~DebugConsole() { ports_.release(port_, *this); }

uint64_t DebugConsole::io_read(uint64_t, unsigned) { return readback_; }

void DebugConsole::io_write(uint64_t, unsigned, uint64_t value) {
  const auto byte = static_cast<uint8_t>(value & 0xFF);
  backend_.write({&byte, 1});
}

IsaDebugExit::IsaDebugExit(memory::IoSpace& ports, uint16_t base, uint16_t size,
                           std::function<void(int)> exit)
    : ports_(ports), base_(base), exit_(std::move(exit)) {
  ports_.claim(base_, size, *this, "isa-debug-exit");
}

IsaDebugExit::~IsaDebugExit() { ports_.release(base_, *this); }

uint64_t IsaDebugExit::io_read(uint64_t, unsigned) { return 0; }

void IsaDebugExit::io_write(uint64_t, unsigned, uint64_t value) {
  if (exit_) exit_(static_cast<int>((value << 1 | 1) & 0xFF));
}

class PcTestdev::Lines final : public memory::IoHandler {
 public:
  explicit Lines(std::array<irq::InterruptLine, kLines> lines) : lines_(lines) {}
  uint64_t io_read(uint64_t, unsigned) override { return 0; }
  void io_write(uint64_t offset, unsigned, uint64_t value) override {
    lines_[offset].set(value != 0);
  }
  void release() {
    for (const auto& line : lines_) line.set(false);
  }

 private:
  std::array<irq::InterruptLine, kLines> lines_;
};

class PcTestdev::Memory final : public memory::IoHandler {
 public:
  uint64_t io_read(uint64_t offset, unsigned size) override {
    uint64_t value = 0;
    const std::lock_guard lock(mutex_);
    std::memcpy(&value, &bytes_[offset], size);
    return value;
  }
  void io_write(uint64_t offset, unsigned size, uint64_t value) override {
    const std::lock_guard lock(mutex_);
    std::memcpy(&bytes_[offset], &value, size);
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    bytes_.assign(kMemorySize, 0);
  }

 private:
  std::mutex mutex_;
  std::vector<uint8_t> bytes_ = std::vector<uint8_t>(kMemorySize);
};

PcTestdev::PcTestdev(memory::IoSpace& ports, memory::IoSpace& mmio,
                     std::array<irq::InterruptLine, kLines> lines)
    : ports_(ports),
      mmio_(mmio),
      lines_(std::make_unique<Lines>(lines)),
      memory_(std::make_unique<Memory>()) {
  ports_.claim(kPortBase, kPortSize, *this, "pc-testdev");
  ports_.claim(kLinesBase, kLines, *lines_, "pc-testdev lines");
  mmio_.claim(kMemoryBase, kMemorySize, *memory_, "pc-testdev memory");
}

PcTestdev::~PcTestdev() {
  ports_.release(kPortBase, *this);
  ports_.release(kLinesBase, *lines_);
  mmio_.release(kMemoryBase, *memory_);
}

void PcTestdev::reset() {
  {
    const std::lock_guard lock(mutex_);
    value_ = 0;
  }
  memory_->clear();
  lines_->release();
}

uint64_t PcTestdev::io_read(uint64_t offset, unsigned /*size*/) {
  if (offset >= 4 && offset < 8) return ~uint64_t{0};
  const std::lock_guard lock(mutex_);
  return value_ >> (8 * (offset & 3));
}

void PcTestdev::io_write(uint64_t offset, unsigned size, uint64_t value) {
  if (offset >= 4 && offset < 8) return;
  const unsigned shift = static_cast<unsigned>(offset & 3) * 8;
  const uint64_t mask = ((uint64_t{1} << (size * 8)) - 1) << shift;
  const std::lock_guard lock(mutex_);
  value_ = static_cast<uint32_t>((value_ & ~mask) | (value << shift & mask));
}

}  // namespace limen::device
