// -device tpm-tis: the FIFO interface of a TPM 2.0 at FED40000h (TCG PC Client Platform TPM Profile
// for TPM 2.0, 1.05, chapter 6), without interrupts.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "device/device.h"
#include "device/tpm/backend.h"
#include "memory/io_space.h"

namespace limen::device {

class TpmTis final : public Device, private memory::IoHandler {
 public:
  static constexpr uint64_t kBase = 0xFED4'0000, kSize = 0x5000;

  /// Both outlive it.
  TpmTis(memory::IoSpace& mmio, TpmBackend& backend);
  ~TpmTis() override;

  void reset() override;

 private:
  static constexpr unsigned kLocalities = 5;
  enum class State : uint8_t { kIdle, kReady, kReception, kExecution, kCompletion };

  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

  // With the lock held:
  uint8_t read_fifo();
  [[nodiscard]] uint32_t register_value(unsigned locality, unsigned offset) const;
  [[nodiscard]] uint8_t access(unsigned locality) const;
  [[nodiscard]] uint32_t status(unsigned locality) const;
  [[nodiscard]] bool active(unsigned locality) const { return active_ == locality; }
  void write_access(unsigned locality, uint8_t value);
  void write_status(unsigned locality, uint32_t value);
  void write_fifo(uint8_t value);
  [[nodiscard]] bool expects_more() const;
  void activate(unsigned locality);
  void release();
  void abandon();
  void go();

  // Without it:
  void act();
  void completed(uint64_t serial, std::vector<uint8_t> response);

  memory::IoSpace& mmio_;
  TpmBackend& backend_;
  std::mutex mutex_;
  // guarded by mutex_:
  State state_ = State::kIdle;
  std::optional<unsigned> active_;  ///< The locality that has the TPM.
  std::array<bool, kLocalities> requested_{}, seized_{};
  std::array<uint32_t, kLocalities> interrupt_enable_{};
  bool established_ = false;
  std::vector<uint8_t> buffer_;  ///< The command as far as it came, or what is left of a response.
  size_t position_ = 0;          ///< Of the response.
  uint64_t serial_ = 0;          ///< Of the command under way, or of the last.
  bool abandoned_ = false;       ///< Nobody wants the response of the command under way.
  // What is to be asked of the backend without the lock.
  std::vector<uint8_t> to_execute_;
  bool to_cancel_ = false, to_reset_established_ = false;
};

}  // namespace limen::device
