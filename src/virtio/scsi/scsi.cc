#include "virtio/scsi/scsi.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "virtio/scatter.h"

namespace limen::virtio {
namespace scsi = block::scsi;

namespace {

/// Feature bits (virtio 1.2 §5.6.3).
constexpr uint64_t kInOut = 1 << 0, kHotplug = 1 << 1, kChange = 1 << 2;

/// struct virtio_scsi_config (§5.6.4).
struct Configuration {
  uint32_t num_queues;
  uint32_t seg_max;
  uint32_t max_sectors;
  uint32_t cmd_per_lun;
  uint32_t event_info_size;
  uint32_t sense_size;
  uint32_t cdb_size;
  uint16_t max_channel;
  uint16_t max_target;
  uint32_t max_lun;
};
static_assert(sizeof(Configuration) == 36);
constexpr uint32_t kDefaultSenseSize = 96, kDefaultCdbSize = 32, kMostSenseSize = 1024;
constexpr size_t kMostEvents = 64;

/// struct virtio_scsi_req_cmd (§5.6.6.1) before and after the CDB.
struct RequestHeader {
  uint8_t lun[8];
  uint64_t id;
  uint8_t task_attribute;
  uint8_t priority;
  uint8_t crn;
} __attribute__((packed));
static_assert(sizeof(RequestHeader) == 19);
struct ResponseHeader {
  uint32_t sense_length;
  uint32_t residual;
  uint16_t status_qualifier;
  uint8_t status;
  uint8_t response;
};
static_assert(sizeof(ResponseHeader) == 12);

enum Response : uint8_t {
  kOk = 0,
  kOverrun = 1,
  kBadTarget = 3,
  kResetResponse = 4,
  kFailure = 9,
  kFunctionSucceeded = 10,
  kFunctionRejected = 11,
  kIncorrectUnit = 12,
};

/// Control requests (§5.6.6.2).
constexpr uint32_t kTaskManagement = 0, kNotificationQuery = 1, kNotificationSubscribe = 2;
enum Function : uint32_t {
  kAbortTask = 0,
  kAbortTaskSet = 1,
  kClearAca = 2,
  kClearTaskSet = 3,
  kNexusReset = 4,
  kUnitReset = 5,
  kQueryTask = 6,
  kQueryTaskSet = 7,
};
struct ManagementRequest {
  uint32_t type;
  uint32_t subtype;
  uint8_t lun[8];
  uint64_t id;
};
static_assert(sizeof(ManagementRequest) == 24);

/// Events (§5.6.6.3).
constexpr uint32_t kNoEvent = 0, kTransportReset = 1, kParameterChange = 3;
constexpr uint32_t kMissed = 0x8000'0000;
constexpr uint32_t kReasonRescan = 1, kReasonRemoved = 2;
struct EventRecord {
  uint32_t event;
  uint8_t lun[8];
  uint32_t reason;
};
static_assert(sizeof(EventRecord) == 16);

uint64_t total(const std::vector<iovec>& buffers) {
  uint64_t bytes = 0;
  for (const iovec& buffer : buffers) bytes += buffer.iov_len;
  return bytes;
}

}  // namespace

/// A task management function that waits for commands to end.
struct Scsi::Management {
  DescriptorChain chain;
  size_t waiting_for = 0;  // guarded by mutex_
};

/// One command of the driver's, from pop() to push().
struct Scsi::Operation {
  unsigned queue;
  DescriptorChain chain;
  Address address;
  uint64_t id = 0;
  uint64_t data_bytes = 0;  ///< That the driver has room for, in the command's direction.
  bool input = false;
  uint32_t sense_size = kDefaultSenseSize;
  bool was_reset = false;                                   // guarded by mutex_
  std::vector<std::shared_ptr<Management>> followers = {};  // guarded by mutex_
};

Result<std::unique_ptr<Scsi>> Scsi::create(const ScsiProperties& properties) {
  if (properties.num_queues < 1 || properties.num_queues > 64)
    return fail("num_queues={}: a virtio SCSI adapter has 1 to 64 request queues",
                properties.num_queues);
  if (properties.queue_size < 8 || properties.queue_size > Virtqueue::kMaximumSize ||
      !std::has_single_bit(properties.queue_size))
    return fail("virtqueue_size={}: it must be a power of two from 8 to {}", properties.queue_size,
                Virtqueue::kMaximumSize);
  return std::unique_ptr<Scsi>(new Scsi(properties));
}

Scsi::Scsi(const ScsiProperties& properties)
    : properties_(properties),
      num_queues_(properties.num_queues),
      service_(kFirstRequestQueue + properties.num_queues, properties.thread,
               [this](unsigned index) { serve(index); }),
      sense_size_(kDefaultSenseSize),
      cdb_size_(kDefaultCdbSize) {}

Scsi::~Scsi() { Scsi::reset(); }

// --- Units --------------------------------------------------------------------------------------

scsi::Target* Scsi::find_target(unsigned target) {
  const std::lock_guard lock(mutex_);
  const auto found = targets_.find(target);
  return found == targets_.end() || found->second->empty() ? nullptr : found->second.get();
}

Result<> Scsi::add_unit(unsigned target, unsigned number, std::unique_ptr<scsi::LogicalUnit> unit) {
  if (target >= kMostTargets)
    return fail("bad scsi device id: {} (an adapter has targets 0 to {})", target,
                kMostTargets - 1);
  if (number >= kMostUnits)
    return fail("bad scsi device lun: {} (a target has units 0 to {})", number, kMostUnits - 1);
  {
    const std::lock_guard lock(mutex_);
    auto& place = targets_[target];
    if (place == nullptr) place = std::make_unique<scsi::Target>();
    if (!place->add(static_cast<uint16_t>(number), *unit))
      return fail("lun already used by another device: target {}, lun {}", target, number);
    units_[{target, number}] = std::move(unit);
  }
  if (properties_.hotplug) send_event({kTransportReset, {target, number}, kReasonRescan});
  return {};
}

Result<> Scsi::remove_unit(unsigned target, unsigned number) {
  std::unique_ptr<scsi::LogicalUnit> unit;
  {
    const std::lock_guard lock(mutex_);
    const auto found = units_.find({target, number});
    if (found == units_.end()) return fail("there is no unit {} of target {}", number, target);
    unit = std::move(found->second);
    units_.erase(found);
    targets_[target]->remove(static_cast<uint16_t>(number));
  }
  // A command that found the unit before may be about to begin; it has the target's lock for that.
  unit->quiesce();
  if (properties_.hotplug) send_event({kTransportReset, {target, number}, kReasonRemoved});
  return {};
}

unsigned Scsi::free_target() {
  unsigned target = 0;
  while (target < kMostTargets && find_target(target) != nullptr) ++target;
  return target;
}

void Scsi::unit_changed(unsigned target, unsigned number, const scsi::Sense& why) {
  if (!properties_.parameter_change) return;
  send_event({kParameterChange,
              {target, number},
              static_cast<uint32_t>(why.code) | static_cast<uint32_t>(why.qualifier) << 8});
}

// --- Configuration ------------------------------------------------------------------------------

uint64_t Scsi::features() const {
  return kInOut | (properties_.hotplug ? kHotplug : 0) |
         (properties_.parameter_change ? kChange : 0);
}

size_t Scsi::configuration_size() const { return sizeof(Configuration); }

void Scsi::read_configuration(size_t offset, std::span<std::byte> into) {
  const std::lock_guard lock(mutex_);
  const Configuration configuration{.num_queues = num_queues_,
                                    .seg_max = properties_.queue_size - 2u,
                                    .max_sectors = properties_.max_sectors,
                                    .cmd_per_lun = properties_.commands_per_unit,
                                    .event_info_size = sizeof(EventRecord),
                                    .sense_size = sense_size_,
                                    .cdb_size = cdb_size_,
                                    .max_channel = 0,
                                    .max_target = kMostTargets - 1,
                                    .max_lun = kMostUnits - 1};
  std::memcpy(into.data(), reinterpret_cast<const std::byte*>(&configuration) + offset,
              into.size());
}

void Scsi::write_configuration(size_t offset, std::span<const std::byte> from) {
  uint32_t value = 0;
  if (from.size() != sizeof value) return;
  std::memcpy(&value, from.data(), sizeof value);
  const std::lock_guard lock(mutex_);
  if (offset == offsetof(Configuration, sense_size) && value <= kMostSenseSize) sense_size_ = value;
  if (offset == offsetof(Configuration, cdb_size) && value > 0 && value <= scsi::Command::kCdbBytes)
    cdb_size_ = value;
}

void Scsi::reset() {
  std::vector<scsi::LogicalUnit*> units;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [address, unit] : units_) units.push_back(unit.get());
  }
  for (auto* unit : units) unit->quiesce();
  service_.wait_idle();
  for (auto* unit : units) unit->reset();
  {
    const std::lock_guard lock(event_mutex_);
    events_.clear();
    events_lost_ = false;
  }
  const std::lock_guard lock(mutex_);
  sense_size_ = kDefaultSenseSize;
  cdb_size_ = kDefaultCdbSize;
}

