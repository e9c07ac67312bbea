// What stands behind the interface of a TPM: whoever executes its commands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace limen::device {

/// Commands and responses as the TPM 2.0 Library Specification has them (Part 1, chapter 18).
class TpmBackend {
 public:
  /// With its header, which says how long it is; a backend that is gone answers with failure.
  using Response = std::vector<uint8_t>;

  virtual ~TpmBackend() = default;
  /// The most bytes of a command or response, which is what the interface holds.
  [[nodiscard]] virtual uint32_t buffer_bytes() const = 0;
  /// As after power-on: before the first command and at every reset. Waits for one under way.
  virtual void start() = 0;
  /// Has a command executed from `locality`, 0 to 4; one at a time. `done` is called once, on a
  /// thread of the backend's.
  virtual void execute(uint8_t locality, std::vector<uint8_t> command,
                       std::function<void(Response)> done) = 0;
  /// The command under way should come to an end.
  virtual void cancel() = 0;
  /// A dynamic launch took place (TPM_ACCESS.tpmEstablishment, which is active low).
  [[nodiscard]] virtual bool established() = 0;
  virtual void reset_established(uint8_t locality) = 0;
};

/// Of a header: tag, size, code, big-endian.
inline constexpr size_t kTpmHeaderBytes = 10;
/// The size in a header of at least six bytes.
[[nodiscard]] inline uint32_t tpm_size(const uint8_t* header) {
  return uint32_t{header[2]} << 24 | uint32_t{header[3]} << 16 | uint32_t{header[4]} << 8 |
         header[5];
}

inline constexpr uint32_t kTpmFailure = 0x101, kTpmCommandSize = 0x142;  ///< TPM_RC (Part 2, 6.6).
/// A response that is nothing but its header, without sessions.
[[nodiscard]] TpmBackend::Response tpm_error(uint32_t code);

}  // namespace limen::device
