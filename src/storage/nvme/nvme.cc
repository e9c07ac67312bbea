#include "storage/nvme/nvme.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <utility>

#include "base/trace.h"

namespace limen::storage {

using namespace nvme;

namespace {

trace::Event trace_write("pci_nvme_mmio_write");

constexpr uint64_t kRegisterBytes = 0x4000;
constexpr uint32_t kVersion = 0x0001'0400;
/// Queues of 2048 in one piece, 7.5 s to become ready, NVM commands, pages of 4 to 64 KiB.
constexpr uint64_t kCapabilities = (Nvme::kMostEntries - 1) | uint64_t{1} << 16 |
                                   uint64_t{15} << 24 | uint64_t{1} << 37 | uint64_t{4} << 52;
constexpr uint8_t kMostPageShift = 4;
/// As many as have doorbells in the registers' window.
constexpr unsigned kMostPairs = (kRegisterBytes - kDoorbells) / 8 - 1;

void replace_low(uint64_t& address, uint32_t value) {
  address = (address & ~uint64_t{0xFFFF'FFFF}) | value;
}
void replace_high(uint64_t& address, uint32_t value) {
  address = (address & 0xFFFF'FFFF) | uint64_t{value} << 32;
}

}  // namespace

Result<std::unique_ptr<Nvme>> Nvme::create(const NvmeProperties& properties,
                                           memory::GuestMemory& memory, block::BlockDevice& disk) {
  if (properties.serial.empty()) return fail("serial property not set");
  if (properties.serial.size() > 20)
    return fail("serial={}: an NVMe controller's has at most 20 bytes, this has {}",
                properties.serial, properties.serial.size());
  if (properties.queue_pairs < 1 || properties.queue_pairs > kMostPairs)
    return fail("max_ioqpairs={}: it must be 1 to {}", properties.queue_pairs, kMostPairs);
  if (properties.vectors < 1 || properties.vectors > pci::MsixTable::kMaximumVectors)
    return fail("msix_qsize={}: it must be 1 to {}", properties.vectors,
                pci::MsixTable::kMaximumVectors);
  for (const auto& [name, size] :
       {std::pair{"logical_block_size", properties.logical_block_size},
        std::pair{"physical_block_size", properties.physical_block_size}})
    if (size < 512 || size > 32768 || !std::has_single_bit(size))
      return fail("{}={}: it must be a power of two from 512 to 32768", name, size);
  if (disk.read_only()) return fail("Block node is read-only");
  return std::unique_ptr<Nvme>(new Nvme(properties, memory, disk));
}

Nvme::Nvme(const NvmeProperties& properties, memory::GuestMemory& memory, block::BlockDevice& disk)
    : PciFunction(properties.name, {.vendor = 0x1B36,
                                    .device = 0x0010,
                                    .revision = 2,
                                    .class_code = 0x010802,
                                    .subsystem_vendor = 0x1AF4,
                                    .subsystem = 0x1100}),
      properties_(properties),
      memory_(memory),
      disk_(disk),
      registers_(*this),
      submission_(properties.queue_pairs + 1),
      completion_(properties.queue_pairs + 1),
      vectors_due_(properties.vectors) {
  set_bar(kRegisterBar,
          {.kind = pci::BarKind::kMemory64, .size = kRegisterBytes, .handler = &registers_});
  add_msix(kMsixBar, properties.vectors);
  set_interrupt_pin(1);
  clear();
  features_[kVolatileWriteCache] = properties_.write_cache ? 1 : 0;
}

Nvme::~Nvme() { reset(); }

// --- The life of the controller -----------------------------------------------------------------

bool Nvme::quiet() const { return under_way_ == 0 && !feeding_ && inside_ == 0; }

/// Without queues and what was asked through them.
void Nvme::clear() {
  std::ranges::fill(submission_, SubmissionQueue{});
  std::ranges::fill(completion_, CompletionQueue{});
  std::fill(vectors_due_.begin(), vectors_due_.end(), false);
  any_due_ = false;
  event_requests_.clear();
  events_.clear();
  masked_events_.reset();
  namespace_changed_ = false;
  features_ = {};
  features_[kArbitration] = 7;
  features_[kTemperatureThreshold] = 343;
  features_[kVolatileWriteCache] = properties_.write_cache ? 1 : 0;
  mask_ = 0;
  stopping_ = false;
  flush_wanted_ = false;
  status_ = 0;
  update_line();
}

void Nvme::reset() {
  disk_.give_up_held(true);
  {
    std::unique_lock lock(mutex_);
    control_ = 0;
    stopping_ = true;  // nothing more is fetched
    idle_.wait(lock, [this] { return quiet(); });
    clear();
    admin_sizes_ = 0;
    admin_submission_ = admin_completion_ = 0;
  }
  disk_.give_up_held(false);
  deliver_intx();
  PciFunction::reset();
}

void Nvme::settle() {
  if (stopping_ && under_way_ == 0) clear();
}

/// CC.EN was set (§7.6.1): whether the driver's settings can be worked with.
bool Nvme::start() {
  const uint32_t shift = control_ >> 7 & 0xF;
  const uint64_t page = page_bytes();
  const uint32_t command_set = control_ >> 4 & 7, arbitration = control_ >> 11 & 7;
  const uint32_t submission = (admin_sizes_ & 0xFFF) + 1,
                 completion = (admin_sizes_ >> 16 & 0xFFF) + 1;
  if (shift > kMostPageShift || command_set != 0 || arbitration != 0) return false;
  if (admin_submission_ % page != 0 || admin_completion_ % page != 0) return false;
  if (submission < 2 || completion < 2) return false;
  submission_[0] = {.base = admin_submission_, .entries = submission};
  completion_[0] = {.base = admin_completion_, .entries = completion, .interrupts = true};
  return true;
}

void Nvme::write_control(uint32_t value) {
  constexpr uint32_t kShutdown = 3u << 14;
  const uint32_t before = std::exchange(control_, value & cc::kWritable);
  if ((value & ~before & cc::kEnable) != 0) {
    if (stopping_) return;  // the driver did not wait; it is not enabled
    status_ = start() ? csts::kReady : csts::kFatal;
  } else if ((before & ~value & cc::kEnable) != 0) {
    stopping_ = true;
    settle();
  }
  if ((value & kShutdown) != 0 && (before & kShutdown) == 0 &&
      (status_ & csts::kShutdownMask) == 0) {
    status_ |= csts::kShutdownOccurring;
    flush_wanted_ = true;
  }
}

/// CC.SHN: everything is on the disk before it is said to be over (§7.6.2).
void Nvme::shut_down() {
  disk_.submit({.kind = block::Request::Kind::kFlush, .done = [this](int) {
                  const std::lock_guard lock(mutex_);
                  --under_way_;
                  status_ = (status_ & ~csts::kShutdownMask) | csts::kShutdownComplete;
                  settle();
                  idle_.notify_all();
                }});
}

// --- Registers ----------------------------------------------------------------------------------

uint32_t Nvme::read(uint32_t offset) {
  const std::lock_guard lock(mutex_);
  switch (offset) {
    case kCap:
      return static_cast<uint32_t>(kCapabilities);
    case kCapHigh:
      return static_cast<uint32_t>(kCapabilities >> 32);
    case kVs:
      return kVersion;
    case kIntms:
    case kIntmc:
      return mask_;
    case kCc:
      return control_;
    case kCsts:
      return status_;
    case kAqa:
      return admin_sizes_;
    case kAsq:
      return static_cast<uint32_t>(admin_submission_);
    case kAsqHigh:
      return static_cast<uint32_t>(admin_submission_ >> 32);
    case kAcq:
      return static_cast<uint32_t>(admin_completion_);
    case kAcqHigh:
      return static_cast<uint32_t>(admin_completion_ >> 32);
    default:
      return 0;
  }
}

void Nvme::write_register(uint32_t offset, uint32_t value) {
  if (offset >= kDoorbells) return ring(offset - kDoorbells, value);
  switch (offset) {
    case kIntms:
      mask_ |= value;
      return update_line();
    case kIntmc:
      mask_ &= ~value;
      return update_line();
    case kCc:
      return write_control(value);
    case kAqa:
      admin_sizes_ = value & 0x0FFF'0FFF;
      return;
    case kAsq:
      return replace_low(admin_submission_, value & ~0xFFFu);
    case kAsqHigh:
      return replace_high(admin_submission_, value);
    case kAcq:
      return replace_low(admin_completion_, value & ~0xFFFu);
    case kAcqHigh:
      return replace_high(admin_completion_, value);
    default:
      return;
  }
}

/// A doorbell (§3.1.24): the driver put commands into a queue, or took completions out.
void Nvme::ring(uint32_t offset, uint32_t value) {
  constexpr uint8_t kErrorType = 0, kErrorLog = 1;
  constexpr uint8_t kInvalidRegister = 0, kInvalidValue = 1;
  if ((status_ & csts::kReady) == 0 || stopping_) return;
  const uint32_t queue = offset / 8;
  const bool completion = (offset & 4) != 0;
  if ((offset & 3) != 0 || queue >= submission_.size())
    return raise_event(kErrorType, kInvalidRegister, kErrorLog);
  const uint32_t entries = completion ? completion_[queue].entries : submission_[queue].entries;
  value &= 0xFFFF;
  if (entries == 0) return raise_event(kErrorType, kInvalidRegister, kErrorLog);
  if (value >= entries) return raise_event(kErrorType, kInvalidValue, kErrorLog);
  if (completion) {
    CompletionQueue& its = completion_[queue];
    // Only what was posted can have been taken.
    const uint32_t posted = (its.tail + entries - its.head) % entries;
    if ((value + entries - its.head) % entries > posted)
      return raise_event(kErrorType, kInvalidValue, kErrorLog);
    its.head = value;
    flush_waiting(its);
    update_line();
  } else {
    submission_[queue].tail = value;
  }
}

void Nvme::write(uint32_t offset, unsigned size, uint64_t value) {
  trace_write("addr {:#x} data {:#x} size {}", offset, value, size);
  bool flush = false;
  {
    const std::lock_guard lock(mutex_);
    if (size < 4) return;
    write_register(offset, static_cast<uint32_t>(value));
    if (size == 8) write_register(offset + 4, static_cast<uint32_t>(value >> 32));
    flush = std::exchange(flush_wanted_, false);
    if (flush) ++under_way_;
  }
  if (flush) shut_down();
  feed();
}

uint64_t Nvme::Registers::io_read(uint64_t offset, unsigned size) {
  uint64_t value = controller.read(static_cast<uint32_t>(offset & ~3ull));
  if (size == 8) value |= uint64_t{controller.read(static_cast<uint32_t>(offset + 4))} << 32;
  return value >> 8 * (offset & 3);
}

void Nvme::Registers::io_write(uint64_t offset, unsigned size, uint64_t value) {
  controller.write(static_cast<uint32_t>(offset), size, value);
}

// --- Interrupts ---------------------------------------------------------------------------------

/// INTx, which stands for every queue with a completion that the driver has not taken (§7.5.1).
void Nvme::update_line() {
  bool level = false;
  if (msix() == nullptr || !msix()->enabled())
    for (const auto& queue : completion_)
      level |= queue.entries != 0 && queue.interrupts && queue.head != queue.tail &&
               (queue.vector >= 32 || (mask_ >> queue.vector & 1) == 0);
  record_intx(level);
}

void Nvme::config_written(uint16_t, unsigned) {
  {
    const std::lock_guard lock(mutex_);
    update_line();
  }
  deliver_intx();
}

void Nvme::deliver() {
  std::vector<bool> due;
  {
    const std::lock_guard lock(mutex_);
    if (any_due_) {
      due = vectors_due_;
      std::fill(vectors_due_.begin(), vectors_due_.end(), false);
      any_due_ = false;
    }
  }
  for (size_t vector = 0; vector < due.size(); ++vector)
    if (due[vector]) msix()->notify(static_cast<unsigned>(vector));
  deliver_intx();
}

// --- Queues -------------------------------------------------------------------------------------

void Nvme::post(uint16_t index, Completion completion) {
  CompletionQueue& queue = completion_[index];
  if (queue.entries == 0) return;
  queue.waiting.push_back(completion);
  flush_waiting(queue);
}

void Nvme::flush_waiting(CompletionQueue& queue) {
  bool posted = false;
  while (!queue.waiting.empty() && (queue.tail + 1) % queue.entries != queue.head) {
    Completion completion = queue.waiting.front();
    queue.waiting.pop_front();
    completion.status = static_cast<uint16_t>(completion.status << 1 | (queue.phase ? 1 : 0));
    if (!memory_.write({queue.base + sizeof completion * queue.tail},
                       std::as_bytes(std::span(&completion, 1)))) {
      status_ |= csts::kFatal;
      return;
    }
    if (++queue.tail == queue.entries) {
      queue.tail = 0;
      queue.phase = !queue.phase;
    }
    posted = true;
  }
  if (!posted || !queue.interrupts) return;
  if (msix()->enabled() && queue.vector < vectors_due_.size()) {
    vectors_due_[queue.vector] = true;
    any_due_ = true;
  }
  update_line();
}

void Nvme::complete(uint16_t queue, uint16_t id, uint16_t status, uint32_t result) {
  const SubmissionQueue& its = submission_[queue];
  // Errors of the command's own are the same next time; those of the medium perhaps not.
  const bool again = status == kSuccess || status >= kWriteFault || status == kInternalError;
  post(its.completion, {.result = result,
                        .reserved = 0,
                        .submission_head = static_cast<uint16_t>(its.head),
                        .submission_queue = queue,
                        .id = id,
                        .status = static_cast<uint16_t>(again ? status : status | kDoNotRetry)});
}

std::optional<Nvme::Job> Nvme::next() {
  if ((status_ & (csts::kReady | csts::kFatal)) != csts::kReady || stopping_) return std::nullopt;
  const auto count = static_cast<uint32_t>(submission_.size());
  // Round robin (§4.13.1): the queue after the one that was served last. Admin commands and others
  // that need no disk end on the way.
  for (uint32_t idle = 0; idle < count && !stopping_ && (status_ & csts::kFatal) == 0;) {
    const uint32_t index = next_queue_;
    next_queue_ = (next_queue_ + 1) % count;
    const SubmissionQueue& queue = submission_[index];
    const bool ready = queue.entries != 0 && queue.head != queue.tail && !queue.deletion &&
                       queue.under_way < queue.entries &&
                       completion_[queue.completion].waiting.empty();
    if (!ready) {
      ++idle;
      continue;
    }
    idle = 0;
    if (auto job = fetch(static_cast<uint16_t>(index))) return job;
  }
  return std::nullopt;
}

std::optional<Nvme::Job> Nvme::fetch(uint16_t index) {
  SubmissionQueue& queue = submission_[index];
  Command command{};
  if (!memory_.read({queue.base + sizeof command * queue.head},
                    std::as_writable_bytes(std::span(&command, 1)))) {
    status_ |= csts::kFatal;
    return std::nullopt;
  }
  queue.head = (queue.head + 1) % queue.entries;
  if (index == 0) {
    uint32_t result = 0;
    if (const auto status = administer(command, result)) complete(0, command.id, *status, result);
    return std::nullopt;
  }
  auto job = begin(index, command);
  if (!job) {
    complete(index, command.id, job.error());
    return std::nullopt;
  }
  ++queue.under_way;
  ++under_way_;
  return std::move(*job);
}

/// A disk that ends a request at once, on this very thread, does not get here again: the loop goes
/// on instead.
void Nvme::feed() {
  {
    std::unique_lock lock(mutex_);
    if (feeding_) {
      feed_again_ = true;
      return;
    }
    feeding_ = true;
    do {
      feed_again_ = false;
      while (auto job = next()) {
        lock.unlock();
        submit(std::move(*job));
        lock.lock();
      }
    } while (feed_again_);
    feeding_ = false;
    ++inside_;
  }
  deliver();
  const std::lock_guard lock(mutex_);
  --inside_;
  idle_.notify_all();
}

void Nvme::submit(Job job) {
  struct Parts {
    std::atomic<size_t> left;
    std::atomic<int> error = 0;
    std::shared_ptr<Pending> pending;
  };
  auto parts = std::make_shared<Parts>(job.requests.size() + 1, 0, job.pending);
  const bool durable = job.durable;
  const auto ended = [this, parts, durable](int error) {
    if (error != 0) parts->error = error;
    if (--parts->left != 0) return;
    if (parts->error != 0 || !durable) return done(*parts->pending, parts->error);
    disk_.submit({.kind = block::Request::Kind::kFlush,
                  .done = [this, parts](int its_error) { done(*parts->pending, its_error); }});
  };
  for (auto& request : job.requests) {
    request.done = ended;
    disk_.submit(std::move(request));
  }
  ended(0);
}

void Nvme::done(const Pending& pending, int error) {
  {
    const std::lock_guard lock(mutex_);
    ++inside_;
    --under_way_;
    if (pending.to_host) pending.scatter.note_written(memory_);
    SubmissionQueue& queue = submission_[pending.queue];
    --queue.under_way;
    if (stopping_) {
      settle();
    } else {
      uint16_t status = kSuccess;
      if (error == ENOSPC)
        status = kCapacityExceeded;
      else if (error != 0)
        status = pending.write ? kWriteFault : kUnrecoveredReadError;
      complete(pending.queue, pending.id, status);
      delete_when_idle(pending.queue);
    }
  }
  deliver();
  feed();
  const std::lock_guard lock(mutex_);
  --inside_;
  idle_.notify_all();
}

void Nvme::resized() {
  constexpr uint8_t kNotice = 2, kNamespaceChanged = 0, kChangedList = 4;
  {
    const std::lock_guard lock(mutex_);
    if ((status_ & csts::kReady) == 0) return;
    if ((features_[kAsynchronousEvents] & 1 << 8) != 0) {
      namespace_changed_ = true;
      raise_event(kNotice, kNamespaceChanged, kChangedList);
    }
  }
  deliver();
}

}  // namespace limen::storage