// --- Queues -------------------------------------------------------------------------------------

void Scsi::queue_notified(unsigned index) { service_.notified(index); }

void Scsi::serve(unsigned index) {
  if (index == kControlQueue) {
    serve_control();
  } else if (index == kEventQueue) {
    serve_events();
  } else {
    while (auto chain = transport_->queue(index).pop()) start_command(index, *std::move(chain));
  }
  stop_if_broken(*transport_, index);
}

/// §5.6.6.1: "01h, target, LUN (big-endian, as SAM's flat or peripheral form), zeroes".
bool Scsi::parse_address(const uint8_t lun[8], Address& address) {
  if (lun[0] != 1) return false;
  const uint8_t method = lun[2] & 0xC0;
  if (method != 0 && method != 0x40) return false;
  address = {lun[1], static_cast<unsigned>((lun[2] & 0x3F) << 8 | lun[3])};
  return true;
}

void Scsi::put_address(uint8_t lun[8], const Address& address) {
  std::memset(lun, 0, 8);
  lun[0] = 1;
  lun[1] = static_cast<uint8_t>(address.target);
  lun[2] = static_cast<uint8_t>(0x40 | address.unit >> 8);
  lun[3] = static_cast<uint8_t>(address.unit);
}

void Scsi::start_command(unsigned queue, DescriptorChain chain) {
  uint32_t cdb_size = 0, sense_size = 0;
  {
    const std::lock_guard lock(mutex_);
    cdb_size = cdb_size_;
    sense_size = sense_size_;
  }
  const uint64_t request_bytes = sizeof(RequestHeader) + cdb_size;
  const uint64_t response_bytes = sizeof(ResponseHeader) + sense_size;
  if (chain.readable_bytes < request_bytes || chain.writable_bytes < response_bytes)
    return transport_->needs_reset("SCSI request without a header or room for a response");
  RequestHeader header{};
  scsi::Command command;
  chain.read(0, std::as_writable_bytes(std::span(&header, 1)));
  chain.read(sizeof header, std::as_writable_bytes(std::span(command.cdb)).first(cdb_size));
  command.data_out = slice(chain.readable, request_bytes, chain.readable_bytes - request_bytes);
  command.data_in = slice(chain.writable, response_bytes, chain.writable_bytes - response_bytes);
  command.out_bytes = total(command.data_out);
  command.in_bytes = total(command.data_in);
  auto* operation = new Operation{.queue = queue, .chain = std::move(chain), .address = {}};
  service_.begin();
  operation->id = header.id;
  operation->input = command.out_bytes == 0;
  operation->data_bytes = operation->input ? command.in_bytes : command.out_bytes;
  operation->sense_size = sense_size;
  {
    const std::lock_guard lock(mutex_);
    operations_.insert(operation);
  }
  // Both directions in one command need bidirectional commands, which no unit here has.
  if (command.out_bytes != 0 && command.in_bytes != 0)
    return finish_command(operation, kFailure, {});
  scsi::Target* target = parse_address(header.lun, operation->address)
                             ? find_target(operation->address.target)
                             : nullptr;
  if (target == nullptr) return finish_command(operation, kBadTarget, {});
  command.done = [this, operation](const scsi::Outcome& outcome) {
    finish_command(operation, kOk, outcome);
  };
  target->execute(static_cast<uint16_t>(operation->address.unit), std::move(command));
}

