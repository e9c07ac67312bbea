// QEMU's firmware configuration device (docs/specs/fw_cfg.rst of QEMU), traditional interface: what
// firmware and test suites ask of the machine that they run in.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "device/device.h"
#include "memory/io_space.h"

namespace limen::device {

/// A 16-bit write to port 510H selects an item; each byte read from port 511H is its next one, and
/// zero behind its end. Writes of data have no effect.
class FwCfg final : public Device, public memory::IoHandler {
 public:
  static constexpr uint16_t kPort = 0x510;

  struct Config {
    uint64_t ram_bytes = 0;
    uint16_t processors = 1;
    uint16_t most_processors = 1;
  };

  FwCfg(memory::IoSpace& ports, const Config& config);
  ~FwCfg() override;
  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  /// Items are little-endian, apart from the file directory.
  template <typename T>
  void add(uint16_t key, T value);

  memory::IoSpace& ports_;
  std::map<uint16_t, std::vector<uint8_t>> items_;
  std::mutex mutex_;
  uint16_t selected_ = 0;  // guarded by mutex_
  size_t next_ = 0;        // guarded by mutex_: of the selected item's bytes
};

}  // namespace limen::device
