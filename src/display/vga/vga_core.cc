#include "display/vga/vga_core.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace limen::display::vga {
namespace {

// Index and data; data also where it is aligned.
constexpr uint64_t kVbePort = 0x1CE, kVbePorts = 4;

}  // namespace

VgaCore::VgaCore(memory::IoSpace& ports, memory::IoSpace& mmio, std::span<std::byte> memory,
                 Clock clock)
    : port_space_(ports),
      mmio_space_(mmio),
      memory_(memory),
      clock_(std::move(clock)),
      state_{.registers = {}, .vbe = BochsVbe(memory.size())} {
  port_space_.claim(kFirstPort, kPortCount, ports_, "VGA");
  port_space_.claim(kVbePort, kVbePorts, vbe_ports_, "VGA VBE");
  mmio_space_.claim(kWindowStart, kWindowBytes, window_, "VGA window");
}

VgaCore::~VgaCore() {
  mmio_space_.release(kWindowStart, window_);
  port_space_.release(kVbePort, vbe_ports_);
  port_space_.release(kFirstPort, ports_);
}

void VgaCore::reset() {
  const std::lock_guard lock(mutex_);
  state_.registers = {};
  state_.vbe.reset();
  state_.latch = 0;
  state_.vbe_index = 0;
  state_.big_endian = false;
}

// --- Processors ---------------------------------------------------------------------------------

uint64_t VgaCore::Ports::io_read(uint64_t offset, unsigned size) {
  uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i)
    value |= uint64_t{core.read_vga(static_cast<uint16_t>(kFirstPort + offset + i))} << 8 * i;
  return value;
}

void VgaCore::Ports::io_write(uint64_t offset, unsigned size, uint64_t value) {
  for (unsigned i = 0; i < size; ++i)
    core.write_vga(static_cast<uint16_t>(kFirstPort + offset + i),
                   static_cast<uint8_t>(value >> 8 * i));
}

uint64_t VgaCore::VbePorts::io_read(uint64_t offset, unsigned) {
  uint16_t index = 0;
  {
    const std::lock_guard lock(core.mutex_);
    index = core.state_.vbe_index;
  }
  return offset == 0 ? index : core.read_vbe(index);
}

void VgaCore::VbePorts::io_write(uint64_t offset, unsigned size, uint64_t value) {
  if (size < 2) return;
  uint16_t index = 0;
  {
    const std::lock_guard lock(core.mutex_);
    if (offset == 0) core.state_.vbe_index = static_cast<uint16_t>(value);
    index = core.state_.vbe_index;
  }
  if (offset != 0) core.write_vbe(index, static_cast<uint16_t>(value));
}

uint64_t VgaCore::Window::io_read(uint64_t offset, unsigned size) {
  const std::lock_guard lock(core.mutex_);
  auto& state = core.state_;
  uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i)
    value |= uint64_t{Planes::read(state.registers, state.vbe.bank_start(), offset + i,
                                   core.memory_, state.latch)}
             << 8 * i;
  return value;
}

void VgaCore::Window::io_write(uint64_t offset, unsigned size, uint64_t value) {
  const std::lock_guard lock(core.mutex_);
  auto& state = core.state_;
  for (unsigned i = 0; i < size; ++i)
    Planes::write(state.registers, state.vbe.bank_start(), offset + i,
                  static_cast<uint8_t>(value >> 8 * i), core.memory_, state.latch);
}

std::span<const memory::LateWrites> VgaCore::Window::late_writes() const {
  static constexpr memory::LateWrites kAll{.offset = 0, .size = kWindowBytes};
  return {&kAll, 1};
}

uint8_t VgaCore::read_vga(uint16_t port) {
  const auto now = clock_();
  const std::lock_guard lock(mutex_);
  return state_.registers.read_port(port, now);
}

void VgaCore::write_vga(uint16_t port, uint8_t value) {
  const std::lock_guard lock(mutex_);
  state_.registers.write_port(port, value);
}

uint16_t VgaCore::read_vbe(uint16_t index) {
  const std::lock_guard lock(mutex_);
  return state_.vbe.read(index);
}

