// Rings and descriptors as a hostile driver writes them: whatever is in guest memory, the device's
// side only ever sees buffers in RAM, and comes to an end.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "virtio/virtqueue.h"

namespace {

using namespace limen;

constexpr uint64_t kRam = 64 << 10;

memory::GuestMemory& ram() {
  static auto memory = [] {
    const memory::GuestMemory::Layout layout{{0}, kRam};
    return *memory::GuestMemory::create(std::span(&layout, 1));
  }();
  return *memory;
}

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const std::vector<virtio::Buffer>& buffers, uint64_t total) {
  uint64_t sum = 0;
  for (const auto& buffer : buffers) {
    require(!buffer.bytes.empty());
    require(buffer.bytes.size() <= kRam && buffer.address.value <= kRam - buffer.bytes.size());
    require(buffer.bytes.data() == ram().span(buffer.address, 1).data());
    sum += buffer.bytes.size();
  }
  require(sum == total);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  auto memory = ram().span({0}, kRam);
  std::memset(memory.data(), 0, memory.size());
  // The rings stand at the start of the input's image of RAM, so that mutations hit them.
  virtio::QueueSetup setup;
  setup.size = static_cast<uint16_t>(1u << (data[0] % 8));
  setup.event_index = (data[0] & 0x80) != 0;
  setup.indirect = (data[0] & 0x40) != 0;
  setup.descriptors = {0};
  setup.driver_area = {16ull * setup.size};
  setup.device_area = {(setup.driver_area.value + 6 + 2ull * setup.size + 3) & ~3ull};
  const unsigned rounds = 1 + data[1] % 4;
  std::memcpy(memory.data(), data + 2, std::min<size_t>(size - 2, memory.size()));

  virtio::Virtqueue queue(ram());
  require(queue.enable(setup));
  for (unsigned round = 0; round < rounds; ++round) {
    while (const auto chain = queue.pop()) {
      check(chain->readable, chain->readable_bytes);
      check(chain->writable, chain->writable_bytes);
      require(chain->readable_bytes + chain->writable_bytes <= UINT32_MAX);
      std::byte bytes[64] = {};
      chain->read(chain->readable_bytes / 2, bytes);
      // May overwrite rings and descriptors: a driver can point a buffer at them.
      const size_t written = chain->write(chain->writable_bytes / 2, bytes);
      (void)queue.push(*chain, static_cast<uint32_t>(written));
      if (queue.broken()) break;
    }
    if (queue.broken()) break;
  }
  queue.disable();
  require(!queue.pop());
  return 0;
}
