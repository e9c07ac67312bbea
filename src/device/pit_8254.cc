#include "device/pit_8254.h"

#include <algorithm>

namespace limen::device {
namespace {

constexpr unsigned kControlPort = 3;

// Port 61H (ICH9 13.7.1).
constexpr uint8_t kGate2 = 1, kWritableControl = 0x0F, kRefreshToggle = 0x10, kOut2 = 0x20;
constexpr std::chrono::nanoseconds kRefreshPeriod{15'085};

/// A guest that asks for faster interrupts than this gets them merged.
constexpr std::chrono::microseconds kShortestInterval{20};

uint64_t to_ticks(Clock::duration duration) {
  const auto nanoseconds = std::chrono::nanoseconds(duration).count();
  if (nanoseconds <= 0) return 0;
  return static_cast<uint64_t>(static_cast<unsigned __int128>(nanoseconds) * Pit8254::kFrequency /
                               1'000'000'000);
}

/// Rounded up, so that as many ticks have passed by then.
Clock::duration to_duration(uint64_t ticks) {
  const auto nanoseconds =
      (static_cast<unsigned __int128>(ticks) * 1'000'000'000 + Pit8254::kFrequency - 1) /
      Pit8254::kFrequency;
  return std::chrono::nanoseconds(static_cast<int64_t>(nanoseconds));
}

uint16_t to_bcd(uint32_t value) {
  uint32_t bcd = 0;
  for (unsigned shift = 0; shift < 16; shift += 4, value /= 10) bcd |= value % 10 << shift;
  return static_cast<uint16_t>(bcd);
}
uint32_t from_bcd(uint32_t bcd) {
  uint32_t value = 0;
  for (unsigned shift = 16; shift > 0; shift -= 4) value = value * 10 + (bcd >> (shift - 4) & 0xF);
  return value;
}

bool periodic(uint8_t mode) { return mode == 2 || mode == 3; }
bool gate_triggers(uint8_t mode) { return mode == 1 || mode == 5; }

}  // namespace

class Pit8254::SystemControlPort final : public memory::IoHandler {
 public:
  explicit SystemControlPort(Pit8254& pit) : pit_(pit) {}
  uint64_t io_read(uint64_t, unsigned) override { return pit_.read_system_control(); }
  void io_write(uint64_t, unsigned, uint64_t value) override {
    pit_.write_system_control(static_cast<uint8_t>(value & 0xFF));
  }

 private:
  Pit8254& pit_;
};

Pit8254::Pit8254(memory::IoSpace& ports, irq::InterruptLine line, EventLoop& loop)
    : ports_(ports),
      loop_(loop),
      line_(line),
      system_control_port_(std::make_unique<SystemControlPort>(*this)),
      timer_(loop, [this] { expired(); }) {
  counters_[2].gate = false;
  line_.on_acknowledge([this] { acknowledged(); });
  ports_.claim(kBase, 4, *this, "8254");
  ports_.claim(kSystemControl, 1, *system_control_port_, "port 61H");
}

Pit8254::~Pit8254() {
  ports_.release(kBase, *this);
  ports_.release(kSystemControl, *system_control_port_);
}

void Pit8254::reset() {
  {
    const std::lock_guard lock(mutex_);
    counters_ = {};
    counters_[2].gate = false;
    system_control_ = 0;
    interrupt_enabled_ = true;
    lost_.clear();
    schedule();
  }
  drive(false);
}

uint64_t Pit8254::io_read(uint64_t offset, unsigned size) {
  const std::lock_guard lock(mutex_);
  uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const auto port = static_cast<unsigned>(offset) + i;
    // The control word register cannot be read.
    const uint8_t byte = port < kControlPort ? read_counter(port) : 0xFF;
    value |= uint64_t{byte} << (8 * i);
  }
  return value;
}

void Pit8254::io_write(uint64_t offset, unsigned size, uint64_t value) {
  {
    const std::lock_guard lock(mutex_);
    for (unsigned i = 0; i < size; ++i) {
      const auto port = static_cast<unsigned>(offset) + i;
      const auto byte = static_cast<uint8_t>((value >> (8 * i)) & 0xFF);
      if (port < kControlPort)
        write_counter(port, byte);
      else
        write_control(byte);
    }
    schedule();
  }
  drive(false);
}

uint64_t Pit8254::ticks(const Counter& counter, Clock::time_point now) const {
  const bool halted = !counter.gate && !gate_triggers(counter.mode);
  return to_ticks((halted ? counter.paused : now) - counter.start);
}

/// Lets a count that was written to a periodic counter take effect once its period has ended.
void Pit8254::roll_over(Counter& counter, Clock::time_point now) const {
  if (counter.next_count == 0 || !periodic(counter.mode) || ticks(counter, now) < counter.count)
    return;
  counter.start += to_duration(counter.count);
  counter.count = std::exchange(counter.next_count, 0);
  counter.null_count = false;
}

uint16_t Pit8254::count_now(Counter& counter, Clock::time_point now) const {
  roll_over(counter, now);
  counter.wait.count_read();
  uint32_t value = counter.count;
  if (counter.running && (counter.triggered || !gate_triggers(counter.mode))) {
    const uint64_t passed = ticks(counter, now);
    const uint32_t modulus = counter.bcd ? 10'000 : 0x10000;
    switch (counter.mode) {
      case 2:
        value = counter.count - static_cast<uint32_t>(passed % counter.count);
        break;
      case 3:  // counts down by two, twice in a period
        value = counter.count - static_cast<uint32_t>(2 * passed % counter.count);
        break;
      default:  // goes on past zero
        value = static_cast<uint32_t>((counter.count + modulus - passed % modulus) % modulus);
        break;
    }
  }
  return counter.bcd ? to_bcd(value % 10'000) : static_cast<uint16_t>(value & 0xFFFF);
}

bool Pit8254::output(Counter& counter, Clock::time_point now) const {
  roll_over(counter, now);
  if (!counter.running) return counter.mode != 0;
  const uint64_t passed = ticks(counter, now);
  switch (counter.mode) {
    case 0:
      return passed >= counter.count;
    case 1:
      return !counter.triggered || passed >= counter.count;
    case 2:
      return !counter.gate || passed % counter.count != counter.count - 1;
    case 3:
      return !counter.gate || passed % counter.count < (counter.count + 1) / 2;
    case 4:
      return passed != counter.count;
    default:
      return !counter.triggered || passed != counter.count;
  }
}

/// OUT, as a guest finds it that waits for it.
bool Pit8254::poll_output(Counter& counter, Clock::time_point now) const {
  if (counter.mode != 0 || !counter.running || !counter.gate) return output(counter, now);
  counter.start += counter.wait.delay(now);
  return counter.wait.poll(output(counter, now), now);
}

/// The tick, counted from counter.start, of the next rise of OUT; 0 if there is none.
uint64_t Pit8254::next_edge(const Counter& counter, Clock::time_point now) const {
  if (!counter.running || (gate_triggers(counter.mode) && !counter.triggered)) return 0;
  const uint64_t passed = ticks(counter, now);
  switch (counter.mode) {
    case 0:
    case 1:
      return passed < counter.count ? counter.count : 0;
    case 2:
    case 3:
      return (passed / counter.count + 1) * counter.count;
    default:
      return passed <= counter.count ? counter.count + 1 : 0;
  }
}

void Pit8254::schedule() {
  auto& counter = counters_[0];
  const auto now = loop_.now();
  roll_over(counter, now);
  const uint64_t edge = next_edge(counter, now);
  if (edge == 0) {
    edge_ = Clock::time_point::max();
    timer_.disarm();
    return;
  }
  edge_ = std::max(counter.start + to_duration(edge), last_edge_ + kShortestInterval);
  timer_.arm(edge_);
}

void Pit8254::expired() {
  bool rose = false;
  {
    const std::lock_guard lock(mutex_);
    const auto now = loop_.now();
    rose = now >= edge_;
    if (rose) {
      last_edge_ = now;
      count_edge(now);
    }
    schedule();
  }
  if (rose) drive(true);
}

/// OUT rises for every period that has ended since edge_, itself the end of one.
void Pit8254::count_edge(Clock::time_point now) {
  const auto& counter = counters_[0];
  // Interrupts that are merged anyway are not lost.
  if (!periodic(counter.mode) || to_duration(counter.count) < kShortestInterval)
    lost_.clear();
  else
    lost_.raised(1 + to_ticks(now - edge_) / counter.count, interrupt_enabled_ && line_.passes());
}

void Pit8254::acknowledged() {
  {
    const std::lock_guard lock(mutex_);
    if (!lost_.acknowledged()) return;
  }
  drive(true);
}

/// Brings the interrupt line to OUT's level; `rose`: with a rising edge on the way.
void Pit8254::drive(bool rose) {
  const std::lock_guard line_lock(line_mutex_);
  bool level = false;
  {
    const std::lock_guard lock(mutex_);
    level = (rose || output(counters_[0], loop_.now())) && interrupt_enabled_;
  }
  if (rose || !level) line_.set(false);
  if (level) line_.set(true);
}

void Pit8254::set_interrupt_enabled(bool enabled) {
  {
    const std::lock_guard lock(mutex_);
    interrupt_enabled_ = enabled;
    lost_.clear();
  }
  drive(false);
}

void Pit8254::latch_count(Counter& counter) {
  if (counter.count_latched) return;
  counter.latched_count = count_now(counter, loop_.now());
  counter.count_latched = true;
  counter.latched_high_next = counter.access == 2;
}

void Pit8254::latch_status(Counter& counter) {
  if (counter.status_latched) return;
  const auto now = loop_.now();
  const bool out = output(counter, now);
  counter.latched_status =
      static_cast<uint8_t>((out ? 0x80 : 0) | (counter.null_count ? 0x40 : 0) |
                           counter.access << 4 | counter.mode << 1 | (counter.bcd ? 1 : 0));
  counter.status_latched = true;
}

uint8_t Pit8254::read_counter(unsigned index) {
  auto& counter = counters_[index];
  if (counter.status_latched) {
    counter.status_latched = false;
    return counter.latched_status;
  }
  if (counter.count_latched) {
    const bool high = counter.latched_high_next;
    if (counter.access == 3 && !high)
      counter.latched_high_next = true;
    else
      counter.count_latched = false;
    return static_cast<uint8_t>(counter.latched_count >> (high ? 8 : 0) & 0xFF);
  }
  const uint16_t value = count_now(counter, loop_.now());
  const bool high = counter.access == 2 || (counter.access == 3 && counter.read_high_next);
  if (counter.access == 3) counter.read_high_next = !counter.read_high_next;
  return static_cast<uint8_t>(value >> (high ? 8 : 0) & 0xFF);
}

void Pit8254::write_counter(unsigned index, uint8_t value) {
  auto& counter = counters_[index];
  if (counter.access == 1) {
    load(counter, value);
  } else if (counter.access == 2) {
    load(counter, static_cast<uint16_t>(value << 8));
  } else if (!counter.write_high_next) {
    counter.write_latch = value;
    counter.write_high_next = true;
    // The first byte of a new count stops mode 0 (datasheet, "Mode 0").
    if (counter.mode == 0) {
      counter.count = std::max<uint32_t>(count_now(counter, loop_.now()), 1);
      counter.running = false;
    }
  } else {
    counter.write_high_next = false;
    load(counter, static_cast<uint16_t>(counter.write_latch | value << 8));
  }
}

void Pit8254::load(Counter& counter, uint16_t value) {
  const auto now = loop_.now();
  uint32_t count = counter.bcd ? from_bcd(value) : value;
  if (count == 0) count = counter.bcd ? 10'000 : 0x10000;
  counter.null_count = true;
  if (gate_triggers(counter.mode)) {  // waits for the gate to rise
    counter.next_count = count;
    counter.running = true;
    return;
  }
  if (periodic(counter.mode) && counter.running && counter.gate) {
    // Takes effect at the end of the period under way.
    roll_over(counter, now);
    counter.start += to_duration(ticks(counter, now) / counter.count * counter.count);
    counter.next_count = count;
    return;
  }
  counter.count = count;
  counter.next_count = 0;
  counter.start = counter.paused = now;
  counter.wait.begin(now);
  counter.running = true;
  counter.null_count = false;
}

void Pit8254::write_control(uint8_t value) {
  const unsigned select = value >> 6;
  if (select == 3) {  // read-back: bits 5 and 4 are active low
    for (unsigned i = 0; i < 3; ++i) {
      if ((value & 2u << i) == 0) continue;
      if ((value & 0x20) == 0) latch_count(counters_[i]);
      if ((value & 0x10) == 0) latch_status(counters_[i]);
    }
    return;
  }
  auto& counter = counters_[select];
  const uint8_t access = (value >> 4) & 3;
  if (access == 0) {
    latch_count(counter);
    return;
  }
  const bool gate = counter.gate;
  if (select == 0) lost_.clear();
  counter = Counter{};
  counter.gate = gate;
  counter.paused = counter.start = loop_.now();
  counter.access = access;
  counter.mode = (value >> 1) & 7;
  if (counter.mode > 5) counter.mode &= 3;  // 6 and 7 are 2 and 3
  counter.bcd = (value & 1) != 0;
  counter.triggered = false;
}

void Pit8254::set_gate(Counter& counter, bool gate) {
  if (counter.gate == gate) return;
  const auto now = loop_.now();
  roll_over(counter, now);
  if (!gate) {
    counter.paused = now;
    counter.gate = false;
    return;
  }
  counter.gate = true;
  switch (counter.mode) {
    case 0:
    case 4:
      counter.start += now - counter.paused;
      counter.wait.begin(now);
      break;
    default:  // the rise loads the count anew
      if (counter.next_count != 0) counter.count = std::exchange(counter.next_count, 0);
      counter.start = now;
      counter.triggered = counter.running;
      counter.null_count = !counter.running;
      break;
  }
}

uint8_t Pit8254::read_system_control() {
  const std::lock_guard lock(mutex_);
  const auto now = loop_.now();
  const bool refresh = (now.time_since_epoch() / kRefreshPeriod & 1) != 0;
  return static_cast<uint8_t>(system_control_ | (refresh ? kRefreshToggle : 0) |
                              (poll_output(counters_[2], now) ? kOut2 : 0));
}

void Pit8254::write_system_control(uint8_t value) {
  const std::lock_guard lock(mutex_);
  system_control_ = value & kWritableControl;
  set_gate(counters_[2], (value & kGate2) != 0);
}

}  // namespace limen::device
