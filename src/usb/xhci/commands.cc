// The command ring: slots and their contexts (xHCI 1.2 §4.6, §6.2).
#include <algorithm>
#include <span>

#include "usb/xhci/xhci.h"

namespace limen::usb {

using namespace xhci;

namespace {

constexpr unsigned kSlotStateShift = 27, kContextEntriesShift = 27;
constexpr uint32_t kRouteMask = 0xFFFFF;
/// An input context has one more in front: what to drop and to add (§6.2.5).
constexpr uint64_t kInputSlot = kContextBytes;

uint64_t input_context(unsigned index) { return kInputSlot + kContextBytes * index; }

}  // namespace

bool Xhci::read_context(uint64_t at, Context& words) const {
  return memory_.read({at}, std::as_writable_bytes(std::span(words))).has_value();
}

/// Where it is no memory the driver gave a bad address, and reads nothing back.
void Xhci::write_context(uint64_t at, const Context& words) {
  [[maybe_unused]] const auto written = memory_.write({at}, std::as_bytes(std::span(words)));
}

void Xhci::store_slot(Slot& slot, std::optional<Context> words) {
  Context now = {};
  if (words)
    now = *words;
  else if (!read_context(slot.context, now))
    return;
  now[3] = slot.address | static_cast<uint32_t>(slot.state) << kSlotStateShift;
  write_context(slot.context, now);
}

void Xhci::store_endpoint(Slot& slot, unsigned index) {
  const Endpoint& endpoint = slot.endpoints[index];
  const uint64_t at = slot.context + kContextBytes * index;
  Context words = {};
  if (!read_context(at, words)) return;
  words[0] = (words[0] & ~7u) | static_cast<uint32_t>(endpoint.state);
  words[2] = static_cast<uint32_t>(endpoint.ring.dequeue) | (endpoint.ring.cycle ? 1 : 0);
  words[3] = static_cast<uint32_t>(endpoint.ring.dequeue >> 32);
  write_context(at, words);
}

/// Takes over what the driver wrote; false: it makes no sense, or asks for streams.
bool Xhci::enable_endpoint(Slot& slot, unsigned index, const Context& context) {
  constexpr uint32_t kStreams = 0x1F << 10;
  const uint32_t type = context[1] >> 3 & 7;
  const bool is_control = type == kControl;
  if (type == kNoType || is_control != (index == kControlEndpoint) || (context[0] & kStreams) != 0)
    return false;
  // The index of an endpoint towards the host is odd (§4.5.1).
  if (!is_control && (type > kControl) != ((index & 1) != 0)) return false;
  slot.endpoints[index] = {
      .state = EndpointState::kRunning,
      .ring = {.dequeue = (context[2] | uint64_t{context[3]} << 32) & ~uint64_t{0xF},
               .cycle = (context[2] & 1) != 0}};
  write_context(slot.context + kContextBytes * index, context);
  store_endpoint(slot, index);
  return true;
}

void Xhci::disable_endpoint(Slot& slot, unsigned index) {
  if (slot.endpoints[index].state == EndpointState::kDisabled) return;
  slot.endpoints[index] = {};
  store_endpoint(slot, index);
}

void Xhci::disable_slot(Slot& slot) {
  if (slot.state != SlotState::kDisabled) {
    slot.state = SlotState::kDisabled;
    slot.address = 0;
    store_slot(slot);
  }
  slot = {};
}

Code Xhci::address_device(Slot& slot, uint8_t id, const Trb& command) {
  const uint64_t input = command.parameter & ~uint64_t{0xF};
  const bool only_default = (command.control & trb::kBlockSetAddress) != 0;
  if (slot.state != SlotState::kDisabled && (only_default || slot.state != SlotState::kDefault))
    return Code::kContextStateError;
  Context control = {}, words = {}, endpoint = {};
  uint64_t context = 0;
  if (!read_context(input, control) || !read_context(input + input_context(0), words) ||
      !read_context(input + input_context(kControlEndpoint), endpoint) ||
      !memory_.read({contexts_ + 8 * id}, std::as_writable_bytes(std::span(&context, 1))))
    return Code::kParameterError;
  if (control[0] != 0 || (control[1] & 3) != 3 || (context & ~uint64_t{0x3F}) == 0)
    return Code::kParameterError;
  const uint32_t port = words[1] >> 16 & 0xFF;
  if ((words[0] & kRouteMask) != 0 || port < 1 || port > ports_.size())
    return Code::kParameterError;
  if (ports_[port - 1].device == nullptr) return Code::kTransactionError;
  if (const Slot* other = slot_of(ports_[port - 1]); other != nullptr && other != &slot)
    return Code::kParameterError;
  slot.context = context & ~uint64_t{0x3F};
  slot.port = port - 1;
  if (!enable_endpoint(slot, kControlEndpoint, endpoint)) return Code::kParameterError;
  slot.state = only_default ? SlotState::kDefault : SlotState::kAddressed;
  slot.address = only_default ? 0 : id;
  store_slot(slot, words);
  return Code::kSuccess;
}

Code Xhci::configure_endpoints(Slot& slot, const Trb& command) {
  if (slot.state != SlotState::kAddressed && slot.state != SlotState::kConfigured)
    return Code::kContextStateError;
  if ((command.control & trb::kDeconfigure) != 0) {
    for (unsigned index = kControlEndpoint + 1; index < kContexts; ++index)
      disable_endpoint(slot, index);
    slot.state = SlotState::kAddressed;
    store_slot(slot);
    return Code::kSuccess;
  }
  const uint64_t input = command.parameter & ~uint64_t{0xF};
  Context control = {}, words = {}, now = {};
  if (!read_context(input, control) || !read_context(input + input_context(0), words) ||
      !read_context(slot.context, now))
    return Code::kParameterError;
  const uint32_t drop = control[0], add = control[1];
  if ((drop & 3) != 0 || (add & 2) != 0) return Code::kParameterError;
  Code code = Code::kSuccess;
  for (unsigned index = kControlEndpoint + 1; index < kContexts; ++index) {
    if ((drop >> index & 1) != 0) disable_endpoint(slot, index);
    if ((add >> index & 1) == 0) continue;
    Context context = {};
    if (!read_context(input + input_context(index), context) ||
        !enable_endpoint(slot, index, context))
      code = Code::kParameterError;
  }
  constexpr uint32_t kEntriesMask = 0x1Fu << kContextEntriesShift;
  if ((add & 1) != 0) now[0] = (now[0] & ~kEntriesMask) | (words[0] & kEntriesMask);
  const bool any = std::ranges::any_of(
      std::span(slot.endpoints).subspan(kControlEndpoint + 1),
      [](const Endpoint& endpoint) { return endpoint.state != EndpointState::kDisabled; });
  slot.state = any ? SlotState::kConfigured : SlotState::kAddressed;
  store_slot(slot, now);
  return code;
}

Code Xhci::evaluate_context(Slot& slot, const Trb& command) {
  if (slot.state == SlotState::kDisabled) return Code::kContextStateError;
  const uint64_t input = command.parameter & ~uint64_t{0xF};
  Context control = {}, from = {}, now = {};
  if (!read_context(input, control)) return Code::kParameterError;
  if ((control[1] & 1) != 0) {
    constexpr uint32_t kLatency = 0xFFFF, kInterrupter = 0x3FFu << 22;
    if (!read_context(input + input_context(0), from) || !read_context(slot.context, now))
      return Code::kParameterError;
    now[1] = (now[1] & ~kLatency) | (from[1] & kLatency);
    now[2] = (now[2] & ~kInterrupter) | (from[2] & kInterrupter);
    store_slot(slot, now);
  }
  if ((control[1] & 2) != 0) {
    constexpr uint32_t kMostPacket = 0xFFFFu << 16;
    const uint64_t at = slot.context + kContextBytes * kControlEndpoint;
    if (!read_context(input + input_context(kControlEndpoint), from) || !read_context(at, now))
      return Code::kParameterError;
    now[1] = (now[1] & ~kMostPacket) | (from[1] & kMostPacket);
    write_context(at, now);
  }
  return Code::kSuccess;
}

Code Xhci::reset_endpoint(Slot& slot, unsigned index) {
  Endpoint& endpoint = slot.endpoints[index];
  if (endpoint.state != EndpointState::kHalted) return Code::kContextStateError;
  endpoint.state = EndpointState::kStopped;
  endpoint.setup.reset();
  store_endpoint(slot, index);
  return Code::kSuccess;
}

Code Xhci::stop_endpoint(Slot& slot, uint8_t id, unsigned index) {
  Endpoint& endpoint = slot.endpoints[index];
  if (endpoint.state != EndpointState::kRunning) return Code::kContextStateError;
  if (endpoint.waiting) {
    PlacedTrb current;
    Ring ahead = endpoint.ring;
    if (ahead.fetch(memory_, current) == Fetched::kSome)
      report_one(id, index, current, Code::kStopped, current.trb.status & trb::kLengthMask);
  }
  endpoint.state = EndpointState::kStopped;
  endpoint.rung = endpoint.waiting = false;
  store_endpoint(slot, index);
  return Code::kSuccess;
}

Code Xhci::set_dequeue(Slot& slot, unsigned index, const Trb& command) {
  Endpoint& endpoint = slot.endpoints[index];
  if (endpoint.state != EndpointState::kStopped && endpoint.state != EndpointState::kError)
    return Code::kContextStateError;
  endpoint.state = EndpointState::kStopped;
  endpoint.ring = {.dequeue = command.parameter & ~uint64_t{0xF},
                   .cycle = (command.parameter & 1) != 0};
  endpoint.setup.reset();
  store_endpoint(slot, index);
  return Code::kSuccess;
}

Code Xhci::reset_device(Slot& slot) {
  if (slot.state != SlotState::kAddressed && slot.state != SlotState::kConfigured)
    return Code::kContextStateError;
  for (unsigned index = kControlEndpoint + 1; index < kContexts; ++index)
    disable_endpoint(slot, index);
  slot.state = SlotState::kDefault;
  slot.address = 0;
  store_slot(slot);
  return Code::kSuccess;
}

Code Xhci::execute(const Trb& command, uint8_t& id) {
  const unsigned type = command.type();
  if (type == kNoOpCommand) return Code::kSuccess;
  if (type == kEnableSlot) {
    const auto most = std::min<size_t>(slots_.size(), config_);
    for (size_t index = 0; index < most; ++index) {
      if (slots_[index].enabled) continue;
      slots_[index] = {.enabled = true};
      id = static_cast<uint8_t>(index + 1);
      return Code::kSuccess;
    }
    return Code::kNoSlots;
  }
  if (type < kDisableSlot || type > kResetDevice) return Code::kTrbError;
  id = static_cast<uint8_t>(command.control >> 24);
  if (id < 1 || id > slots_.size()) return Code::kTrbError;
  Slot& slot = slots_[id - 1];
  if (!slot.enabled) return Code::kSlotNotEnabled;
  const unsigned index = command.control >> 16 & 0x1F;
  if (type == kResetEndpoint || type == kStopEndpoint || type == kSetTrDequeue) {
    if (index < kControlEndpoint) return Code::kTrbError;
    if (slot.endpoints[index].state == EndpointState::kDisabled) return Code::kEndpointNotEnabled;
  }
  switch (type) {
    case kDisableSlot:
      disable_slot(slot);
      return Code::kSuccess;
    case kAddressDevice:
      return address_device(slot, id, command);
    case kConfigureEndpoint:
      return configure_endpoints(slot, command);
    case kEvaluateContext:
      return evaluate_context(slot, command);
    case kResetEndpoint:
      return reset_endpoint(slot, index);
    case kStopEndpoint:
      return stop_endpoint(slot, id, index);
    case kSetTrDequeue:
      return set_dequeue(slot, index, command);
    default:
      return reset_device(slot);
  }
}

void Xhci::run_commands() {
  while (commands_rung_ && command_running_ && !blocked()) {
    PlacedTrb command;
    const auto fetched = command_ring_.fetch(memory_, command);
    if (fetched == Fetched::kBroken) return fail_controller();
    if (fetched == Fetched::kNone) {
      commands_rung_ = false;
      return;
    }
    if (!spend(1)) return;
    uint8_t slot = 0;
    const Code code = execute(command.trb, slot);
    post(0, {.parameter = command.address,
             .status = static_cast<uint32_t>(code) << 24,
             .control = kCommandCompletion << 10 | uint32_t{slot} << 24});
  }
}

}  // namespace limen::usb
