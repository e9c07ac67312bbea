// BAR 2 of the cards with Bochs' VBE: EDID, the VGA's ports, VBE and the byte order as
// memory-mapped registers (QEMU, docs/specs/standard-vga).
#pragma once

#include <cstdint>
#include <optional>

#include "display/edid.h"
#include "memory/io_space.h"

namespace limen::display {

/// What stands behind the registers. Called without a lock, on several threads at once.
class RegisterTarget {
 public:
  virtual ~RegisterTarget() = default;
  /// Ports from 3C0h to 3DFh.
  virtual uint8_t read_vga(uint16_t /*port*/) { return 0; }
  virtual void write_vga(uint16_t /*port*/, uint8_t /*value*/) {}
  virtual uint16_t read_vbe(uint16_t index) = 0;
  virtual void write_vbe(uint16_t index, uint16_t value) = 0;
  virtual bool big_endian() = 0;
  virtual void set_big_endian(bool big_endian) = 0;
};

class RegisterBar final : public memory::IoHandler {
 public:
  static constexpr uint64_t kBytes = 4096;

  /// `target` outlives the BAR. Without `edid` there is none.
  RegisterBar(RegisterTarget& target, const std::optional<EdidProperties>& edid);

  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  RegisterTarget& target_;
  std::array<uint8_t, kEdidBytes> edid_{};
};

}  // namespace limen::display
