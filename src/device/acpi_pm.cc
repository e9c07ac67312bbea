#include "device/acpi_pm.h"

#include <algorithm>

namespace limen::device {
namespace {

constexpr uint16_t kSciEnable = 1u << 0, kGlobalRelease = 1u << 2, kSleepEnable = 1u << 13;
constexpr unsigned kSleepTypeShift = 10;
constexpr uint16_t kPm1Events = 1u << 0 | 1u << 5 | 1u << 8 | 1u << 9 | 1u << 10;

constexpr uint64_t kGpeStatus = AcpiPm::kGpe0, kGpeEnable = AcpiPm::kGpe0 + 8, kSmiEnable = 0x30,
                   kSmiStatus = 0x34;
/// Port B2h raises SMIs: so firmware is told that nothing is to be set up, there being none.
constexpr uint32_t kApmcEnable = 1u << 5;

uint8_t byte_of(uint64_t value, uint64_t index) {
  return static_cast<uint8_t>((value >> (8 * index)) & 0xFF);
}
void set_byte(uint16_t& value, uint64_t index, uint8_t byte) {
  value = static_cast<uint16_t>((value & ~(0xFFu << (8 * index))) | uint32_t{byte} << (8 * index));
}

}  // namespace

/// APM control and status, ports B2H and B3H: by the first an operating system asks for ACPI mode.
class AcpiPm::CommandPort final : public memory::IoHandler {
 public:
  explicit CommandPort(AcpiPm& pm) : pm_(pm) {}
  uint64_t io_read(uint64_t offset, unsigned size) override {
    const std::lock_guard lock(pm_.mutex_);
    const auto both = static_cast<uint16_t>(pm_.apm_control_ | pm_.apm_status_ << 8);
    return size == 1 ? byte_of(both, offset) : both;
  }
  void io_write(uint64_t offset, unsigned size, uint64_t value) override {
    if (offset == 1 || size > 1) {
      const std::lock_guard lock(pm_.mutex_);
      pm_.apm_status_ = byte_of(value, 1 - offset);
    }
    if (offset == 0) pm_.smi_command(byte_of(value, 0));
  }

