#include "virtio/block/block.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/trace.h"
#include "virtio/scatter.h"

namespace limen::virtio {

namespace {

/// Feature bits (virtio 1.2 §5.2.3).
constexpr uint64_t kSegMax = 1 << 2, kReadOnly = 1 << 5, kBlkSize = 1 << 6, kFlush = 1 << 9,
                   kTopology = 1 << 10, kConfigWce = 1 << 11, kMultiQueue = 1 << 12,
                   kDiscard = 1 << 13, kWriteZeroes = 1 << 14;

/// Request types and status (§5.2.6).
enum RequestType : uint32_t {
  kIn = 0,
  kOut = 1,
  kFlushRequest = 4,
  kGetId = 8,
  kDiscardRequest = 11,
  kWriteZeroesRequest = 13
};
constexpr uint8_t kOk = 0, kIoError = 1, kUnsupported = 2;

constexpr uint64_t kSectorBytes = 512;
constexpr uint32_t kMaximumRangeSectors = (1u << 30) / kSectorBytes;
constexpr uint32_t kMaximumRanges = 32;
constexpr uint32_t kUnmapFlag = 1;

/// struct virtio_blk_config up to secure erase (§5.2.4).
struct __attribute__((packed)) Configuration {
  uint64_t capacity;
  uint32_t size_max;
  uint32_t seg_max;
  uint16_t cylinders;
  uint8_t heads;
  uint8_t sectors;
  uint32_t blk_size;
  uint8_t physical_block_exponent;
  uint8_t alignment_offset;
  uint16_t minimum_io_size;
  uint32_t optimal_io_size;
  uint8_t write_back;
  uint8_t unused0;
  uint16_t num_queues;
  uint32_t max_discard_sectors;
  uint32_t max_discard_seg;
  uint32_t discard_sector_alignment;
  uint32_t max_write_zeroes_sectors;
  uint32_t max_write_zeroes_seg;
  uint8_t write_zeroes_may_unmap;
  uint8_t unused1[3];
};
static_assert(sizeof(Configuration) == 60);

trace::Event trace_read("virtio_blk_handle_read");
trace::Event trace_write("virtio_blk_handle_write");
trace::Event trace_complete("virtio_blk_req_complete");

struct Header {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};
static_assert(sizeof(Header) == 16);

}  // namespace

/// struct virtio_blk_discard_write_zeroes (§5.2.6).
struct Block::Range {
  uint64_t sector;
  uint32_t sectors;
  uint32_t flags;
};

/// One request of the driver's, from pop() to push().
struct Block::Operation {
  Block& block;
  unsigned queue;
  DescriptorChain chain;
  std::atomic<unsigned> parts{1};  ///< Requests to the disk not yet done.
  std::atomic<int> error{0};       ///< The first one's errno.
  uint64_t written = 0;            ///< Data bytes that success writes to guest memory.
  bool flush_after = false;  ///< Write-through: a flush follows before the driver hears of it.
};

Result<std::unique_ptr<Block>> Block::create(const BlockProperties& properties,
                                             block::BlockDevice& disk) {
  if (properties.num_queues < 1 || properties.num_queues > 64)
    return fail("num-queues={}: a virtio disk has 1 to 64 queues", properties.num_queues);
  if (properties.queue_size < 4 || properties.queue_size > Virtqueue::kMaximumSize ||
      !std::has_single_bit(properties.queue_size))
    return fail("queue-size={}: it must be a power of two from 4 to {}", properties.queue_size,
                Virtqueue::kMaximumSize);
  if (properties.serial.size() > kSerialBytes)
    return fail("serial={}: a virtio disk's serial number has at most {} bytes, this has {}",
                properties.serial, kSerialBytes, properties.serial.size());
  for (const auto& [name, size] :
       {std::pair{"logical_block_size", properties.logical_block_size},
        std::pair{"physical_block_size", properties.physical_block_size}})
    if (size < 512 || size > 32768 || !std::has_single_bit(size))
      return fail("{}={}: it must be a power of two from 512 to 32768", name, size);
  if (properties.logical_block_size > properties.physical_block_size)
    return fail("logical_block_size={} is larger than physical_block_size={}",
                properties.logical_block_size, properties.physical_block_size);
  return std::unique_ptr<Block>(new Block(properties, disk));
}

Block::Block(const BlockProperties& properties, block::BlockDevice& disk)
    : properties_(properties),
      disk_(disk),
      write_back_(properties.write_cache),
      service_(properties.num_queues, properties.thread, [this](unsigned index) { serve(index); }) {
  if (properties.thread != nullptr) disk_.run_on(*properties.thread);
}

Block::~Block() { Block::reset(); }

uint64_t Block::features() const {
  uint64_t bits = kSegMax | kBlkSize | kFlush | kTopology;
  if (properties_.config_wce) bits |= kConfigWce;
  if (properties_.num_queues > 1) bits |= kMultiQueue;
  if (disk_.read_only()) return bits | kReadOnly;
  if (properties_.discard && disk_.supports_discard()) bits |= kDiscard;
  if (properties_.write_zeroes) bits |= kWriteZeroes;
  return bits;
}

size_t Block::configuration_size() const { return sizeof(Configuration); }

void Block::read_configuration(size_t offset, std::span<std::byte> into) {
  Configuration configuration{};
  configuration.capacity = disk_.size() / kSectorBytes;
  configuration.seg_max = properties_.queue_size - 2u;  // header and status take one each
  configuration.blk_size = block_size();
  configuration.physical_block_exponent = static_cast<uint8_t>(
      std::countr_zero(std::max(properties_.physical_block_size, block_size()) / block_size()));
  configuration.minimum_io_size = 1;
  configuration.write_back = write_back_;
  configuration.num_queues = static_cast<uint16_t>(properties_.num_queues);
  configuration.max_discard_sectors = kMaximumRangeSectors;
  configuration.max_discard_seg = kMaximumRanges;
  configuration.discard_sector_alignment =
      static_cast<uint32_t>(std::max<uint64_t>(4096, block_size()) / kSectorBytes);
  configuration.max_write_zeroes_sectors = kMaximumRangeSectors;
  configuration.max_write_zeroes_seg = kMaximumRanges;
  configuration.write_zeroes_may_unmap = disk_.supports_discard();
  std::memcpy(into.data(), reinterpret_cast<const std::byte*>(&configuration) + offset,
              into.size());
}

void Block::write_configuration(size_t offset, std::span<const std::byte> from) {
  if (offset != offsetof(Configuration, write_back) || from.size() != 1) return;
  if ((transport_->negotiated_features() & kConfigWce) != 0) write_back_ = from[0] != std::byte{0};
}

uint32_t Block::block_size() const {
  return std::max(properties_.logical_block_size, disk_.logical_block_size());
}

bool Block::write_through() const {
  const uint64_t features = transport_->negotiated_features();
  if ((features & kConfigWce) != 0) return !write_back_;
  // A driver that cannot flush is promised a write-through disk (§5.2.5.2).
  return (features & kFlush) == 0 || !properties_.write_cache;
}

void Block::reset() {
  disk_.give_up_held(true);
  service_.wait_idle();
  disk_.give_up_held(false);
  write_back_ = properties_.write_cache;
}

void Block::queue_notified(unsigned index) { service_.notified(index); }

void Block::serve(unsigned index) {
  Virtqueue& queue = transport_->queue(index);
  while (auto chain = queue.pop()) {
    service_.begin();
    start(std::make_unique<Operation>(*this, index, *std::move(chain)));
  }
  stop_if_broken(*transport_, index);
}

void Block::start(OperationPointer operation) {
  const DescriptorChain& chain = operation->chain;
  Header header{};
  if (chain.read(0, std::as_writable_bytes(std::span(&header, 1))) != sizeof header ||
      chain.writable_bytes == 0) {
    // Nowhere to put a status: the driver broke §5.2.6.1.
    transport_->needs_reset("block request without a header or a status byte");
    service_.end();
    return;
  }
  switch (header.type) {
    case kIn:
      return start_transfer(std::move(operation), false, header.sector);
    case kOut:
      return start_transfer(std::move(operation), true, header.sector);
    case kFlushRequest:
      return start_flush(std::move(operation));
    case kGetId:
      return give_serial(std::move(operation));
    case kDiscardRequest:
    case kWriteZeroesRequest: {
      const bool zeroes = header.type == kWriteZeroesRequest;
      if ((transport_->negotiated_features() & (zeroes ? kWriteZeroes : kDiscard)) == 0) break;
      return start_ranges(std::move(operation), zeroes);
    }
    default:
      break;
  }
  finish(std::move(operation), kUnsupported);
}

bool Block::range_fits(uint64_t sector, uint64_t bytes) const {
  const uint64_t capacity = disk_.size() / kSectorBytes;
  const uint64_t block = block_size();
  return sector <= capacity && bytes / kSectorBytes <= capacity - sector && bytes % block == 0 &&
         sector * kSectorBytes % block == 0;
}

void Block::start_transfer(OperationPointer operation, bool write, uint64_t sector) {
  const DescriptorChain& chain = operation->chain;
  const uint64_t bytes = write ? chain.readable_bytes - sizeof(Header) : chain.writable_bytes - 1;
  (write ? trace_write : trace_read)(
      "vdev {} req {} sector {} nsectors {}", static_cast<const void*>(this),
      static_cast<const void*>(operation.get()), sector, bytes / kSectorBytes);
  if (!range_fits(sector, bytes) || (write && disk_.read_only()))
    return finish(std::move(operation), kIoError);
  if (bytes == 0) return finish(std::move(operation), kOk);
  block::Request request;
  request.kind = write ? block::Request::Kind::kWrite : block::Request::Kind::kRead;
  request.offset = sector * kSectorBytes;
  request.length = bytes;
  request.buffers =
      write ? slice(chain.readable, sizeof(Header), bytes) : slice(chain.writable, 0, bytes);
  operation->written = write ? 0 : bytes;
  operation->flush_after = write && write_through();
  request.done = [pending = operation.release()](int error) {
    pending->block.part_done(pending, error);
  };
  disk_.submit(std::move(request));
}

void Block::start_ranges(OperationPointer operation, bool write_zeroes) {
  const DescriptorChain& chain = operation->chain;
  const uint64_t bytes = chain.readable_bytes - sizeof(Header);
  const uint64_t count = bytes / sizeof(Range);
  if (bytes % sizeof(Range) != 0 || count == 0 || count > kMaximumRanges)
    return finish(std::move(operation), kUnsupported);
  Range ranges[kMaximumRanges];
  chain.read(sizeof(Header), std::as_writable_bytes(std::span(ranges).first(count)));
  for (const Range& range : std::span(ranges).first(count)) {
    // Discard has no flags; write-zeroes has one (§5.2.6.2).
    if ((range.flags & ~(write_zeroes ? kUnmapFlag : 0)) != 0)
      return finish(std::move(operation), kUnsupported);
    if (range.sectors > kMaximumRangeSectors ||
        !range_fits(range.sector, range.sectors * kSectorBytes) || disk_.read_only())
      return finish(std::move(operation), kIoError);
  }
  operation->parts = static_cast<unsigned>(count);
  operation->flush_after = write_through();
  Operation* pending = operation.release();
  for (uint64_t i = 0; i < count; ++i) {
    block::Request request;
    request.kind =
        write_zeroes ? block::Request::Kind::kWriteZeroes : block::Request::Kind::kDiscard;
    request.offset = ranges[i].sector * kSectorBytes;
    request.length = ranges[i].sectors * kSectorBytes;
    request.may_unmap = (ranges[i].flags & kUnmapFlag) != 0;
    request.done = [pending](int error) { pending->block.part_done(pending, error); };
    if (request.length == 0)
      request.done(0);
    else
      disk_.submit(std::move(request));
  }
}

void Block::start_flush(OperationPointer operation) {
  block::Request request;
  request.kind = block::Request::Kind::kFlush;
  request.done = [pending = operation.release()](int error) {
    pending->block.part_done(pending, error);
  };
  disk_.submit(std::move(request));
}

void Block::give_serial(OperationPointer operation) {
  const DescriptorChain& chain = operation->chain;
  std::byte serial[kSerialBytes]{};
  std::memcpy(serial, properties_.serial.data(), properties_.serial.size());
  const uint64_t room = std::min<uint64_t>(chain.writable_bytes - 1, kSerialBytes);
  const size_t written = chain.write(0, std::span(serial).first(room));
  finish(std::move(operation), kOk, written);
}

void Block::part_done(Operation* operation, int error) {
  if (error != 0) {
    int none = 0;
    operation->error.compare_exchange_strong(none, error);
  }
  if (operation->parts.fetch_sub(1) != 1) return;  // others are still at work
  OperationPointer owned(operation);
  const int first_error = operation->error;
  if (first_error == ENOTSUP || first_error == EOPNOTSUPP)
    return finish(std::move(owned), kUnsupported);
  if (first_error != 0) return finish(std::move(owned), kIoError);
  if (operation->flush_after) {
    operation->flush_after = false;
    operation->parts = 1;
    return start_flush(std::move(owned));
  }
  finish(std::move(owned), kOk, operation->written);
}

void Block::finish(OperationPointer operation, uint8_t status, uint64_t written) {
  const DescriptorChain& chain = operation->chain;
  trace_complete("vdev {} req {} status {}", static_cast<const void*>(this),
                 static_cast<const void*>(operation.get()), status);
  const std::byte last{status};
  chain.write(chain.writable_bytes - 1, std::span(&last, 1));
  const unsigned queue = operation->queue;
  const bool interrupt = transport_->queue(queue).push(chain, static_cast<uint32_t>(written + 1));
  operation.reset();
  if (interrupt) transport_->interrupt_queue(queue);
  service_.end();
}

}  // namespace limen::virtio
