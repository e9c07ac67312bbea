#include "virtio/virtqueue.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace limen::virtio {

/// struct virtq_desc (virtio 1.2 §2.7.5). A copy: the driver may change the original at any time.
struct Virtqueue::Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};

namespace {

constexpr uint16_t kDescNext = 1, kDescWrite = 2, kDescIndirect = 4;
constexpr uint16_t kAvailNoInterrupt = 1;
constexpr size_t kDescriptorBytes = 16;
constexpr size_t kFlags = 0, kIndex = 2, kRing = 4;  // offsets in both rings (§2.7.6, §2.7.8)
constexpr size_t kUsedElementBytes = 8;

/// A 16-bit field of a ring, which the driver accesses at the same time. Rings are aligned.
std::atomic_ref<uint16_t> field(std::span<std::byte> ring, size_t offset) {
  return std::atomic_ref(*reinterpret_cast<uint16_t*>(ring.data() + offset));
}

/// Whether an index moving from `before` to `now` passed `event` (§2.7.10).
bool passed(uint16_t event, uint16_t now, uint16_t before) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - before);
}

/// Copies between `flat` and `buffers` from `offset` on; `copy(buffer part, flat part)`.
template <typename Flat, typename Copy>
size_t transfer(const std::vector<Buffer>& buffers, uint64_t offset, Flat flat, Copy copy) {
  size_t done = 0;
  for (const Buffer& buffer : buffers) {
    if (offset >= buffer.bytes.size()) {
      offset -= buffer.bytes.size();
      continue;
    }
    const auto part = buffer.bytes.subspan(offset);
    const size_t count = std::min(part.size(), flat.size() - done);
    copy(part.first(count), flat.subspan(done, count));
    done += count;
    offset = 0;
    if (done == flat.size()) break;
  }
  return done;
}

}  // namespace

size_t DescriptorChain::read(uint64_t offset, std::span<std::byte> into) const {
  return transfer(readable, offset, into, [](std::span<std::byte> from, std::span<std::byte> to) {
    std::ranges::copy(from, to.begin());
  });
}

size_t DescriptorChain::write(uint64_t offset, std::span<const std::byte> from) const {
  return transfer(writable, offset, from,
                  [](std::span<std::byte> to, std::span<const std::byte> part) {
                    std::ranges::copy(part, to.begin());
                  });
}

bool Virtqueue::break_locked(std::string reason) {
  broken_reason_ = std::move(reason);
  state_.store(State::kBroken, std::memory_order_release);
  return false;
}

bool Virtqueue::enable(const QueueSetup& setup) {
  const std::lock_guard lock(mutex_);
  setup_ = setup;
  next_available_ = next_used_ = 0;
  lent_ = false;
  const auto refuse = [this](std::string reason) {
    break_locked(std::move(reason));
    return false;
  };
  if (setup.size == 0 || setup.size > kMaximumSize || !std::has_single_bit(setup.size))
    return refuse(
        fmt::format("queue size {} is not a power of two up to {}", setup.size, kMaximumSize));
  // Sizes and alignments: virtio 1.2 §2.7. The rings have a trailing event field each.
  if (setup.descriptors.value % 16 != 0 || setup.driver_area.value % 2 != 0 ||
      setup.device_area.value % 4 != 0)
    return refuse(fmt::format("rings at {:#x}, {:#x}, {:#x} are not aligned",
                              setup.descriptors.value, setup.driver_area.value,
                              setup.device_area.value));
  descriptors_ = memory_.span(setup.descriptors, kDescriptorBytes * setup.size);
  available_ = memory_.span(setup.driver_area, kRing + 2u * setup.size + 2);
  used_ = memory_.span(setup.device_area, kRing + kUsedElementBytes * setup.size + 2);
  if (descriptors_.empty() || available_.empty() || used_.empty())
    return refuse(fmt::format("rings at {:#x}, {:#x}, {:#x} with {} entries are not in RAM",
                              setup.descriptors.value, setup.driver_area.value,
                              setup.device_area.value, setup.size));
  state_.store(State::kOn, std::memory_order_release);
  return true;
}