 private:
  AcpiPm& pm_;
};

AcpiPm::AcpiPm(memory::IoSpace& ports, irq::InterruptLine sci, EventLoop& loop, Config config,
               Callbacks callbacks)
    : ports_(ports),
      loop_(loop),
      sci_(sci),
      config_(config),
      callbacks_(std::move(callbacks)),
      command_port_(std::make_unique<CommandPort>(*this)),
      timer_start_(loop.now()),
      timer_(loop, [this] { expired(); }) {
  reset_registers();
  if (config_.base != 0) ports_.claim(config_.base, kSize, *this, "ACPI PM");
  ports_.claim(config_.smi_command_port, 2, *command_port_, "APM control");
}

AcpiPm::~AcpiPm() {
  if (config_.base != 0) ports_.release(config_.base, *this);
  ports_.release(config_.smi_command_port, *command_port_);
}

void AcpiPm::reset_registers() {
  pm1_status_ = pm1_enable_ = 0;
  gpe_status_.fill(0);
  gpe_enable_.fill(0);
  reset_core_registers();
}

void AcpiPm::reset_core_registers() {
  suspended_ = false;
  pm1_control_ = config_.acpi_mode_at_reset ? kSciEnable : 0;
  smi_enable_ = kApmcEnable;
  apm_control_ = apm_status_ = 0;
  timer_settled_ = timer_ticks();
  timer_.disarm();
}

void AcpiPm::reset() {
  {
    const std::lock_guard lock(mutex_);
    reset_registers();
    update_line();
  }
  sci_.publish();
}

void AcpiPm::resume() {
  {
    const std::lock_guard lock(mutex_);
    reset_core_registers();
    schedule();
    update_line();
  }
  sci_.publish();
}

uint64_t AcpiPm::timer_ticks() const {
  const auto passed = std::chrono::nanoseconds(loop_.now() - timer_start_).count();
  return static_cast<uint64_t>(static_cast<unsigned __int128>(std::max<int64_t>(passed, 0)) *
                               kTimerFrequency / 1'000'000'000);
}

/// TMR_STS is set whenever the counter's highest bit changes (ACPI 6.5 §4.8.3.1.1).
void AcpiPm::settle_timer() {
  const unsigned highest_bit = config_.timer_is_32_bit ? 31 : 23;
  const uint64_t now = timer_ticks();
  if (now >> highest_bit != timer_settled_ >> highest_bit) pm1_status_ |= kTimerStatus;
  timer_settled_ = now;
}

void AcpiPm::schedule() {
  if ((pm1_enable_ & kTimerStatus) == 0) {
    timer_.disarm();
    return;
  }
  const unsigned highest_bit = config_.timer_is_32_bit ? 31 : 23;
  const uint64_t next = ((timer_ticks() >> highest_bit) + 1) << highest_bit;
  const auto nanoseconds =
      (static_cast<unsigned __int128>(next) * 1'000'000'000 + kTimerFrequency - 1) /
      kTimerFrequency;
  timer_.arm(timer_start_ + std::chrono::nanoseconds(static_cast<int64_t>(nanoseconds)));
}

void AcpiPm::update_line() {
  bool event = (pm1_status_ & pm1_enable_ & kPm1Events) != 0;
  for (size_t i = 0; i < gpe_status_.size(); ++i) event |= (gpe_status_[i] & gpe_enable_[i]) != 0;
  // Without SCI_EN events raise SMIs, which this machine does not have.
  sci_.want(event && (pm1_control_ & kSciEnable) != 0);
}

void AcpiPm::expired() {
  {
    const std::lock_guard lock(mutex_);
    settle_timer();
    schedule();
    update_line();
  }
  sci_.publish();
}

uint64_t AcpiPm::io_read(uint64_t offset, unsigned size) {
  const std::lock_guard lock(mutex_);
  if (offset < kPm1Control) settle_timer();
  // Sampled once, so that the bytes of one access belong together.
  const auto timer = static_cast<uint32_t>(timer_ticks());
  uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i) value |= uint64_t{read_byte(offset + i, timer)} << (8 * i);
  return value;
}

uint8_t AcpiPm::read_byte(uint64_t offset, uint32_t timer) const {
  if (offset < 2) return byte_of(pm1_status_, offset);
  if (offset < 4) return byte_of(pm1_enable_, offset - 2);
  if (offset < 6) return byte_of(pm1_control_, offset - kPm1Control);
  if (offset >= kTimer && offset < kTimer + 4)
    return byte_of(config_.timer_is_32_bit ? timer : timer & 0xFFFFFF, offset - kTimer);
  if (offset >= kGpeStatus && offset < kGpeStatus + 8) return gpe_status_[offset - kGpeStatus];
  if (offset >= kGpeEnable && offset < kGpeEnable + 8) return gpe_enable_[offset - kGpeEnable];
  if (offset >= kSmiEnable && offset < kSmiStatus) return byte_of(smi_enable_, offset - kSmiEnable);
  return 0;
}

void AcpiPm::io_write(uint64_t offset, unsigned size, uint64_t value) {
  Sleep sleep = Sleep::kNone;
  {
    const std::lock_guard lock(mutex_);
    settle_timer();
    for (unsigned i = 0; i < size; ++i) write_byte(offset + i, byte_of(value, i), sleep);
    schedule();
    update_line();
  }
  sci_.publish();
  enter(sleep);
}

void AcpiPm::enter(Sleep sleep) {
  const auto tell = [](const std::function<void()>& callback) {
    if (callback) callback();
  };
  switch (sleep) {
    case Sleep::kNone:
      return;
    case Sleep::kSuspend:
      return tell(callbacks_.suspend);
    case Sleep::kHibernate:
      return tell(callbacks_.hibernate);
    case Sleep::kSoftOff:
      return tell(callbacks_.power_off);
  }
}

AcpiPm::Sleep AcpiPm::sleep_state(unsigned type) const {
  // Type 0 is soft off in QEMU's tables: what firmware and small kernels know without reading any.
  if (type == config_.soft_off_type || type == 0) return Sleep::kSoftOff;
  if (type == config_.suspend_type) return Sleep::kSuspend;
  if (type == config_.hibernate_type) return Sleep::kHibernate;
  return Sleep::kNone;
}

void AcpiPm::write_byte(uint64_t offset, uint8_t value, Sleep& sleep) {
  if (offset < 2) {  // written ones clear
    pm1_status_ = static_cast<uint16_t>(pm1_status_ & ~(uint32_t{value} << (8 * offset)));
  } else if (offset < 4) {
    set_byte(pm1_enable_, offset - 2, value);
    pm1_enable_ &= kPm1Events;
  } else if (offset < 6) {
    set_byte(pm1_control_, offset - kPm1Control, value);
    const bool enters = (pm1_control_ & kSleepEnable) != 0;
    pm1_control_ = static_cast<uint16_t>(pm1_control_ & ~(kSleepEnable | kGlobalRelease));
    if (!enters) return;
    sleep = sleep_state((pm1_control_ >> kSleepTypeShift) & 7);
    if (sleep != Sleep::kSuspend) return;
    suspended_ = true;
    // What is pending ends it at once.
    pm1_status_ &= static_cast<uint16_t>(~kWakeStatus);
    bool pending = (pm1_status_ & pm1_enable_ & (kPowerButton | kRtcStatus)) != 0;
    for (size_t i = 0; i < gpe_status_.size(); ++i)
      pending |= (gpe_status_[i] & gpe_enable_[i]) != 0;
    if (pending) pm1_status_ |= kWakeStatus;
  } else if (offset >= kGpeStatus && offset < kGpeStatus + 8) {
    gpe_status_[offset - kGpeStatus] &= static_cast<uint8_t>(~value);
  } else if (offset >= kGpeEnable && offset < kGpeEnable + 8) {
    gpe_enable_[offset - kGpeEnable] = value;
  } else if (offset >= kSmiEnable && offset < kSmiStatus) {
    const unsigned shift = static_cast<unsigned>(offset - kSmiEnable) * 8;
    smi_enable_ = (smi_enable_ & ~(0xFFu << shift)) | uint32_t{value} << shift;
  }
}

void AcpiPm::smi_command(uint8_t value) {
  {
    const std::lock_guard lock(mutex_);
    apm_control_ = value;
    if (value == config_.acpi_enable) pm1_control_ |= kSciEnable;
    if (value == config_.acpi_disable) pm1_control_ &= static_cast<uint16_t>(~kSciEnable);
    update_line();
  }
  sci_.publish();
}

template <typename Record>
void AcpiPm::happen(const Record& record) {
  bool wakes = false;
  {
    const std::lock_guard lock(mutex_);
    wakes = record() && suspended_ && (pm1_status_ & kWakeStatus) == 0;
    if (wakes) pm1_status_ |= kWakeStatus;
    update_line();
  }
  sci_.publish();
  if (wakes && callbacks_.wake_up) callbacks_.wake_up();
}

void AcpiPm::press_power_button() {
  happen([this] {
    pm1_status_ |= kPowerButton;
    return true;  // whatever is enabled
  });
}

void AcpiPm::ring_alarm() {
  happen([this] {
    pm1_status_ |= kRtcStatus;
    return (pm1_enable_ & kRtcStatus) != 0;
  });
}

void AcpiPm::wake_up() {
  happen([this] {
    if (suspended_) pm1_status_ |= kPowerButton;
    return true;
  });
}

bool AcpiPm::woken() {
  const std::lock_guard lock(mutex_);
  return suspended_ && (pm1_status_ & kWakeStatus) != 0;
}

void AcpiPm::raise_event(unsigned index) {
  if (index >= gpe_status_.size() * 8) return;
  const auto bit = static_cast<uint8_t>(1u << index % 8);
  happen([this, index, bit] {
    gpe_status_[index / 8] |= bit;
    return (gpe_enable_[index / 8] & bit) != 0;
  });
}

}  // namespace limen::device
