// Transfer rings: what a driver wants moved, stage by stage on the control endpoint (xHCI 1.2
// §4.10, §4.11.2).
#include <algorithm>
#include <cstring>

#include "block/scsi/command.h"
#include "storage/scatter_list.h"
#include "usb/xhci/xhci.h"

namespace limen::usb {

using namespace xhci;

namespace {

constexpr Outcome kStalled = {.status = Status::kStall, .bytes = 0};
constexpr unsigned kInterrupterShift = 22;

bool has_data(const Trb& trb) {
  return trb.type() == kNormal || trb.type() == kDataStage || trb.type() == kIsoch;
}

/// Whether a descriptor may begin like this on that endpoint.
bool fits(const Trb& first, unsigned index) {
  switch (first.type()) {
    case kSetupStage:
    case kDataStage:
    case kStatusStage:
      return index == kControlEndpoint;
    case kNormal:
      return index != kControlEndpoint;
    case kEventData:
    case kNoOp:
      return true;
    default:
      return false;
  }
}

Setup parse_setup(uint64_t parameter) {
  return {.type = static_cast<uint8_t>(parameter),
          .request = static_cast<uint8_t>(parameter >> 8),
          .value = static_cast<uint16_t>(parameter >> 16),
          .index = static_cast<uint16_t>(parameter >> 32),
          .length = static_cast<uint16_t>(parameter >> 48)};
}

/// The guest's memory that the blocks name; false: some of it is none.
bool gather(const memory::GuestMemory& memory, std::span<PlacedTrb> blocks, bool to_host,
            storage::ScatterList& scatter, std::vector<iovec>& immediate) {
  for (auto& [trb, address] : blocks) {
    if (!has_data(trb)) continue;
    const uint32_t length = trb.status & trb::kLengthMask;
    if ((trb.control & trb::kImmediate) != 0) {
      // Up to eight bytes in the block itself, alone in its descriptor (§4.11.7).
      if (length > sizeof trb.parameter || to_host || scatter.bytes() != 0 || !immediate.empty())
        return false;
      immediate.push_back({&trb.parameter, length});
    } else if (!immediate.empty() || !scatter.add(memory, {trb.parameter}, length)) {
      return false;
    }
  }
  return true;
}

}  // namespace

void Xhci::ring_doorbell(unsigned slot, unsigned target) {
  if (!running()) return;
  if (slot == 0) {
    if (target != 0) return;
    commands_rung_ = command_running_ = true;
    return;
  }
  if (slot > slots_.size() || target < kControlEndpoint || target >= kContexts) return;
  Slot& its = slots_[slot - 1];
  Endpoint& endpoint = its.endpoints[target];
  if (endpoint.state == EndpointState::kStopped) {
    endpoint.state = EndpointState::kRunning;
    store_endpoint(its, target);
  }
  endpoint.rung = endpoint.state == EndpointState::kRunning;
}

void Xhci::run_endpoint(uint8_t id, unsigned index) {
  Slot& slot = slots_[id - 1];
  Endpoint& endpoint = slot.endpoints[index];
  if (endpoint.state != EndpointState::kRunning) {
    endpoint.rung = false;
    return;
  }
  while (!blocked())
    if (!run_descriptor(slot, id, index)) {
      endpoint.rung = false;
      return;
    }
}

void Xhci::halt(Slot& slot, unsigned index, EndpointState state) {
  slot.endpoints[index].state = state;
  store_endpoint(slot, index);
}

bool Xhci::run_descriptor(Slot& slot, uint8_t id, unsigned index) {
  Endpoint& endpoint = slot.endpoints[index];
  endpoint.waiting = false;
  const Ring before = endpoint.ring;
  std::vector<PlacedTrb> blocks;
  const auto fetched = endpoint.ring.fetch_descriptor(memory_, blocks);
  if (fetched == Fetched::kNone) return false;
  if (!blocks.empty() && !spend(blocks.size())) return false;
  const bool to_host = index == kControlEndpoint
                           ? endpoint.setup.has_value() && endpoint.setup->to_host()
                           : (index & 1) != 0;
  storage::ScatterList scatter;
  std::vector<iovec> immediate;
  const bool sound = fetched == Fetched::kSome && fits(blocks.front().trb, index) &&
                     gather(memory_, blocks, to_host, scatter, immediate);
  if (!sound) {
    endpoint.ring = before;
    report_one(id, index, blocks.empty() ? PlacedTrb{{}, before.dequeue} : blocks.front(),
               Code::kTrbError, 0);
    halt(slot, index, EndpointState::kError);
    return false;
  }
  const bool is_immediate = !immediate.empty();
  const auto outcome =
      perform(slot, index, blocks.front().trb, is_immediate ? immediate : scatter.buffers(),
              is_immediate ? immediate.front().iov_len : scatter.bytes());
  if (outcome.status == Status::kNotReady) {
    endpoint.ring = before;
    endpoint.waiting = true;
    return false;
  }
  if (to_host) {
    scatter.truncate(outcome.bytes);
    scatter.note_written(memory_);
  }
  report(slot, id, index, blocks, outcome);
  if (outcome.status == Status::kDone) return true;
  endpoint.ring = before;
  halt(slot, index, EndpointState::kHalted);
  return false;
}

Outcome Xhci::perform(Slot& slot, unsigned index, const Trb& first, std::span<const iovec> buffers,
                      uint64_t bytes) {
  if (first.type() == kEventData || first.type() == kNoOp) return {};
  UsbDevice* device = slot.gone ? nullptr : ports_[slot.port].device;
  if (device == nullptr) return kStalled;
  if (index == kControlEndpoint) return perform_stage(slot, *device, first, buffers, bytes);
  const auto address = static_cast<uint8_t>(index / 2 | ((index & 1) != 0 ? kIn : 0));
  return device->transfer(address, buffers, bytes);
}

/// A request to the host is made with its setup stage, any other with its status stage, when its
/// data are there.
Outcome Xhci::perform_stage(Slot& slot, UsbDevice& device, const Trb& first,
                            std::span<const iovec> buffers, uint64_t bytes) {
  Endpoint& endpoint = slot.endpoints[kControlEndpoint];
  if (first.type() == kSetupStage) {
    endpoint.setup = parse_setup(first.parameter);
    endpoint.data.assign(endpoint.setup->length, 0);
    endpoint.moved = endpoint.have = 0;
    endpoint.status = Status::kDone;
    if (endpoint.setup->to_host() && endpoint.setup->length != 0) {
      const auto outcome = device.control(*endpoint.setup, endpoint.data);
      endpoint.status = outcome.status;
      endpoint.have = outcome.bytes;
    }
    return {};
  }
  if (!endpoint.setup.has_value() || endpoint.status != Status::kDone) return kStalled;
  const bool to_host = endpoint.setup->to_host() && endpoint.setup->length != 0;
  if (first.type() == kDataStage) {
    const uint64_t room = (to_host ? endpoint.have : endpoint.data.size()) - endpoint.moved;
    const auto count = static_cast<size_t>(std::min(bytes, room));
    const auto part = std::span(endpoint.data).subspan(endpoint.moved, count);
    if (to_host)
      block::scsi::copy_to(buffers, part);
    else
      block::scsi::copy_from(buffers, part);
    endpoint.moved += count;
    return {.bytes = count};
  }
  const Setup setup = *endpoint.setup;
  endpoint.setup.reset();
  return to_host ? Outcome{} : Outcome{.status = device.control(setup, endpoint.data).status};
}

void Xhci::report_one(uint8_t id, unsigned index, const PlacedTrb& block, Code code,
                      uint64_t length, bool event_data) {
  constexpr uint32_t kLengthMask = 0xFF'FFFF;
  post(block.trb.status >> kInterrupterShift,
       {.parameter = event_data ? block.trb.parameter : block.address,
        .status = static_cast<uint32_t>(code) << 24 | (static_cast<uint32_t>(length) & kLengthMask),
        .control = kTransferEvent << 10 | index << 16 | uint32_t{id} << 24 |
                   (event_data ? trb::kEventDataFlag : 0)},
       (block.trb.control & trb::kBlockInterrupt) == 0);
}

/// Events for the blocks that ask for them, for the one that was short and for the one that failed
/// (§4.10.1); event data tell how many bytes there were since the last.
void Xhci::report(const Slot& slot, uint8_t id, unsigned index, std::span<const PlacedTrb> blocks,
                  const Outcome& outcome) {
  const bool failed = outcome.status != Status::kDone;
  const Code failure =
      slot.gone || ports_[slot.port].device == nullptr ? Code::kTransactionError : Code::kStall;
  uint64_t left = outcome.bytes, counted = 0;
  bool is_short = false, told = false;
  for (const PlacedTrb& block : blocks) {
    const bool wanted = (block.trb.control & trb::kInterrupt) != 0;
    if (block.trb.type() == kEventData) {
      if (wanted)
        report_one(id, index, block, is_short ? Code::kShortPacket : Code::kSuccess, counted, true);
      counted = 0;
      continue;
    }
    const uint64_t length = has_data(block.trb) ? block.trb.status & trb::kLengthMask : 0;
    const uint64_t done = std::min(length, left);
    left -= done;
    counted += done;
    if (failed) return report_one(id, index, block, failure, length - done);
    is_short |= done < length;
    const bool tell_short = is_short && (block.trb.control & trb::kShortPacketEvent) != 0;
    if (told || (!wanted && !tell_short)) continue;
    report_one(id, index, block, is_short ? Code::kShortPacket : Code::kSuccess, length - done);
    // The rest of a short one is passed over.
    told = is_short;
  }
}

}  // namespace limen::usb
