// -device tpm-crb: the command response buffer of a TPM 2.0 at FED40000h (TCG PC Client Platform
// TPM Profile for TPM 2.0, 1.05, chapter 6.5), locality 0 alone and without interrupts.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <vector>

#include "device/device.h"
#include "device/tpm/backend.h"
#include "memory/io_space.h"

namespace limen::device {

class TpmCrb final : public Device, private memory::IoHandler {
 public:
  static constexpr uint64_t kBase = 0xFED4'0000, kSize = 0x1000;
  static constexpr uint32_t kBuffer = 0x80, kBufferBytes = kSize - kBuffer;

  /// Both outlive it.
  TpmCrb(memory::IoSpace& mmio, TpmBackend& backend);
  ~TpmCrb() override;

  void reset() override;

 private:
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;
  // With the lock held:
  [[nodiscard]] uint32_t register_value(uint32_t offset) const;
  void write_register(uint32_t offset, uint32_t value);
  // Without it:
  void act();
  void completed(uint64_t serial, const std::vector<uint8_t>& response);

  memory::IoSpace& mmio_;
  TpmBackend& backend_;
  std::mutex mutex_;
  // guarded by mutex_:
  bool assigned_ = false;  ///< Locality 0 has the TPM.
  bool idle_ = true, executing_ = false;
  bool established_ = false;
  uint32_t cancel_ = 0;
  std::array<uint8_t, kBufferBytes> buffer_{};
  uint64_t serial_ = 0;  ///< Of the command under way, or of the last.
  // What is to be asked of the backend without the lock.
  bool to_start_ = false, to_cancel_ = false;
};

}  // namespace limen::device
