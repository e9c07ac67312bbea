// Admin commands (NVM Express Base 1.4 §5) but for what IDENTIFY and GET LOG PAGE give.
#include <algorithm>
#include <utility>

#include "storage/nvme/nvme.h"

namespace limen::storage {

using namespace nvme;

namespace {

constexpr uint8_t kDataPointerMask = 0xC0;  ///< Command::flags: not PRPs.
constexpr size_t kMostEventRequests = 4;

}  // namespace

std::optional<uint16_t> Nvme::administer(const Command& command, uint32_t& result) {
  if ((command.flags & kDataPointerMask) != 0) return kInvalidField;
  switch (command.opcode) {
    case kCreateSubmissionQueue:
      return create_submission_queue(command);
    case kDeleteSubmissionQueue:
      return delete_submission_queue(command);
    case kCreateCompletionQueue:
      return create_completion_queue(command);
    case kDeleteCompletionQueue:
      return delete_completion_queue(command);
    case kGetLogPage:
      return get_log_page(command);
    case nvme::kIdentify:
      return identify(command);
    case kAbort:
      result = 1;  // it was not aborted: what is with the disk stays there
      return kSuccess;
    case nvme::kSetFeatures:
      return set_features(command, result);
    case kGetFeatures:
      return get_features(command, result);
    case kAsynchronousEventRequest:
      return request_event(command);
    default:
      return kInvalidOpcode;
  }
}

// --- Queues -------------------------------------------------------------------------------------

uint16_t Nvme::create_submission_queue(const Command& command) {
  const auto index = static_cast<uint16_t>(command.words[0]);
  const uint32_t entries = (command.words[0] >> 16) + 1;
  const auto completion = static_cast<uint16_t>(command.words[1] >> 16);
  if (completion == 0 || completion >= completion_.size() || completion_[completion].entries == 0)
    return kCompletionQueueInvalid;
  if (index == 0 || index >= submission_.size() || submission_[index].entries != 0)
    return kInvalidQueueIdentifier;
  if (entries < 2 || entries > kMostEntries) return kInvalidQueueSize;
  if (command.prp1 == 0 || command.prp1 % page_bytes() != 0) return kPrpOffsetInvalid;
  if ((command.words[1] & 1) == 0) return kInvalidField;  // in one piece (CAP.CQR)
  submission_[index] = {.base = command.prp1, .entries = entries, .completion = completion};
  return kSuccess;
}

uint16_t Nvme::create_completion_queue(const Command& command) {
  const auto index = static_cast<uint16_t>(command.words[0]);
  const uint32_t entries = (command.words[0] >> 16) + 1;
  const auto vector = static_cast<uint16_t>(command.words[1] >> 16);
  if (index == 0 || index >= completion_.size() || completion_[index].entries != 0)
    return kInvalidQueueIdentifier;
  if (entries < 2 || entries > kMostEntries) return kInvalidQueueSize;
  if (command.prp1 == 0 || command.prp1 % page_bytes() != 0) return kPrpOffsetInvalid;
  if (vector >= properties_.vectors || (!msix()->enabled() && vector != 0))
    return kInvalidInterruptVector;
  if ((command.words[1] & 1) == 0) return kInvalidField;
  completion_[index] = {.base = command.prp1,
                        .entries = entries,
                        .vector = vector,
                        .interrupts = (command.words[1] & 2) != 0};
  return kSuccess;
}

/// What the disk has of it comes to its end first; what was not fetched is dropped (§7.4.3).
std::optional<uint16_t> Nvme::delete_submission_queue(const Command& command) {
  const auto index = static_cast<uint16_t>(command.words[0]);
  if (index == 0 || index >= submission_.size() || submission_[index].entries == 0 ||
      submission_[index].deletion)
    return kInvalidQueueIdentifier;
  submission_[index].deletion = command.id;
  delete_when_idle(index);
  return std::nullopt;
}

void Nvme::delete_when_idle(uint16_t index) {
  SubmissionQueue& queue = submission_[index];
  if (!queue.deletion || queue.under_way != 0) return;
  const uint16_t id = *queue.deletion;
  queue = {};
  complete(0, id, kSuccess);
}

uint16_t Nvme::delete_completion_queue(const Command& command) {
  const auto index = static_cast<uint16_t>(command.words[0]);
  if (index == 0 || index >= completion_.size() || completion_[index].entries == 0)
    return kInvalidQueueIdentifier;
  if (std::ranges::any_of(submission_, [&](const SubmissionQueue& queue) {
        return queue.entries != 0 && queue.completion == index;
      }))
    return kInvalidQueueDeletion;
  completion_[index] = {};
  update_line();
  return kSuccess;
}

// --- Features -----------------------------------------------------------------------------------

uint16_t Nvme::set_features(const Command& command, uint32_t& result) {
  constexpr uint32_t kSave = 1u << 31;
  const auto feature = static_cast<uint8_t>(command.words[0]);
  const uint32_t value = command.words[1];
  if ((command.words[0] & kSave) != 0) return kNotSaveable;
  switch (feature) {
    case kNumberOfQueues: {
      if ((value & 0xFFFF) == 0xFFFF || value >> 16 == 0xFFFF) return kInvalidField;
      const uint32_t most = properties_.queue_pairs - 1;
      result = most << 16 | most;
      return kSuccess;
    }
    case kVolatileWriteCache:
      features_[feature] = value & 1;
      return kSuccess;
    case kInterruptVector:
      return (value & 0xFFFF) < properties_.vectors ? kSuccess : kInvalidField;
    case kPowerManagement:
      if ((value & 0x1F) != 0) return kInvalidField;  // there is one state
      return kSuccess;
    case kArbitration:
    case kTemperatureThreshold:
    case kErrorRecovery:
    case kInterruptCoalescing:
    case kWriteAtomicity:
    case kAsynchronousEvents:
      features_[feature] = value;
      return kSuccess;
    default:
      return kInvalidField;
  }
}

uint16_t Nvme::get_features(const Command& command, uint32_t& result) const {
  constexpr uint32_t kDefault = 1, kSupported = 3, kChangeable = 1 << 2;
  const auto feature = static_cast<uint8_t>(command.words[0]);
  const uint32_t select = command.words[0] >> 8 & 7;
  if (feature < kArbitration || feature > kAsynchronousEvents || feature == 0x03)
    return kInvalidField;
  if (select == kSupported) {
    result = kChangeable;
    return kSuccess;
  }
  if (select > kSupported) return kInvalidField;
  switch (feature) {
    case kNumberOfQueues: {
      const uint32_t most = properties_.queue_pairs - 1;
      result = most << 16 | most;
      return kSuccess;
    }
    case kInterruptVector:
      if ((command.words[1] & 0xFFFF) >= properties_.vectors) return kInvalidField;
      result = command.words[1] & 0xFFFF;
      return kSuccess;
    case kVolatileWriteCache:
      result = select == kDefault ? (properties_.write_cache ? 1 : 0) : features_[feature];
      return kSuccess;
    default:
      result = features_[feature];
      return kSuccess;
  }
}

// --- Events -------------------------------------------------------------------------------------

std::optional<uint16_t> Nvme::request_event(const Command& command) {
  if (event_requests_.size() >= kMostEventRequests) return kEventRequestLimit;
  event_requests_.push_back(command.id);
  if (!events_.empty()) {
    const uint32_t event = events_.front();
    events_.pop_front();
    masked_events_[event & 7] = true;
    const uint16_t id = event_requests_.front();
    event_requests_.pop_front();
    complete(0, id, kSuccess, event);
  }
  return std::nullopt;
}

/// Told once until the driver has read the log that goes with it (§5.2).
void Nvme::raise_event(uint8_t type, uint8_t information, uint8_t log) {
  const uint32_t event = type | uint32_t{information} << 8 | uint32_t{log} << 16;
  if (masked_events_[type] || std::ranges::find(events_, event) != events_.end()) return;
  if (event_requests_.empty()) {
    events_.push_back(event);
    return;
  }
  masked_events_[type] = true;
  const uint16_t id = event_requests_.front();
  event_requests_.pop_front();
  complete(0, id, kSuccess, event);
}

}  // namespace limen::storage
