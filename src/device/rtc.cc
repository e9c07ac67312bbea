#include "device/rtc.h"

#include <algorithm>
#include <utility>

namespace limen::device {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

// Bytes of the CMOS memory (MC146818 figure 10).
constexpr uint8_t kSeconds = 0x00, kSecondsAlarm = 0x01, kMinutes = 0x02, kMinutesAlarm = 0x03,
                  kHours = 0x04, kHoursAlarm = 0x05, kDayOfWeek = 0x06, kDayOfMonth = 0x07,
                  kMonth = 0x08, kYear = 0x09, kA = 0x0A, kB = 0x0B, kC = 0x0C, kD = 0x0D,
                  kShutdownStatus = 0x0F, kCentury = 0x32;

constexpr uint8_t kUpdateInProgress = 0x80;
constexpr uint8_t kSet = 0x80, kPeriodic = 0x40, kAlarm = 0x20, kUpdateEnded = 0x10, kBinary = 0x04,
                  k24Hours = 0x02;
constexpr uint8_t kInterruptFlag = 0x80;
constexpr uint8_t kValidRam = 0x80;
constexpr uint8_t kAfternoon = 0x80;

/// UIP rises 244 us before an update and stays for its 1984 us (MC146818 table 6).
constexpr nanoseconds kUipAhead{244'000};
constexpr nanoseconds kUpdateTime{1'984'000};

bool is_time(uint8_t index) {
  return index == kCentury || (index <= kYear && index != kSecondsAlarm && index != kMinutesAlarm &&
                               index != kHoursAlarm);
}

}  // namespace

Rtc::Rtc(memory::IoSpace& ports, irq::InterruptLine line, EventLoop& loop, Config config)
    : ports_(ports), loop_(loop), line_(line), config_(std::move(config)), timer_(loop, [this] {
        expired();
      }) {
  cmos_[kA] = 0x26;  // 32.768 kHz, 1024 Hz
  cmos_[kB] = k24Hours;
  cmos_[kD] = kValidRam;
  const auto put = [this](size_t at, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i)
      cmos_[at + i] = static_cast<uint8_t>((value >> (8 * i)) & 0xFF);
  };
  const uint64_t kib = config_.memory_below_4g >> 10;
  put(0x15, std::min<uint64_t>(kib, 640), 2);
  const uint64_t extended = kib > 1024 ? std::min<uint64_t>(kib - 1024, 0xFFFF) : 0;
  put(0x17, extended, 2);
  put(0x30, extended, 2);
  const uint64_t above_16m = config_.memory_below_4g >> 16;
  put(0x34, above_16m > 256 ? std::min<uint64_t>(above_16m - 256, 0xFFFF) : 0, 2);
  put(0x5B, config_.memory_above_4g >> 16, 3);
  cmos_[0x5F] = static_cast<uint8_t>(std::min(config_.processors - 1, 255u));
  store_boot_order(config_.boot_order);
  cmos_[0x14] = 0x06;  // coprocessor and PS/2 mouse are there
  settled_ = std::chrono::duration_cast<seconds>(guest_time());
  ports_.claim(kBase, 2, *this, "MC146818");
}

Rtc::~Rtc() { ports_.release(kBase, *this); }

void Rtc::store_boot_order(const std::array<uint8_t, 3>& order) {
  cmos_[0x3D] = static_cast<uint8_t>(order[1] << 4 | order[0]);
  cmos_[0x38] = static_cast<uint8_t>(order[2] << 4);
}

void Rtc::set_boot_order(const std::array<uint8_t, 3>& order) {
  const std::lock_guard lock(mutex_);
  store_boot_order(order);
}

void Rtc::set_resumed() {
  constexpr uint8_t kFromS3 = 0xFE;
  const std::lock_guard lock(mutex_);
  cmos_[kShutdownStatus] = kFromS3;
}

void Rtc::publish() {
  bool rang = false;
  {
    const std::lock_guard lock(mutex_);
    rang = std::exchange(rang_, false);
  }
  line_.publish();
  if (rang && config_.alarm) config_.alarm();
}

