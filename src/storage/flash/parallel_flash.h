// A parallel NOR flash with Intel's command set (Intel StrataFlash J3 datasheet 290667; CFI: JEDEC
// JESD68): where UEFI firmware lies and keeps its variables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "base/result.h"
#include "block/block_device.h"
#include "device/device.h"
#include "memory/guest_memory.h"
#include "memory/io_space.h"

namespace limen::storage {

/// Read as memory while no command is under way. A byte wide, in blocks of 4 KiB. What is
/// programmed and erased reaches the image when the flash goes back to reading, at a reset and at
/// the end.
class ParallelFlash final : public device::Device, public memory::IoHandler {
 public:
  static constexpr uint64_t kBlockSize = 4096;

  /// Reads `image`, whose size must be a multiple of kBlockSize and have room in
  /// GuestMemory::reserve(), and shows it so that it ends at `end`. Everything outlives the flash.
  static Result<std::unique_ptr<ParallelFlash>> create(const std::string& name,
                                                       memory::GuestMemory& memory,
                                                       memory::IoSpace& mmio,
                                                       block::BlockDevice& image, uint64_t end);
  ~ParallelFlash() override;
  ParallelFlash(const ParallelFlash&) = delete;
  ParallelFlash& operator=(const ParallelFlash&) = delete;

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  [[nodiscard]] uint64_t start() const { return start_; }

  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  enum class Mode : uint8_t {
    kArray,  ///< Reading, the only one in which it is memory.
    kStatus,
    kIdentifier,
    kQuery,
    kProgram,      ///< The next byte is programmed.
    kErase,        ///< A confirmation is next.
    kBufferCount,  ///< The number of bytes for the buffer, less one.
    kBuffer,       ///< The bytes.
    kBufferConfirm,
    kLock,  ///< What to lock or unlock.
  };
  /// A status bit (datasheet, "Status Register Definitions").
  enum Status : uint8_t { kReady = 0x80, kEraseError = 0x20, kProgramError = 0x10 };

  ParallelFlash(std::string name, memory::GuestMemory& memory, memory::IoSpace& mmio,
                block::BlockDevice& image, std::span<std::byte> bytes, uint64_t end);

  // mutex_ held.
  void enter(Mode mode);
  void command(uint64_t offset, uint8_t value);
  void program(uint64_t offset, uint8_t value);
  void erase(uint64_t offset);
  void note_changed(uint64_t offset, uint64_t size);
  void save();
  [[nodiscard]] uint8_t query(uint64_t offset) const;
  Result<> transfer(block::Request::Kind kind, uint64_t offset, std::span<std::byte> part);

  const std::string name_;
  memory::GuestMemory& memory_;
  memory::IoSpace& mmio_;
  block::BlockDevice& image_;
  const std::span<std::byte> bytes_;
  const uint64_t start_;

  std::mutex mutex_;
  Mode mode_ = Mode::kStatus;  // guarded by mutex_, as all below
  uint8_t status_ = kReady;
  uint64_t expected_ = 0;  ///< Bytes that the buffer still takes.
  uint64_t changed_from_ = UINT64_MAX, changed_to_ = 0;
};

}  // namespace limen::storage
