// Registers, the processor's side and the bus's side of the local APIC; its timer is in
// local_apic_timer.cc.
#include "irq/local_apic.h"

#include <bit>

#include "irq/local_apic_registers.h"
#include "irq/pic_8259.h"
#include "x86/kvm_paravirtual.h"
#include "x86/registers.h"

namespace limen::irq {

using namespace apic;  // NOLINT(google-build-using-namespace): the names of this device's registers

namespace {

/// Writable bits of the LVT entries (SDM Vol. 3A 11.5.1), in their order.
constexpr std::array<uint32_t, 6> kLvtWritable = {0x700FF, 0x107FF, 0x107FF,
                                                  0x1A7FF, 0x1A7FF, 0x100FF};

int highest(const std::array<uint32_t, 8>& bits) {
  for (unsigned i = 8; i-- > 0;)
    if (bits[i] != 0)
      return static_cast<int>(i * 32 + 31 - static_cast<unsigned>(std::countl_zero(bits[i])));
  return -1;
}
void set(std::array<uint32_t, 8>& bits, unsigned vector) { bits[vector / 32] |= 1u << vector % 32; }
void clear(std::array<uint32_t, 8>& bits, unsigned vector) {
  bits[vector / 32] &= ~(1u << vector % 32);
}
bool test(const std::array<uint32_t, 8>& bits, unsigned vector) {
  return (bits[vector / 32] >> vector % 32 & 1) != 0;
}
DeliveryMode mode_of(uint32_t lvt) { return static_cast<DeliveryMode>((lvt >> 8) & 7); }

}  // namespace

LocalApic::LocalApic(ApicBus& bus, Config config, std::function<void()> notify)
    : bus_(bus), config_(std::move(config)), notify_(std::move(notify)) {
  if (config_.ram != nullptr) pv_eoi_.emplace(*config_.ram);
  reset();
  bus_.add(*this);
}

LocalApic::~LocalApic() { bus_.remove(*this); }

void LocalApic::reset() {
  const std::lock_guard lock(mutex_);
  base_ = ApicBus::kDefaultBase | kBaseEnable |
          (config_.bootstrap_processor ? kBaseBootstrap : uint64_t{0});
  xapic_id_ = config_.id & 0xFF;
  tsc_offset_ = 0;
  nmis_ = 0;
  init_ = false;
  startup_.reset();
  reset_registers();
  Actions ignored;
  update(ignored);
}

void LocalApic::reset_registers() {
  tpr_ = 0;
  ldr_ = 0;
  dfr_ = 0xFFFFFFFF;
  svr_ = 0xFF;
  esr_ = esr_pending_ = 0;
  icr_ = 0;
  lvt_.fill(kLvtMasked);
  // As the MP specification (1.4, 3.6.1.1, virtual wire mode) has firmware leave it: the 8259's
  // interrupts reach the bootstrap processor.
  if (config_.bootstrap_processor) lvt_[kLvtLint0] = uint32_t{7} << 8;
  irr_.fill(0);
  isr_.fill(0);
  tmr_.fill(0);
  if (pv_eoi_) pv_eoi_->reset();
  initial_count_ = 0;
  divide_ = 0;
  count_deadline_ = 0;
  tsc_deadline_ = 0;
  external_latched_.store(false, std::memory_order_relaxed);
  publish_timer();
}

void LocalApic::connect_pic(Pic8259& pic) {
  Actions actions;
  {
    const std::lock_guard lock(mutex_);
    pic_ = &pic;
    update(actions);
  }
  finish(actions);
}

void LocalApic::pic_changed() {
  Actions actions;
  {
    const std::lock_guard lock(mutex_);
    if (pic_ == nullptr) return;
    const bool level = pic_->output();  // read here, so that the last call sees the last level
    const bool rose = level && !lint0_level_;
    lint0_level_ = level;
    if (rose && mode_of(lvt_[kLvtLint0]) != DeliveryMode::kExternal) raise_lvt(kLvtLint0);
    update(actions);
    actions.notify |= rose && accepts_pic_.load(std::memory_order_relaxed);
  }
  finish(actions);
}

void LocalApic::set_lint1(bool level) {
  Actions actions;
  {
    const std::lock_guard lock(mutex_);
    const bool rose = level && !lint1_level_;
    lint1_level_ = level;
    if (rose && globally_enabled()) raise_lvt(kLvtLint1);
    if (rose && !globally_enabled()) request_nmi();  // SDM Vol. 3A 11.4.3: the pin is NMI itself
    update(actions);
  }
  finish(actions);
}

void LocalApic::inject_nmi() {
  Actions actions;
  {
    const std::lock_guard lock(mutex_);
    request_nmi();
    update(actions);
  }
  finish(actions);
}

bool LocalApic::has_interrupt() {
  if (deliverable_.load(std::memory_order_acquire)) return true;
  if (!accepts_pic_.load(std::memory_order_acquire) &&
      !external_latched_.load(std::memory_order_acquire))
    return false;
  return pic_ != nullptr && pic_->output();
}

std::optional<uint8_t> LocalApic::acknowledge() {
  // The 8259 goes first, and is asked without our lock: it calls back when its output falls.
  if (pic_ != nullptr && pic_->output() &&
      (external_latched_.exchange(false, std::memory_order_acq_rel) ||
       accepts_pic_.load(std::memory_order_acquire)))
    return pic_->acknowledge();

  uint8_t vector = 0;
  {
    const std::lock_guard lock(mutex_);
    Actions ignored;
    settle_pv_eoi();
    update(ignored);
    if (!deliverable_.load(std::memory_order_relaxed)) return std::nullopt;
    vector = static_cast<uint8_t>(highest(irr_));
    clear(irr_, vector);
    set(isr_, vector);
    offer_pv_eoi(vector);
    update(ignored);
  }
  bus_.announce_taken(vector);
  return vector;
}

vcpu::LocalInterruptController::EventRequest LocalApic::take_event() {
  if (!event_.load(std::memory_order_acquire)) return {};
  const std::lock_guard lock(mutex_);
  EventRequest request;
  if (init_) {
    init_ = false;
    reset_registers();  // SDM Vol. 3A 11.4.7.3: all but the ID and IA32_APIC_BASE
    request.event = Event::kInit;
  } else if (startup_) {
    request = {Event::kStartup, *startup_};
    startup_.reset();
  } else if (nmis_ != 0) {
    --nmis_;
    request.event = Event::kNmi;
  }
  Actions ignored;
  update(ignored);
  return request;
}

uint8_t LocalApic::task_priority() {
  const std::lock_guard lock(mutex_);
  return tpr_ >> 4;
}

void LocalApic::set_task_priority(uint8_t priority_class) {
  Actions actions;
  {
    const std::lock_guard lock(mutex_);
    tpr_ = static_cast<uint8_t>(priority_class << 4);
    update(actions);
  }
  finish(actions);
}

uint64_t LocalApic::apic_base() {
  const std::lock_guard lock(mutex_);
  return base_;
}

bool LocalApic::globally_enabled() const { return (base_ & kBaseEnable) != 0; }
bool LocalApic::x2apic_mode() const {
  return (base_ & (kBaseEnable | kBaseX2apic)) == (kBaseEnable | kBaseX2apic);
}
bool LocalApic::software_enabled() const { return (svr_ & kSvrEnable) != 0; }

uint8_t LocalApic::processor_priority() const {
  // SDM Vol. 3A 11.8.3.1.
  const int serving = highest(isr_);
  const auto service_class = static_cast<uint8_t>(serving < 0 ? 0 : serving & 0xF0);
  return (tpr_ & 0xF0) >= service_class ? tpr_ : service_class;
}

/// Recomputes what the processor looks at without the lock.
void LocalApic::update(Actions& actions) {
  const int request = highest(irr_);
  // While an interrupt's end may stand in the guest's memory, whatever would be deliverable without
  // it makes the processor look: acknowledge() then finds out.
  const unsigned priority = pv_eoi_ && pv_eoi_->offered() ? tpr_ : processor_priority();
  const bool deliverable = globally_enabled() && request >= 0 &&
                           (static_cast<unsigned>(request) & 0xF0) > (priority & 0xF0);
  const bool event = init_ || startup_.has_value() || nmis_ != 0;
  const uint32_t lint0 = lvt_[kLvtLint0];
  const bool accepts_pic =
      pic_ != nullptr && (!globally_enabled() ||
                          ((lint0 & kLvtMasked) == 0 && mode_of(lint0) == DeliveryMode::kExternal));
  actions.notify |= deliverable && !deliverable_.load(std::memory_order_relaxed);
  actions.notify |= event && !event_.load(std::memory_order_relaxed);
  actions.notify |= accepts_pic && !accepts_pic_.load(std::memory_order_relaxed) && pic_->output();
  deliverable_.store(deliverable, std::memory_order_release);
  event_.store(event, std::memory_order_release);
  accepts_pic_.store(accepts_pic, std::memory_order_release);
}

void LocalApic::finish(const Actions& actions) {
  if (actions.moved_to) bus_.move_page(*actions.moved_to);
  if (actions.eoi) bus_.broadcast_eoi(*actions.eoi);
  if (actions.icr) send_ipi(*actions.icr);
  if (actions.notify && notify_) notify_();
}

void LocalApic::set_irr(uint8_t vector, bool level_triggered) {
  set(irr_, vector);
  if (level_triggered)
    set(tmr_, vector);
  else
    clear(tmr_, vector);
}

/// A processor has one NMI in service and one that waits (SDM Vol. 3A 6.7.1). The first of two that
/// come at once would be in service by now if the processor had looked.
void LocalApic::request_nmi() {
  if (nmis_ < 2) ++nmis_;
}

void LocalApic::post_error(uint32_t bits) {
  esr_pending_ |= bits;
  const uint32_t lvt = lvt_[kLvtError];
  if ((lvt & kLvtMasked) != 0) return;
  const auto vector = static_cast<uint8_t>(lvt & 0xFF);
  if (vector < kFirstVector)
    esr_pending_ |= kErrorReceivedIllegalVector;
  else
    set_irr(vector, false);
}

/// The source behind an LVT entry wants an interrupt.
void LocalApic::raise_lvt(unsigned index) {
  const uint32_t lvt = lvt_[index];
  if ((lvt & kLvtMasked) != 0 || !globally_enabled()) return;
  const bool pin = index == kLvtLint0 || index == kLvtLint1;
  const auto mode = index == kLvtTimer ? DeliveryMode::kFixed : mode_of(lvt);
  switch (mode) {
    case DeliveryMode::kFixed: {
      const auto vector = static_cast<uint8_t>(lvt & 0xFF);
      if (vector < kFirstVector)
        post_error(kErrorReceivedIllegalVector);
      else
        set_irr(vector, pin && (lvt & kLvtLevel) != 0);
      break;
    }
    case DeliveryMode::kNmi:
      request_nmi();
      break;
    case DeliveryMode::kInit:
      init_ = true;
      break;
    default:
      break;  // ExtINT is looked at through accepts_pic_; there is no SMM
  }
}

void LocalApic::end_of_interrupt(Actions& actions) {
  const int serving = highest(isr_);
  if (serving < 0) return;
  const auto vector = static_cast<uint8_t>(serving);
  clear(isr_, vector);
  if (!test(tmr_, vector)) return;
  if ((svr_ & kSvrSuppressBroadcast) == 0) actions.eoi = vector;
  // A pin of ours that is still asserted asks again.
  const auto again = [&](LvtIndex index, bool level) {
    if (level && (lvt_[index] & kLvtLevel) != 0 && (lvt_[index] & 0xFF) == vector &&
        mode_of(lvt_[index]) == DeliveryMode::kFixed)
      raise_lvt(index);
  };
  again(kLvtLint0, lint0_level_);
  again(kLvtLint1, lint1_level_);
}

/// The interrupt that is now in service may be ended in the guest's memory: not if others are in
/// service or wait, nor if the I/O APIC must hear of its end.
void LocalApic::offer_pv_eoi(uint8_t vector) {
  if (!pv_eoi_ || test(tmr_, vector) || highest(irr_) >= 0) return;
  auto others = isr_;
  clear(others, vector);
  if (highest(others) < 0) pv_eoi_->offer();
}

/// Takes note of an end that the guest wrote to its memory, and takes the offer back. On the
/// processor's own thread: the guest changes the flag without a lock.
void LocalApic::settle_pv_eoi() {
  if (!pv_eoi_ || !pv_eoi_->offered() || !pv_eoi_->take_back()) return;
  if (const int serving = highest(isr_); serving >= 0) clear(isr_, static_cast<unsigned>(serving));
}

uint64_t LocalApic::read_register(unsigned index, bool x2apic, bool& valid) {
  valid = true;
  if (index >= kIsr && index < kIsr + 8) return isr_[index - kIsr];
  if (index >= kTmr && index < kTmr + 8) return tmr_[index - kTmr];
  if (index >= kIrr && index < kIrr + 8) return irr_[index - kIrr];
  if (index >= kFirstLvt && index < kFirstLvt + lvt_.size()) {
    const unsigned lvt = index - kFirstLvt;
    uint32_t value = lvt_[lvt];
    // Remote IRR of a level-triggered pin.
    if ((lvt == kLvtLint0 || lvt == kLvtLint1) && (value & kLvtLevel) != 0 &&
        mode_of(value) == DeliveryMode::kFixed &&
        (test(irr_, value & 0xFF) || test(isr_, value & 0xFF)))
      value |= 1u << 14;
    return value;
  }
  switch (index) {
    case kId:
      return x2apic ? config_.id : xapic_id_ << 24;
    case kVersion:
      return kVersionValue;
    case kTaskPriority:
      return tpr_;
    case kProcessorPriority:
      return processor_priority();
    case kLogicalDestination:
      return x2apic ? (config_.id >> 4) << 16 | 1u << (config_.id & 0xF) : ldr_;
    case kSpuriousVector:
      return svr_;
    case kErrorStatus:
      return esr_;
    case kIcrLow:
      return x2apic ? icr_ : icr_ & 0xFFFFFFFF;
    case kInitialCount:
      return initial_count_;
    case kCurrentCount:
      return current_count();
    case kDivide:
      return divide_;
    case kDestinationFormat:
      if (!x2apic) return dfr_;
      break;
    case kIcrHigh:
      if (!x2apic) return icr_ >> 32;
      break;
    case kArbitrationPriority:
    case kEoi:
      if (!x2apic) return 0;
      break;
    default:
      break;
  }
  valid = false;
  return 0;
}

/// False: no such register, or (in x2APIC mode) a reserved bit is set.
bool LocalApic::write_register(unsigned index, uint64_t value, bool x2apic, Actions& actions) {
  const auto reserved = [&](uint64_t writable) { return x2apic && (value & ~writable) != 0; };
  const auto word = static_cast<uint32_t>(value);
  if (index >= kFirstLvt && index < kFirstLvt + lvt_.size()) {
    const unsigned lvt = index - kFirstLvt;
    // Delivery status and remote IRR are read-only, not reserved.
    if (reserved(kLvtWritable[lvt] | 1u << 12 | 1u << 14)) return false;
    write_lvt(lvt, word);
    return true;
  }
  switch (index) {
    case kId:
      if (x2apic) return false;
      xapic_id_ = word >> 24;
      return true;
    case kTaskPriority:
      if (reserved(0xFF)) return false;
      tpr_ = static_cast<uint8_t>(word);
      return true;
    case kEoi:
      if (reserved(0)) return false;
      end_of_interrupt(actions);
      return true;
    case kLogicalDestination:
      if (x2apic) return false;
      ldr_ = word & 0xFF000000;
      return true;
    case kDestinationFormat:
      if (x2apic) return false;
      dfr_ = word | 0x0FFFFFFF;
      return true;
    case kSpuriousVector:
      if (reserved(0x13FF)) return false;
      svr_ = word & 0x11FF;
      if (!software_enabled())
        for (auto& lvt : lvt_) lvt |= kLvtMasked;
      return true;
    case kErrorStatus:
      if (reserved(0)) return false;
      esr_ = esr_pending_;
      esr_pending_ = 0;
      return true;
    case kIcrLow:
      if (reserved(0xFFFFFFFF000CDFFF)) return false;
      icr_ = (x2apic ? value : (icr_ & 0xFFFFFFFF00000000) | word) & ~uint64_t{kIcrBusy};
      actions.icr = icr_;
      return true;
    case kIcrHigh:
      if (x2apic) return false;
      icr_ = (icr_ & 0xFFFFFFFF) | uint64_t{word & 0xFF000000} << 32;
      return true;
    case kInitialCount:
      if (reserved(0xFFFFFFFF)) return false;
      start_count(word);
      return true;
    case kDivide:
      if (reserved(0xB)) return false;
      set_divide(word & 0xB);
      return true;
    case kSelfIpi:
      if (!x2apic || reserved(0xFF)) return false;
      if (word < kFirstVector)
        post_error(kErrorSendIllegalVector);
      else if (software_enabled())
        set_irr(static_cast<uint8_t>(word), false);
      return true;
    default:
      return false;
  }
}

void LocalApic::write_lvt(unsigned lvt, uint32_t value) {
  const uint32_t old = lvt_[lvt];
  lvt_[lvt] = value & kLvtWritable[lvt];
  if (!software_enabled()) lvt_[lvt] |= kLvtMasked;
  if (lvt == kLvtTimer) {
    if (!config_.tsc_deadline) lvt_[lvt] &= ~(2u << kTimerModeShift);
    timer_mode_changed(old);
  }
}

bool LocalApic::read_msr(uint32_t index, uint64_t& value) {
  const std::lock_guard lock(mutex_);
  if (index == x86::kvm::msr::kPvEoi) {
    if (pv_eoi_) value = pv_eoi_->value();
    return pv_eoi_.has_value();
  }
  if (index == x86::msr::kApicBase) {
    value = base_;
    return true;
  }
  if (index == x86::msr::kTscDeadline) {
    value = timer_mode() == kTimerDeadline ? tsc_deadline_ : 0;
    return config_.tsc_deadline;
  }
  if (index < x86::msr::kX2apicFirst || index > x86::msr::kX2apicLast || !x2apic_mode())
    return false;
  const unsigned reg = index - x86::msr::kX2apicFirst;
  Actions ignored;
  settle_pv_eoi();
  update(ignored);
  bool valid = false;
  value = read_register(reg, true, valid);
  return valid;
}

bool LocalApic::write_msr(uint32_t index, uint64_t value) {
  Actions actions;
  {
    const std::lock_guard lock(mutex_);
    if (index != x86::msr::kTscDeadline) settle_pv_eoi();
    if (index == x86::kvm::msr::kPvEoi) {
      if (!pv_eoi_ || !pv_eoi_->set(value)) return false;
    } else if (index == x86::msr::kApicBase) {
      if (!write_apic_base(value, actions)) return false;
    } else if (index == x86::msr::kTscDeadline) {
      if (!config_.tsc_deadline) return false;
      if (timer_mode() == kTimerDeadline) {
        tsc_deadline_ = value;
        publish_timer();
        // The processor asks next_timer_tsc() again when it is told to look.
      }
    } else {
      if (index < x86::msr::kX2apicFirst || index > x86::msr::kX2apicLast || !x2apic_mode() ||
          !write_register(index - x86::msr::kX2apicFirst, value, true, actions))
        return false;
    }
    update(actions);
  }
  finish(actions);
  return true;
}

bool LocalApic::write_apic_base(uint64_t value, Actions& actions) {
  const uint64_t address_mask =
      ((uint64_t{1} << config_.physical_address_bits) - 1) & ~uint64_t{0xFFF};
  uint64_t writable = address_mask | kBaseBootstrap | kBaseEnable;
  if (config_.x2apic) writable |= kBaseX2apic;
  if ((value & ~writable) != 0) return false;
  // SDM Vol. 3A 11.12.5.1: x2APIC mode is entered from xAPIC mode and left by disabling.
  const bool enable = (value & kBaseEnable) != 0;
  const bool extended = (value & kBaseX2apic) != 0;
  if (extended && !enable) return false;
  if (extended && !globally_enabled()) return false;
  if (!extended && enable && x2apic_mode()) return false;

  const bool was_enabled = globally_enabled();
  const bool entered_x2apic = extended && !x2apic_mode();
  const bool moved = ((base_ ^ value) & address_mask) != 0;
  base_ = value;
  if (was_enabled && !enable) {
    reset_registers();
    xapic_id_ = config_.id & 0xFF;
  }
  if (entered_x2apic) icr_ &= 0xFFFFFFFF;  // the destination is written anew
  if (moved) actions.moved_to = value & address_mask;
  return true;
}

uint64_t LocalApic::page_read(uint64_t base, uint64_t offset, unsigned size) {
  const std::lock_guard lock(mutex_);
  if (!globally_enabled() || x2apic_mode() || (base_ & kBaseAddressMask) != base)
    return ~uint64_t{0};
  if ((offset & 0xF) > 3) return 0;  // registers are 32 bits wide, 16 bytes apart
  Actions ignored;
  settle_pv_eoi();
  update(ignored);
  bool valid = false;
  const uint64_t value = read_register(static_cast<unsigned>(offset >> 4), false, valid);
  if (!valid) {
    post_error(kErrorIllegalRegister);
    return 0;
  }
  return size > 4 ? value : value >> (8 * (offset & 3));
}

void LocalApic::page_write(uint64_t base, uint64_t offset, unsigned size, uint64_t value) {
  Actions actions;
  {
    const std::lock_guard lock(mutex_);
    if (!globally_enabled() || x2apic_mode() || (base_ & kBaseAddressMask) != base) return;
    if ((offset & 0xF) != 0 || size < 4) return;
    settle_pv_eoi();
    const auto index = static_cast<unsigned>(offset >> 4);
    if (!write_register(index, value & 0xFFFFFFFF, false, actions)) {
      bool readable = false;
      read_register(index, false, readable);
      if (!readable) post_error(kErrorIllegalRegister);
    }
    update(actions);
    // Unlike WRMSR, a store does not make the processor ask next_timer_tsc() again.
    actions.notify |= index == kInitialCount || index == kDivide;
  }
  finish(actions);
}

bool LocalApic::startup_pending() {
  const std::lock_guard lock(mutex_);
  return startup_.has_value();
}

void LocalApic::send_ipi(uint64_t icr) {
  // SDM Vol. 3A 11.6.1.
  const auto vector = static_cast<uint8_t>(icr & 0xFF);
  const auto mode = static_cast<DeliveryMode>((icr >> 8) & 7);
  const bool wide = [this] {
    const std::lock_guard lock(mutex_);
    return x2apic_mode();
  }();
  const bool level = (icr & 0x8000) != 0;
  const bool assert_level = (icr & 0x4000) != 0;
  if (mode == DeliveryMode::kInit && level && !assert_level) return;  // INIT level de-assert
  if ((mode == DeliveryMode::kFixed || mode == DeliveryMode::kLowestPriority) &&
      vector < kFirstVector) {
    Actions actions;
    {
      const std::lock_guard lock(mutex_);
      post_error(kErrorSendIllegalVector);
      update(actions);
    }
    finish(actions);
    return;
  }
  const ApicMessage message{.mode = mode, .vector = vector, .level_triggered = false};
  switch ((icr >> 18) & 3) {
    case 1:
      accept(message);
      break;
    case 2:
      bus_.deliver_to_all(message, nullptr);
      break;
    case 3:
      bus_.deliver_to_all(message, this);
      if (mode == DeliveryMode::kStartup) bus_.let_start();
      break;
    default:
      bus_.deliver({.id = static_cast<uint32_t>(wide ? icr >> 32 : icr >> 56),
                    .logical = (icr & 0x800) != 0,
                    .wide = wide},
                   message);
      break;
  }
}

bool LocalApic::is_named_by(const ApicDestination& destination) {
  const std::lock_guard lock(mutex_);
  const uint32_t id = destination.id;
  if (destination.wide ? id == 0xFFFFFFFF : id == 0xFF && !destination.logical) return true;
  if (!destination.logical) return x2apic_mode() ? id == config_.id : id == xapic_id_;
  if (x2apic_mode()) {
    const uint32_t cluster = config_.id >> 4;
    return id >> 16 == cluster && (id & 1u << (config_.id & 0xF)) != 0;
  }
  if (id > 0xFF) return false;
  const uint32_t logical = ldr_ >> 24;
  if (dfr_ >> 28 == 0xF) return (logical & id) != 0;  // flat model
  return (logical >> 4 == id >> 4 || id >> 4 == 0xF) && (logical & id & 0xF) != 0;
}

bool LocalApic::arbitration_priority(uint8_t& priority) {
  const std::lock_guard lock(mutex_);
  priority = processor_priority();
  return globally_enabled() && software_enabled();
}

bool LocalApic::accept(const ApicMessage& message) {
  Actions actions;
  bool accepted = false;
  {
    const std::lock_guard lock(mutex_);
    accepted = accept_locked(message);
    update(actions);
    actions.notify |= accepted && external_latched_.load(std::memory_order_relaxed);
  }
  finish(actions);
  return accepted;
}

bool LocalApic::accept_locked(const ApicMessage& message) {
  if (!globally_enabled()) return false;
  switch (message.mode) {
    case DeliveryMode::kFixed:
    case DeliveryMode::kLowestPriority:
      if (!software_enabled()) return false;
      if (message.vector < kFirstVector)
        post_error(kErrorReceivedIllegalVector);
      else
        set_irr(message.vector, message.level_triggered);
      return true;
    case DeliveryMode::kNmi:
      request_nmi();
      return true;
    case DeliveryMode::kInit:
      init_ = true;
      startup_.reset();
      return true;
    case DeliveryMode::kStartup:
      startup_ = message.vector;
      return true;
    case DeliveryMode::kExternal:
      external_latched_.store(true, std::memory_order_release);
      return true;
    default:
      return false;
  }
}

}  // namespace limen::irq