void Rtc::reset() {
  {
    // RESET# clears the interrupt enables and flags, no more (MC146818, "RESET").
    const std::lock_guard lock(mutex_);
    cmos_[kB] &= static_cast<uint8_t>(~(kPeriodic | kAlarm | kUpdateEnded | 0x08));
    cmos_[kC] = 0;
    lost_.clear();
    owed_ = rang_ = false;
    interrupt_enabled_ = true;
    schedule();
    update_line();
  }
  line_.publish();
}

void Rtc::set_interrupt_enabled(bool enabled) {
  {
    const std::lock_guard lock(mutex_);
    interrupt_enabled_ = enabled;
    update_line();
  }
  line_.publish();
}

std::span<const memory::LateWrites> Rtc::late_writes() const {
  static constexpr memory::LateWrites kIndex{.offset = 0, .size = 1};
  return {&kIndex, 1};
}

uint64_t Rtc::io_read(uint64_t offset, unsigned size) {
  uint64_t value = 0;
  {
    const std::lock_guard lock(mutex_);
    for (unsigned i = 0; i < size; ++i) {
      const uint8_t byte = offset + i == 0 ? 0xFF : read_data();  // the index is write-only
      value |= uint64_t{byte} << (8 * i);
    }
  }
  publish();
  raise_owed();
  return value;
}

/// The next of the interrupts that were lost; the line has fallen since the one before.
void Rtc::raise_owed() {
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(owed_, false)) return;
    cmos_[kC] |= kPeriodic;
    update_line();
  }
  line_.publish();
}

void Rtc::io_write(uint64_t offset, unsigned size, uint64_t value) {
  {
    const std::lock_guard lock(mutex_);
    for (unsigned i = 0; i < size; ++i) {
      const auto byte = static_cast<uint8_t>((value >> (8 * i)) & 0xFF);
      if (offset + i == 0)
        index_ = byte & 0x7F;  // bit 7 masks NMI
      else
        write_data(byte);
    }
  }
  publish();
}

nanoseconds Rtc::guest_time() const {
  const auto wall = config_.wall_clock ? config_.wall_clock() : std::chrono::system_clock::now();
  return std::chrono::duration_cast<nanoseconds>(wall.time_since_epoch()) + offset_;
}

bool Rtc::update_in_progress() const {
  if ((cmos_[kB] & kSet) != 0) return false;
  const auto time = guest_time();
  const auto into = time - std::chrono::floor<seconds>(time);
  // The time registers change where the second does, so that is where the update must end.
  return into >= seconds(1) - kUipAhead - kUpdateTime;
}

uint8_t Rtc::encode(unsigned value) const {
  if ((cmos_[kB] & kBinary) != 0) return static_cast<uint8_t>(value);
  return static_cast<uint8_t>(value / 10 << 4 | value % 10);
}

unsigned Rtc::decode(uint8_t value) const {
  if ((cmos_[kB] & kBinary) != 0) return value;
  return (value >> 4) * 10u + (value & 0xFu);
}

uint8_t Rtc::time_register(uint8_t index) const {
  if ((cmos_[kB] & kSet) != 0) return cmos_[index];
  const auto time = std::chrono::floor<seconds>(guest_time());
  const auto days = std::chrono::floor<std::chrono::days>(std::chrono::sys_seconds(time));
  const std::chrono::year_month_day date(days);
  const std::chrono::hh_mm_ss clock(std::chrono::sys_seconds(time) - days);
  const auto year = static_cast<unsigned>(static_cast<int>(date.year()));
  const auto hour = static_cast<unsigned>(clock.hours().count());
  switch (index) {
    case kSeconds:
      return encode(static_cast<unsigned>(clock.seconds().count()));
    case kMinutes:
      return encode(static_cast<unsigned>(clock.minutes().count()));
    case kHours:
      if ((cmos_[kB] & k24Hours) != 0) return encode(hour);
      return static_cast<uint8_t>(encode(hour % 12 == 0 ? 12 : hour % 12) |
                                  (hour >= 12 ? kAfternoon : 0));
    case kDayOfWeek:
      return encode(std::chrono::weekday(days).c_encoding() + 1);
    case kDayOfMonth:
      return encode(static_cast<unsigned>(date.day()));
    case kMonth:
      return encode(static_cast<unsigned>(date.month()));
    case kYear:
      return encode(year % 100);
    default:
      // The century is BCD whatever the data mode (as ACPI's firmware keeps it).
      return static_cast<uint8_t>(year / 100 / 10 << 4 | year / 100 % 10);
  }
}

