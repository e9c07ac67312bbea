// What a guest can say of a frame: any header, any packet, cut in software.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "net/checksum.h"
#include "net/segmentation.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limen::net;
  OffloadHeader header;
  if (size < sizeof header) return 0;
  std::memcpy(&header, data, sizeof header);
  const auto* start = reinterpret_cast<const std::byte*>(data) + sizeof header;
  std::vector<std::byte> frame(start, start + (size - sizeof header));
  const auto check = [](const Frame& piece) {
    std::vector<std::byte> storage;
    if (flatten(piece, storage).size() != piece.bytes) std::abort();
  };
  std::vector<std::byte> copy = frame;
  complete_checksum(copy, header);
  copy = frame;
  segment_frame(copy, header, check);
  copy = frame;
  fragment_ip4(copy, 28 + header.segment_bytes, check);
  return 0;
}