void VgaCore::write_vbe(uint16_t index, uint16_t value) {
  const std::lock_guard lock(mutex_);
  const auto clear = state_.vbe.write(index, value);
  if (state_.vbe.enabled()) vbe_switched_locked();
  std::memset(memory_.data(), 0, std::min<uint64_t>(clear, memory_.size()));
}

/// A VBE mode also sets what the window at A0000h needs: 64 KiB of packed pixels, or of planes.
void VgaCore::vbe_switched_locked() {
  auto& registers = state_.registers;
  registers.graphics[6] = static_cast<uint8_t>((registers.graphics[6] & ~0x0C) | 0x05);
  const bool planar = state_.vbe.bits() == 4;
  registers.graphics[5] =
      static_cast<uint8_t>((registers.graphics[5] & ~0x70) | (planar ? 0 : 0x40));
  if (planar) {
    registers.sequencer[1] = static_cast<uint8_t>(registers.sequencer[1] & ~8);
    registers.sequencer[4] = static_cast<uint8_t>(registers.sequencer[4] & ~8);
  } else {
    registers.sequencer[4] |= 8;
    registers.sequencer[2] |= 15;
  }
}

bool VgaCore::big_endian() {
  const std::lock_guard lock(mutex_);
  return state_.big_endian;
}

void VgaCore::set_big_endian(bool big_endian) {
  const std::lock_guard lock(mutex_);
  state_.big_endian = big_endian;
}

// --- The picture --------------------------------------------------------------------------------

VgaCore::View VgaCore::view_of(const State& state) {
  const auto& registers = state.registers;
  if (!registers.picture_on()) return View::kBlank;
  if (state.vbe.enabled()) return state.vbe.bits() == 4 ? View::kScan : View::kLinear;
  if ((registers.sequencer[1] & 0x20) != 0) return View::kBlank;  // "screen off"
  return registers.graphics_mode() ? View::kScan : View::kText;
}

void VgaCore::draw_scan(const State& state, Frame& frame, bool all,
                        std::vector<Rectangle>& changed) {
  auto mode = scan_mode(state.registers, state.vbe.dac_8bit());
  auto addresses = scan_addresses(state.registers);
  if (state.vbe.enabled()) {
    const auto linear = state.vbe.mode();
    mode.pixels = ScanMode::Pixels::kPlanar;
    mode.doubled = false;
    mode.width = linear.width;
    mode.height = linear.height;
    addresses = {
        .start = linear.start / 4, .offset = linear.pitch / 4, .words = memory_.size() / 4};
  }
  scan_picture_.update(mode, addresses, memory_, frame, all, changed);
}

void VgaCore::update(Frame& frame, bool all, std::vector<Rectangle>& changed) {
  mmio_space_.deliver_late_writes();
  const auto now = clock_();
  const auto state = [&] {
    const std::lock_guard lock(mutex_);
    return state_;
  }();
  const auto view = view_of(state);
  if (view != std::exchange(view_, view)) all = true;
  switch (view) {
    case View::kText:
      text_picture_.update(state.registers, state.vbe.dac_8bit(), memory_, now, frame, all,
                           changed);
      break;
    case View::kScan:
      draw_scan(state, frame, all, changed);
      break;
    case View::kLinear: {
      auto mode = state.vbe.mode();
      mode.big_endian = state.big_endian;
      if (mode.fits(memory_.size()))
        linear_picture_.update(mode, memory_, state.registers.colours(state.vbe.dac_8bit()), frame,
                               all, changed);
      break;
    }
    default:
      // Black, once there was a picture; until then the frame stays empty.
      if (!all || frame.width == 0) break;
      std::ranges::fill(frame.pixels, 0);
      changed.push_back({0, 0, frame.width, frame.height});
      break;
  }
}

std::optional<TextFrame> VgaCore::text() {
  mmio_space_.deliver_late_writes();
  const std::lock_guard lock(mutex_);
  if (view_of(state_) != View::kText) return {};
  return read_text(state_.registers, memory_);
}

}  // namespace limen::display::vga
