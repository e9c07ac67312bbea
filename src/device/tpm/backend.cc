#include "device/tpm/backend.h"

namespace limen::device {

TpmBackend::Response tpm_error(uint32_t code) {
  return {0x80,
          0x01,
          0,
          0,
          0,
          kTpmHeaderBytes,
          static_cast<uint8_t>(code >> 24),
          static_cast<uint8_t>(code >> 16),
          static_cast<uint8_t>(code >> 8),
          static_cast<uint8_t>(code)};
}

}  // namespace limen::device