void Virtqueue::disable() {
  const std::lock_guard lock(mutex_);
  state_.store(State::kOff, std::memory_order_release);
  broken_reason_.clear();
  descriptors_ = available_ = used_ = {};
  lent_ = false;
}

std::optional<Virtqueue::Rings> Virtqueue::lend(size_t unused) {
  const std::lock_guard lock(mutex_);
  if (!enabled() || lent_) return std::nullopt;
  next_available_ = static_cast<uint16_t>(next_available_ - unused);
  lent_ = true;
  return Rings{.size = setup_.size,
               .next_available = next_available_,
               .descriptors = descriptors_.data(),
               .available = available_.data(),
               .used = used_.data()};
}

void Virtqueue::take_back(uint16_t next_available) {
  const std::lock_guard lock(mutex_);
  if (!enabled() || !lent_) return;
  lent_ = false;
  next_available_ = next_available;
  next_used_ = field(used_, kIndex).load(std::memory_order_acquire);
  // This side never asks for no notifications; the other may just have.
  field(used_, kFlags).store(0, std::memory_order_relaxed);
}

std::string Virtqueue::broken_reason() const {
  const std::lock_guard lock(mutex_);
  return broken_reason_;
}

bool Virtqueue::available_locked() {
  const uint16_t index = field(available_, kIndex).load(std::memory_order_acquire);
  const auto waiting = static_cast<uint16_t>(index - next_available_);
  if (waiting > setup_.size) {
    break_locked(fmt::format("available index jumped from {} to {} in a queue of {}",
                             next_available_, index, setup_.size));
    return false;
  }
  return waiting != 0;
}

bool Virtqueue::has_available() {
  const std::lock_guard lock(mutex_);
  return enabled() && !lent_ && available_locked();
}

std::optional<DescriptorChain> Virtqueue::pop() {
  DescriptorChain chain;
  if (!pop_into(chain)) return std::nullopt;
  return chain;
}

bool Virtqueue::pop_into(DescriptorChain& chain) {
  const std::lock_guard lock(mutex_);
  if (!enabled() || lent_) return false;
  if (!available_locked()) {
    if (broken()) return false;
    // Ask to be notified of the next one, then look again: the driver may have added it before it
    // saw the request (§2.7.10).
    if (setup_.event_index) {
      const size_t event = kRing + kUsedElementBytes * setup_.size;
      field(used_, event).store(next_available_, std::memory_order_relaxed);
      memory_.note_written(setup_.device_area + event, 2);
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!available_locked()) return false;
  }
  const size_t slot = next_available_ % setup_.size;
  const uint16_t head = field(available_, kRing + 2 * slot).load(std::memory_order_relaxed);
  if (!read_chain_locked(head, chain)) return false;
  ++next_available_;
  return true;
}