void Scsi::finish_command(Operation* raw, uint8_t response, const scsi::Outcome& outcome) {
  const std::unique_ptr<Operation> operation(raw);
  ResponseHeader header{};
  header.response = response;
  std::span<const uint8_t> sense;
  std::array<uint8_t, scsi::kFixedSenseBytes> sense_bytes;
  if (response == kOk) {
    header.status = static_cast<uint8_t>(outcome.status);
    if (outcome.status == scsi::Status::kCheckCondition) {
      sense_bytes = scsi::fixed_sense(outcome.sense);
      sense =
          std::span(sense_bytes).first(std::min<size_t>(sense_bytes.size(), operation->sense_size));
      header.sense_length = static_cast<uint32_t>(sense.size());
    }
  }
  header.residual = static_cast<uint32_t>(operation->data_bytes -
                                          std::min(operation->data_bytes, outcome.transferred));

  std::vector<std::shared_ptr<Management>> ready;
  {
    const std::lock_guard lock(mutex_);
    operations_.erase(raw);
    if (operation->was_reset) header.response = kResetResponse;
    for (auto& follower : operation->followers)
      if (--follower->waiting_for == 0) ready.push_back(std::move(follower));
  }
  const DescriptorChain& chain = operation->chain;
  chain.write(0, std::as_bytes(std::span(&header, 1)));
  if (!sense.empty()) chain.write(sizeof header, std::as_bytes(sense));
  const uint64_t written =
      sizeof header + operation->sense_size + (operation->input ? outcome.transferred : 0);
  const unsigned queue = operation->queue;
  if (transport_->queue(queue).push(chain, static_cast<uint32_t>(written)))
    transport_->interrupt_queue(queue);
  for (const auto& management : ready) {
    const std::byte answer{kOk};
    answer_control(management->chain, std::span(&answer, 1));
  }
  service_.end();
}

