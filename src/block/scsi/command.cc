#include "block/scsi/command.h"

#include <algorithm>
#include <cstring>

namespace limen::block::scsi {

std::array<uint8_t, kFixedSenseBytes> fixed_sense(const Sense& sense) {
  std::array<uint8_t, kFixedSenseBytes> bytes = {};
  bytes[0] = 0x70;  // current, fixed format
  bytes[2] = sense.key;
  bytes[7] = kFixedSenseBytes - 8;
  bytes[12] = sense.code;
  bytes[13] = sense.qualifier;
  return bytes;
}

size_t cdb_length(uint8_t opcode) {
  constexpr std::array<uint8_t, 8> kByGroup = {6, 10, 10, 0, 16, 12, 0, 0};
  return kByGroup[opcode >> 5];
}

size_t copy_to(std::span<const iovec> buffers, std::span<const uint8_t> bytes) {
  size_t done = 0;
  for (const iovec& buffer : buffers) {
    const size_t count = std::min(buffer.iov_len, bytes.size() - done);
    if (count != 0) std::memcpy(buffer.iov_base, bytes.data() + done, count);
    done += count;
  }
  return done;
}

size_t copy_from(std::span<const iovec> buffers, std::span<uint8_t> bytes) {
  size_t done = 0;
  for (const iovec& buffer : buffers) {
    const size_t count = std::min(buffer.iov_len, bytes.size() - done);
    if (count != 0) std::memcpy(bytes.data() + done, buffer.iov_base, count);
    done += count;
  }
  return done;
}

}  // namespace limen::block::scsi