bool Virtqueue::read_chain_locked(uint16_t head, DescriptorChain& chain) {
  chain.head = head;
  chain.readable.clear();
  chain.writable.clear();
  chain.readable_bytes = chain.writable_bytes = 0;
  std::span<const std::byte> table = descriptors_;
  bool indirect = false;
  uint16_t index = head;
  for (size_t steps = 0;; ++steps) {
    const size_t entries = table.size() / kDescriptorBytes;
    if (index >= entries)
      return break_locked(
          fmt::format("descriptor index {} is outside a table of {}", index, entries));
    if (steps >= entries) return break_locked(fmt::format("descriptors from {} on loop", head));

    Descriptor descriptor;
    static_assert(sizeof descriptor == kDescriptorBytes);
    std::memcpy(&descriptor, table.data() + index * kDescriptorBytes, kDescriptorBytes);

    if ((descriptor.flags & kDescIndirect) != 0) {
      if (!setup_.indirect)
        return break_locked("indirect descriptor without VIRTIO_F_INDIRECT_DESC");
      if (indirect) return break_locked("indirect descriptor inside an indirect table");
      if ((descriptor.flags & kDescNext) != 0)
        return break_locked("indirect descriptor with a next one");
      if (descriptor.length == 0 || descriptor.length % kDescriptorBytes != 0)
        return break_locked(fmt::format("indirect table of {} bytes", descriptor.length));
      table = memory_.span({descriptor.address}, descriptor.length);
      if (table.empty())
        return break_locked(fmt::format("indirect table {:#x}+{:#x} is not in RAM",
                                        descriptor.address, descriptor.length));
      indirect = true;
      index = 0;
      steps = SIZE_MAX;  // counts the table's own entries from 0
      continue;
    }
    if (!add_buffer_locked(chain, descriptor)) return false;
    if ((descriptor.flags & kDescNext) == 0) return true;
    index = descriptor.next;
  }
}

bool Virtqueue::add_buffer_locked(DescriptorChain& chain, const Descriptor& descriptor) {
  const auto refuse = [this](std::string reason) {
    break_locked(std::move(reason));
    return false;
  };
  const bool writable = (descriptor.flags & kDescWrite) != 0;
  if (descriptor.length == 0) return refuse("descriptor of zero bytes");
  if (!writable && !chain.writable.empty())
    return refuse("device-readable descriptor after a device-writable one");
  if (chain.readable.size() + chain.writable.size() >= kMaximumChain)
    return refuse(fmt::format("chain of more than {} descriptors", kMaximumChain));
  // "The total length of a descriptor chain is at most 2^32 bytes" (§2.7.5.2).
  if (chain.readable_bytes + chain.writable_bytes + descriptor.length > UINT32_MAX)
    return refuse("descriptor lengths add up to more than 4 GiB");
  const auto bytes = memory_.span({descriptor.address}, descriptor.length);
  if (bytes.empty())
    return refuse(
        fmt::format("descriptor {:#x}+{:#x} is not in RAM", descriptor.address, descriptor.length));
  (writable ? chain.writable : chain.readable).push_back({{descriptor.address}, bytes});
  (writable ? chain.writable_bytes : chain.readable_bytes) += descriptor.length;
  return true;
}

bool Virtqueue::push(const DescriptorChain& chain, uint32_t written) {
  return push_all({&chain, 1}, {&written, 1});
}

bool Virtqueue::push_all(std::span<const DescriptorChain> chains,
                         std::span<const uint32_t> written) {
  const std::lock_guard lock(mutex_);
  if (!enabled() || lent_) return false;
  const uint16_t before = next_used_;
  for (size_t i = 0; i < chains.size(); ++i) {
    // Before the driver can know of it: it may run what was just read from the disk.
    for (const Buffer& buffer : chains[i].writable)
      memory_.note_written(buffer.address, buffer.bytes.size());
    const size_t element = kRing + kUsedElementBytes * (next_used_ % setup_.size);
    const uint32_t entry[2] = {chains[i].head, written[i]};
    std::memcpy(used_.data() + element, entry, sizeof entry);
    memory_.note_written(setup_.device_area + element, sizeof entry);
    ++next_used_;
  }
  field(used_, kIndex).store(next_used_, std::memory_order_release);
  memory_.note_written(setup_.device_area + kIndex, 2);

  // The driver stores its wish and then looks at the used index; this side does the reverse
  // (§2.7.7.2, §2.7.10).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!setup_.event_index)
    return (field(available_, kFlags).load(std::memory_order_relaxed) & kAvailNoInterrupt) == 0;
  const size_t used_event = kRing + 2u * setup_.size;
  return passed(field(available_, used_event).load(std::memory_order_relaxed), next_used_, before);
}

}  // namespace limen::virtio