// --- Control queue ------------------------------------------------------------------------------

void Scsi::serve_control() {
  while (auto chain = transport_->queue(kControlQueue).pop()) {
    std::byte request[sizeof(ManagementRequest)] = {};
    const size_t bytes = chain->read(0, request);
    uint32_t type = UINT32_MAX;
    if (bytes >= sizeof type) std::memcpy(&type, request, sizeof type);
    if (type == kTaskManagement && bytes == sizeof request) {
      start_management(*std::move(chain), request);
    } else if (type == kNotificationQuery || type == kNotificationSubscribe) {
      // No asynchronous notifications: none is subscribed (§5.6.6.2).
      std::byte answer[5] = {};
      answer_control(*chain, answer);
    } else {
      const std::byte answer{kFailure};
      answer_control(*chain, std::span(&answer, 1));
    }
  }
}

void Scsi::answer_control(const DescriptorChain& chain, std::span<const std::byte> answer) {
  const size_t written = chain.write(0, answer);
  if (transport_->queue(kControlQueue).push(chain, static_cast<uint32_t>(written)))
    transport_->interrupt_queue(kControlQueue);
}

/// Commands that the host has begun cannot be taken back: a function that aborts them is done when
/// they are.
void Scsi::start_management(DescriptorChain chain, std::span<const std::byte> bytes) {
  ManagementRequest request;
  std::memcpy(&request, bytes.data(), sizeof request);
  const auto answer = [&](uint8_t response) {
    const std::byte byte{response};
    answer_control(chain, std::span(&byte, 1));
  };
  Address address;
  scsi::Target* target =
      parse_address(request.lun, address) ? find_target(address.target) : nullptr;
  if (target == nullptr) return answer(kBadTarget);
  const bool whole_target = request.subtype == kNexusReset;
  if (!whole_target && target->find(static_cast<uint16_t>(address.unit)) == nullptr)
    return answer(kIncorrectUnit);

  const auto concerns = [&](const Operation& operation) {
    if (operation.address.target != address.target) return false;
    if (whole_target) return true;
    if (operation.address.unit != address.unit) return false;
    return (request.subtype != kAbortTask && request.subtype != kQueryTask) ||
           operation.id == request.id;
  };
  switch (request.subtype) {
    case kQueryTask:
    case kQueryTaskSet: {
      const std::unique_lock lock(mutex_);
      const bool found = std::ranges::any_of(operations_, [&](auto* o) { return concerns(*o); });
      return answer(found ? kFunctionSucceeded : kOk);
    }
    case kAbortTask:
    case kAbortTaskSet:
    case kClearTaskSet:
    case kNexusReset:
    case kUnitReset:
      break;
    case kClearAca:
      return answer(kOk);
    default:
      return answer(kFunctionRejected);
  }
  const bool resets = request.subtype == kUnitReset || request.subtype == kNexusReset;
  auto management = std::make_shared<Management>(std::move(chain));
  bool done = false;
  {
    const std::lock_guard lock(mutex_);
    for (Operation* operation : operations_) {
      if (!concerns(*operation)) continue;
      operation->was_reset |= resets;
      operation->followers.push_back(management);
      ++management->waiting_for;
    }
    if (resets)
      for (auto& [where, unit] : units_)
        if (where.target == address.target && (whole_target || where.unit == address.unit))
          unit->reset();
    done = management->waiting_for == 0;
  }
  if (done) {
    const std::byte byte{kOk};
    answer_control(management->chain, std::span(&byte, 1));
  }
}

// --- Event queue --------------------------------------------------------------------------------

void Scsi::send_event(const Event& event) {
  if (transport_ == nullptr || !transport_->running()) return;
  {
    const std::lock_guard lock(event_mutex_);
    if (events_.size() >= kMostEvents)
      events_lost_ = true;
    else
      events_.push_back(event);
  }
  service_.notified(kEventQueue);
}

void Scsi::serve_events() {
  const std::lock_guard lock(event_mutex_);
  while (!events_.empty() || events_lost_) {
    auto chain = transport_->queue(kEventQueue).pop();
    if (!chain) return;
    EventRecord record{};
    if (!events_.empty()) {
      record.event = events_.front().event;
      put_address(record.lun, events_.front().address);
      record.reason = events_.front().reason;
      events_.pop_front();
    } else {
      record.event = kNoEvent;
    }
    if (events_lost_) record.event |= kMissed;
    events_lost_ = false;
    const size_t written = chain->write(0, std::as_bytes(std::span(&record, 1)));
    if (transport_->queue(kEventQueue).push(*chain, static_cast<uint32_t>(written)))
      transport_->interrupt_queue(kEventQueue);
  }
}

}  // namespace limen::virtio