nanoseconds Rtc::time_from_registers(const std::array<uint8_t, 128>& registers) const {
  using namespace std::chrono;  // NOLINT(google-build-using-namespace): calendar arithmetic
  const auto field = [&](uint8_t index, unsigned most) {
    return std::min(decode(registers[index]), most);
  };
  const uint8_t century = registers[kCentury];
  const auto year_number =
      static_cast<int>(((century >> 4) * 10u + (century & 0xFu)) * 100 + field(kYear, 99));
  const year_month year_and_month{year(year_number),
                                  month(std::clamp(decode(registers[kMonth]), 1u, 12u))};
  // A day that the month does not have becomes its last.
  const auto last = static_cast<unsigned>((year_and_month / std::chrono::last).day());
  const sys_days date(year_and_month / day(std::clamp(decode(registers[kDayOfMonth]), 1u, last)));
  unsigned hour = field(kHours, 23);
  if ((cmos_[kB] & k24Hours) == 0) {
    hour = std::min(decode(registers[kHours] & 0x7F), 12u) % 12;
    if ((registers[kHours] & kAfternoon) != 0) hour += 12;
  }
  return date.time_since_epoch() + hours(hour) + minutes(field(kMinutes, 59)) +
         seconds(field(kSeconds, 59));
}

std::array<uint8_t, 128> Rtc::all_registers() const {
  auto registers = cmos_;
  for (uint8_t index = 0; index <= kCentury; ++index)
    if (is_time(index)) registers[index] = time_register(index);
  return registers;
}

void Rtc::set_time_register(uint8_t index, uint8_t value) {
  if ((cmos_[kB] & kSet) != 0) {
    cmos_[index] = value;  // taken together when SET is released, in whatever order they came
    return;
  }
  auto registers = all_registers();
  registers[index] = value;
  const auto time = guest_time();
  offset_ += time_from_registers(registers) - std::chrono::floor<seconds>(time);
  tell_time_set();
  settled_ = std::chrono::floor<seconds>(guest_time());
}

uint8_t Rtc::read_data() {
  if (is_time(index_)) return time_register(index_);
  switch (index_) {
    case kA:
      return static_cast<uint8_t>((cmos_[kA] & 0x7F) |
                                  (update_in_progress() ? kUpdateInProgress : 0));
    case kC: {
      settle();
      const uint8_t value = cmos_[kC];
      cmos_[kC] = 0;
      update_line();
      if (config_.catch_up && (value & kPeriodic) != 0) owed_ = lost_.acknowledged();
      return value;
    }
    default:
      return cmos_[index_];
  }
}

void Rtc::tell_time_set() const {
  if (config_.time_set) config_.time_set(std::chrono::round<seconds>(offset_).count());
}

void Rtc::write_data(uint8_t value) {
  settle();
  if (is_time(index_)) {
    set_time_register(index_, value);
  } else if (index_ == kA) {
    cmos_[kA] = value & 0x7F;
    lost_.clear();
    next_period_ = loop_.now() + period();
  } else if (index_ == kB) {
    const bool was_set = (cmos_[kB] & kSet) != 0;
    const bool was_periodic = (cmos_[kB] & kPeriodic) != 0;
    if ((value & kSet) != 0) {
      // The registers stand still from here, for the guest to set.
      if (!was_set) cmos_ = all_registers();
      value &= static_cast<uint8_t>(~kUpdateEnded);  // SET clears UIE
      cmos_[kB] = value;
    } else {
      cmos_[kB] = value;
      if (was_set) {
        offset_ += time_from_registers(cmos_) - guest_time();
        tell_time_set();
      }
    }
    settled_ = std::chrono::floor<seconds>(guest_time());
    if (!was_periodic && (value & kPeriodic) != 0) next_period_ = loop_.now() + period();
    if ((value & kPeriodic) == 0) lost_.clear();
  } else if (index_ != kC && index_ != kD) {
    cmos_[index_] = value;
  }
  schedule();
  update_line();
}

