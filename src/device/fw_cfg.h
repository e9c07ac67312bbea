// QEMU's firmware configuration device (docs/specs/fw_cfg.rst of QEMU): what firmware and test
// suites ask of the machine that they run in.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "device/device.h"
#include "memory/guest_memory.h"
#include "memory/io_space.h"

namespace limen::device {

/// A 16-bit write to port 510H selects an item; each byte read from port 511H is its next one, and
/// zero behind its end. Ports 514H to 51BH take the address of a DMA request. Writes of data have
/// no effect.
class FwCfg final : public Device, public memory::IoHandler {
 public:
  static constexpr uint16_t kPort = 0x510;
  static constexpr uint16_t kPorts = 12;
  static constexpr size_t kMostNameBytes = 55;
  using Bytes = std::vector<uint8_t>;

  /// Items with numbers of their own.
  enum Key : uint16_t {
    kSignature = 0x00,
    kId = 0x01,
    kUuid = 0x02,
    kRamSize = 0x03,
    kNoGraphic = 0x04,
    kProcessors = 0x05,
    kKernelAddress = 0x07,
    kKernelSize = 0x08,
    kInitrdAddress = 0x0A,
    kInitrdSize = 0x0B,
    kBootDevice = 0x0C,
    kBootMenu = 0x0E,
    kMostProcessors = 0x0F,
    kKernelEntry = 0x10,
    kKernelData = 0x11,
    kInitrdData = 0x12,
    kCommandLineAddress = 0x13,
    kCommandLineSize = 0x14,
    kCommandLineData = 0x15,
    kSetupAddress = 0x16,
    kSetupSize = 0x17,
    kSetupData = 0x18,
    kFileDirectory = 0x19,
  };

  struct Config {
    uint64_t ram_bytes = 0;
    uint16_t processors = 1;
    uint16_t most_processors = 1;
    memory::GuestMemory* memory = nullptr;  ///< For DMA; null: there is none.
  };

  FwCfg(memory::IoSpace& ports, const Config& config);
  ~FwCfg() override;
  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

  // Before the machine runs.

  void set(uint16_t key, Bytes content);
  /// Little-endian, as items with numbers are.
  template <typename T>
  void set_number(uint16_t key, T value) {
    Bytes bytes;
    for (unsigned i = 0; i < sizeof value; ++i)
      bytes.push_back(static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i)));
    set(key, std::move(bytes));
  }
  /// `name`: "etc/e820" and the like, at most kMostNameBytes; one that is there is replaced.
  void set_file(const std::string& name, Bytes content);
  /// The same for what depends on what the firmware has set up by the time it asks: `make` is
  /// called when the item is selected, on that processor's thread, and gives `size` bytes.
  void set_file(const std::string& name, size_t size, std::function<Bytes()> make);
  /// Content of a file as it is now; empty if there is none.
  [[nodiscard]] Bytes file(const std::string& name);

 private:
  struct Item {
    Bytes content;
    std::function<Bytes()> make;
  };
  struct File {
    uint16_t key = 0;
    size_t size = 0;
  };
  // mutex_ held.
  void select(uint16_t key);
  uint8_t read_byte();
  void rebuild_directory();
  void transfer(uint64_t request);

  memory::IoSpace& ports_;
  memory::GuestMemory* const memory_;
  std::mutex mutex_;
  std::map<uint16_t, Item> items_;
  std::map<std::string, File> files_;
  uint16_t next_key_;
  uint16_t selected_ = 0;
  size_t next_ = 0;           // of the selected item's bytes
  uint64_t dma_address_ = 0;  // what was written of it
};

}  // namespace limen::device
