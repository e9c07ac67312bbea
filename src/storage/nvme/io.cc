// I/O commands (NVM Express Base 1.4 §6), and the guest memory that commands name.
#include <algorithm>
#include <cstring>
#include <utility>

#include "storage/nvme/nvme.h"

namespace limen::storage {

using namespace nvme;

namespace {

constexpr uint8_t kDataPointerMask = 0xC0;
constexpr uint32_t kAllNamespaces = 0xFFFF'FFFF;

}  // namespace

uint32_t Nvme::block_bytes() const {
  return std::max(properties_.logical_block_size, disk_.logical_block_size());
}

bool Nvme::fits(uint64_t block, uint64_t count) const {
  return block <= blocks() && count <= blocks() - block;
}

/// Physical region pages (§4.3): the first may begin anywhere in its page, the second is a page or
/// a list of pages, whose last entry leads to the next list.
Status Nvme::gather(const Command& command, uint64_t bytes, ScatterList& scatter) const {
  const uint64_t page = page_bytes();
  if (properties_.largest_transfer != 0 && bytes > uint64_t{4096} << properties_.largest_transfer)
    return kInvalidField;
  if (command.prp1 % 4 != 0) return kPrpOffsetInvalid;
  const uint64_t first = std::min(bytes, page - command.prp1 % page);
  if (!scatter.add(memory_, {command.prp1}, first)) return kDataTransferError;
  uint64_t left = bytes - first;
  if (left == 0) return kSuccess;
  if (left <= page) {
    if (command.prp2 % page != 0) return kPrpOffsetInvalid;
    return scatter.add(memory_, {command.prp2}, left) ? kSuccess : kDataTransferError;
  }
  if (command.prp2 % 8 != 0) return kPrpOffsetInvalid;
  for (uint64_t at = command.prp2; left != 0; at += 8) {
    uint64_t entry = 0;
    const auto into = std::as_writable_bytes(std::span(&entry, 1));
    if (!memory_.read({at}, into)) return kDataTransferError;
    if (left > page && at % page == page - 8) {
      // The next list, which is whole pages from its start.
      if (entry % page != 0) return kPrpOffsetInvalid;
      at = entry;
      if (!memory_.read({at}, into)) return kDataTransferError;
    }
    if (entry % page != 0) return kPrpOffsetInvalid;
    const uint64_t length = std::min(left, page);
    if (!scatter.add(memory_, {entry}, length)) return kDataTransferError;
    left -= length;
  }
  return kSuccess;
}

uint16_t Nvme::give(const Command& command, std::span<const uint8_t> data) {
  ScatterList scatter;
  if (const Status status = gather(command, data.size(), scatter); status != kSuccess)
    return status;
  size_t done = 0;
  for (const iovec& buffer : scatter.buffers()) {
    std::memcpy(buffer.iov_base, data.data() + done, buffer.iov_len);
    done += buffer.iov_len;
  }
  scatter.note_written(memory_);
  return kSuccess;
}

std::expected<Nvme::Job, uint16_t> Nvme::begin(uint16_t queue, const Command& command) {
  const bool flush = command.opcode == kFlush;
  if (command.namespace_id != 1 && !(flush && command.namespace_id == kAllNamespaces))
    return std::unexpected(uint16_t{kInvalidNamespace});
  if ((command.flags & kDataPointerMask) != 0) return std::unexpected(uint16_t{kInvalidField});
  switch (command.opcode) {
    case kFlush: {
      Job job{.pending = std::make_shared<Pending>(Pending{queue, command.id, {}, false, true})};
      job.requests.push_back({.kind = block::Request::Kind::kFlush});
      return job;
    }
    case kRead:
    case kWrite:
    case kWriteZeroes:
      return begin_transfer(queue, command);
    case kDatasetManagement:
      if (!properties_.discard) break;
      return begin_deallocation(queue, command);
    default:
      break;
  }
  return std::unexpected(uint16_t{kInvalidOpcode});
}

std::expected<Nvme::Job, uint16_t> Nvme::begin_transfer(uint16_t queue, const Command& command) {
  constexpr uint32_t kForceUnitAccess = 1u << 30, kDeallocate = 1u << 25;
  const uint64_t start = command.words[0] | uint64_t{command.words[1]} << 32;
  const uint64_t count = (command.words[2] & 0xFFFF) + uint64_t{1};
  if (!fits(start, count)) return std::unexpected(uint16_t{kLbaOutOfRange});
  const bool write = command.opcode != kRead;
  Job job{.pending = std::make_shared<Pending>(Pending{queue, command.id, {}, !write, write})};
  job.durable =
      write && ((command.words[2] & kForceUnitAccess) != 0 || features_[kVolatileWriteCache] == 0);
  block::Request request;
  request.offset = start * block_bytes();
  request.length = count * block_bytes();
  if (command.opcode == kWriteZeroes) {
    request.kind = block::Request::Kind::kWriteZeroes;
    request.may_unmap = (command.words[2] & kDeallocate) != 0;
  } else {
    if (const Status status = gather(command, request.length, job.pending->scatter);
        status != kSuccess)
      return std::unexpected(uint16_t{status});
    request.kind = write ? block::Request::Kind::kWrite : block::Request::Kind::kRead;
    request.buffers = job.pending->scatter.buffers();
  }
  if (write) {
    ++writes_;
    blocks_written_ += count;
  } else {
    ++reads_;
    blocks_read_ += count;
  }
  job.requests.push_back(std::move(request));
  return job;
}

std::expected<Nvme::Job, uint16_t> Nvme::begin_deallocation(uint16_t queue,
                                                            const Command& command) {
  constexpr uint32_t kDeallocate = 1 << 2;
  constexpr size_t kMostRanges = 256;
  const size_t count = (command.words[0] & 0xFF) + size_t{1};
  Job job{.pending = std::make_shared<Pending>(Pending{queue, command.id, {}, false, true})};
  if ((command.words[1] & kDeallocate) == 0) return job;
  ScatterList list;
  if (const Status status = gather(command, count * sizeof(Range), list); status != kSuccess)
    return std::unexpected(uint16_t{status});
  std::array<Range, kMostRanges> ranges{};
  size_t copied = 0;
  for (const iovec& buffer : list.buffers()) {
    std::memcpy(reinterpret_cast<std::byte*>(ranges.data()) + copied, buffer.iov_base,
                buffer.iov_len);
    copied += buffer.iov_len;
  }
  for (const Range& range : std::span(ranges).first(count)) {
    if (!fits(range.start, range.blocks)) return std::unexpected(uint16_t{kLbaOutOfRange});
    if (range.blocks == 0 || !disk_.supports_discard()) continue;
    job.requests.push_back({.kind = block::Request::Kind::kDiscard,
                            .offset = range.start * block_bytes(),
                            .length = uint64_t{range.blocks} * block_bytes()});
  }
  return job;
}

}  // namespace limen::storage