bool Rtc::alarm_matches(seconds at) const {
  const auto day = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::hh_mm_ss clock(at - day);
  const auto matches = [&](uint8_t index, unsigned now) {
    const uint8_t wanted = cmos_[index];
    if ((wanted & 0xC0) == 0xC0) return true;  // "don't care"
    if (index != kHoursAlarm || (cmos_[kB] & k24Hours) != 0) return decode(wanted) == now;
    const unsigned twelve = decode(wanted & 0x7F) % 12;
    return twelve + ((wanted & kAfternoon) != 0 ? 12 : 0) == now;
  };
  return matches(kSecondsAlarm, static_cast<unsigned>(clock.seconds().count())) &&
         matches(kMinutesAlarm, static_cast<unsigned>(clock.minutes().count())) &&
         matches(kHoursAlarm, static_cast<unsigned>(clock.hours().count()));
}

nanoseconds Rtc::period() const {
  // Table 5: rates 1 and 2 are those of 8 and 9; the oscillator is off unless the divider is 010.
  unsigned rate = cmos_[kA] & 0x0F;
  if (rate == 0 || (cmos_[kA] & 0x70) != 0x20) return nanoseconds::zero();
  if (rate < 3) rate += 7;
  return nanoseconds(uint64_t{1'000'000'000} * (uint64_t{1} << (rate - 1)) / 32'768);
}

/// Sets the flags of everything that happened up to now.
void Rtc::settle() {
  const auto now = loop_.now();
  const auto step = period();
  if ((cmos_[kB] & kPeriodic) != 0 && step != nanoseconds::zero() && now >= next_period_) {
    cmos_[kC] |= kPeriodic;
    // Periods that passed unseen are one interrupt, unless the guest is to have them all.
    const auto passed = (now - next_period_) / step + 1;
    next_period_ += passed * step;
    if (config_.catch_up) lost_.raised(static_cast<uint64_t>(passed), true);
  }
  if ((cmos_[kB] & kSet) != 0) return;
  const auto second = std::chrono::floor<seconds>(guest_time());
  if (second <= settled_) {
    settled_ = second;  // the host's clock was set back
    return;
  }
  cmos_[kC] |= kUpdateEnded;
  // A day's worth of seconds meets every alarm there can be.
  const auto first = std::max(settled_ + seconds(1), second - seconds(86'400));
  for (auto at = first; at <= second; at += seconds(1)) {
    if (!alarm_matches(at)) continue;
    cmos_[kC] |= kAlarm;
    rang_ |= (cmos_[kB] & kAlarm) != 0;
    break;
  }
  settled_ = second;
}

void Rtc::schedule() {
  auto next = Clock::time_point::max();
  if ((cmos_[kB] & kPeriodic) != 0 && period() != nanoseconds::zero()) next = next_period_;
  if ((cmos_[kB] & (kAlarm | kUpdateEnded)) != 0 && (cmos_[kB] & kSet) == 0) {
    const auto time = guest_time();
    const auto left = std::chrono::floor<seconds>(time) + seconds(1) - time;
    next = std::min(next, loop_.now() + left);
  }
  if (next == Clock::time_point::max())
    timer_.disarm();
  else
    timer_.arm(next);
}

void Rtc::update_line() {
  const bool interrupt = (cmos_[kC] & cmos_[kB] & (kPeriodic | kAlarm | kUpdateEnded)) != 0;
  if (interrupt) cmos_[kC] |= kInterruptFlag;
  line_.want((cmos_[kC] & kInterruptFlag) != 0 && interrupt_enabled_);
}

void Rtc::expired() {
  {
    const std::lock_guard lock(mutex_);
    settle();
    schedule();
    update_line();
  }
  publish();
}

}  // namespace limen::device
