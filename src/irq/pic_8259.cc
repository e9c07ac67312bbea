#include "irq/pic_8259.h"

namespace limen::irq {
namespace {

constexpr uint8_t kCascade = 1u << 2;
constexpr std::array<uint16_t, 3> kBases = {0x20, 0xA0, 0x4D0};
/// Inputs that the ICH keeps edge-triggered: 0, 1, 2 and 8, 13.
constexpr std::array<uint8_t, 2> kElcrMask = {0xF8, 0xDE};

uint8_t bit(unsigned input) { return static_cast<uint8_t>(1u << input); }
uint8_t without(uint8_t bits, uint8_t gone) { return static_cast<uint8_t>(bits & ~gone); }

}  // namespace

/// One chip's two ports, or the edge/level registers (index 2).
class Pic8259::Ports final : public memory::IoHandler {
 public:
  Ports(Pic8259& pic, unsigned index) : pic_(pic), index_(index) {}
  uint64_t io_read(uint64_t offset, unsigned size) override {
    uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) value |= uint64_t{read_byte(offset + i)} << (8 * i);
    return value;
  }
  void io_write(uint64_t offset, unsigned size, uint64_t value) override {
    for (unsigned i = 0; i < size; ++i)
      write_byte(offset + i, static_cast<uint8_t>((value >> (8 * i)) & 0xFF));
  }

 private:
  uint8_t read_byte(uint64_t offset) {
    if (index_ != 2) return pic_.read(index_, offset != 0);
    const std::lock_guard lock(pic_.mutex_);
    return pic_.chips_[offset & 1].elcr;
  }
  void write_byte(uint64_t offset, uint8_t value) {
    if (index_ != 2) return pic_.write(index_, offset != 0, value);
    const std::lock_guard lock(pic_.mutex_);
    pic_.chips_[offset & 1].elcr = value & kElcrMask[offset & 1];
  }

  Pic8259& pic_;
  const unsigned index_;
};

Pic8259::Pic8259(memory::IoSpace& ports, std::function<void()> output_changed)
    : ports_(ports), output_changed_(std::move(output_changed)) {
  for (unsigned i = 0; i < handlers_.size(); ++i) {
    handlers_[i] = std::make_unique<Ports>(*this, i);
    ports_.claim(kBases[i], 2, *handlers_[i], i == 2 ? "8259 edge/level control" : "8259");
  }
  reset();
}

Pic8259::~Pic8259() {
  for (unsigned i = 0; i < handlers_.size(); ++i) ports_.release(kBases[i], *handlers_[i]);
}

void Pic8259::reset() {
  bool changed = false;
  {
    const std::lock_guard lock(mutex_);
    for (auto& chip : chips_) {
      const uint8_t lines = chip.lines;
      chip = Chip{};
      chip.lines = lines;
      chip.imr = 0xFF;
    }
    changed = update();
  }
  if (changed && output_changed_) output_changed_();
}

void Pic8259::set_line(unsigned line, bool level) {
  if (line >= 16 || line == 2) return;
  bool changed = false;
  {
    const std::lock_guard lock(mutex_);
    chips_[line / 8].set_input(line % 8, level);
    changed = update();
  }
  if (changed && output_changed_) output_changed_();
}

bool Pic8259::passes(unsigned line) {
  if (line >= 16 || line == 2) return false;
  const std::lock_guard lock(mutex_);
  const auto open = [](const Chip& chip, unsigned input) {
    return chip.init_state == 0 && (chip.imr & bit(input)) == 0;
  };
  if (line < 8) return open(chips_[0], line);
  return open(chips_[1], line - 8) && open(chips_[0], 2);
}

void Pic8259::on_acknowledge(unsigned line, std::function<void()> acknowledged) {
  if (line < 16) listeners_[line].push_back(std::move(acknowledged));
}

void Pic8259::announce(std::optional<unsigned> taken) const {
  if (!taken) return;
  for (const auto& listener : listeners_[*taken]) listener();
}

uint8_t Pic8259::acknowledge() {
  uint8_t vector = 0;
  bool changed = false;
  std::optional<unsigned> taken;
  {
    const std::lock_guard lock(mutex_);
    vector = acknowledge_locked(taken);
    changed = update();
  }
  if (changed && output_changed_) output_changed_();
  announce(taken);
  return vector;
}

uint8_t Pic8259::acknowledge_locked(std::optional<unsigned>& taken) {
  auto& master = chips_[0];
  auto& slave = chips_[1];
  const int input = master.request(true);
  if (input < 0) return static_cast<uint8_t>(master.vector_base | 7);  // spurious: ISR unchanged
  master.take(static_cast<unsigned>(input));
  if (input != 2) {
    taken = static_cast<unsigned>(input);
    return static_cast<uint8_t>(master.vector_base | input);
  }
  const int slave_input = slave.request(false);
  // The slave's INT falls with INTA and rises anew if something of higher priority waits.
  master.lines = without(master.lines, kCascade);
  if (slave_input < 0) return static_cast<uint8_t>(slave.vector_base | 7);
  slave.take(static_cast<unsigned>(slave_input));
  taken = static_cast<unsigned>(8 + slave_input);
  return static_cast<uint8_t>(slave.vector_base | slave_input);
}

bool Pic8259::update() {
  auto& master = chips_[0];
  const bool cascade = chips_[1].request(false) >= 0;
  master.set_input(2, cascade);
  if (!cascade) master.irr = without(master.irr, kCascade);
  const bool output = master.request(true) >= 0;
  return output_.exchange(output, std::memory_order_acq_rel) != output;
}

uint8_t Pic8259::read(unsigned index, bool data) {
  uint8_t value = 0;
  bool changed = false;
  std::optional<unsigned> taken;
  {
    const std::lock_guard lock(mutex_);
    auto& chip = chips_[index];
    if (chip.poll) {
      // The next read after a poll command is an INTA (datasheet, "Poll command").
      chip.poll = false;
      const int input = chip.request(index == 0);
      if (input >= 0) {
        chip.take(static_cast<unsigned>(input));
        taken = 8 * index + static_cast<unsigned>(input);
        value = static_cast<uint8_t>(0x80 | input);
      }
      changed = update();
    } else if (data) {
      value = chip.imr;
    } else {
      value = chip.read_isr ? chip.isr : chip.irr;
    }
  }
  if (changed && output_changed_) output_changed_();
  announce(taken);
  return value;
}

void Pic8259::write(unsigned index, bool data, uint8_t value) {
  bool changed = false;
  {
    const std::lock_guard lock(mutex_);
    auto& chip = chips_[index];
    if (data)
      chip.write_data(value);
    else if ((value & 0x10) != 0) {
      chip.start_initialization(value);
      if (index == 0) chip.lines = without(chip.lines, kCascade);  // update() raises it anew
    } else
      chip.operation_command(value);
    changed = update();
  }
  if (changed && output_changed_) output_changed_();
}

/// The input of highest priority in `bits`, or -1. Priorities fall from `lowest` + 1 upwards.
int Pic8259::Chip::highest(uint8_t bits) const {
  for (unsigned i = 1; i <= 8; ++i) {
    const unsigned input = (lowest + i) & 7;
    if ((bits & bit(input)) != 0) return static_cast<int>(input);
  }
  return -1;
}

int Pic8259::Chip::request(bool master) const {
  if (init_state != 0) return -1;
  const int wanted = highest(without(irr, imr));
  if (wanted < 0) return -1;
  uint8_t in_service = isr;
  // Special mask mode: what is masked does not hold back lower priorities.
  if (special_mask) in_service = without(in_service, imr);
  // Special fully nested mode: the slave may interrupt its own service.
  if (special_fully_nested && master) in_service = without(in_service, kCascade);
  const int serving = highest(in_service);
  if (serving < 0) return wanted;
  const auto rank = [this](int input) { return (static_cast<unsigned>(input) - lowest - 1) & 7; };
  return rank(wanted) < rank(serving) ? wanted : -1;
}

void Pic8259::Chip::set_input(unsigned input, bool level) {
  const uint8_t mask = bit(input);
  if (level) {
    if ((elcr & mask) != 0 || (lines & mask) == 0) irr |= mask;
    lines |= mask;
  } else {
    // An edge stays latched, so that a short pulse is not lost; a level goes away.
    if ((elcr & mask) != 0) irr = without(irr, mask);
    lines = without(lines, mask);
  }
}

void Pic8259::Chip::take(unsigned input) {
  const uint8_t mask = bit(input);
  if ((elcr & mask) == 0) irr = without(irr, mask);
  if (!auto_eoi) {
    isr |= mask;
  } else if (rotate_on_auto_eoi) {
    lowest = static_cast<uint8_t>(input);
  }
}

void Pic8259::Chip::start_initialization(uint8_t icw1) {
  const uint8_t kept_elcr = elcr;
  const uint8_t kept_lines = lines;
  *this = Chip{};
  elcr = kept_elcr;
  lines = kept_lines;
  // The edge sense circuit is reset: an input must rise again. A level input still asks.
  irr = lines & elcr;
  init_state = 2;
  needs_icw4 = (icw1 & 1) != 0;
  single = (icw1 & 2) != 0;
}

void Pic8259::Chip::write_data(uint8_t value) {
  switch (init_state) {
    case 2:
      vector_base = value & 0xF8;
      init_state = single ? (needs_icw4 ? 4 : 0) : 3;
      break;
    case 3:  // the board fixes where the cascade is
      init_state = needs_icw4 ? 4 : 0;
      break;
    case 4:
      special_fully_nested = (value & 0x10) != 0;
      auto_eoi = (value & 2) != 0;
      init_state = 0;
      break;
    default:
      imr = value;
      break;
  }
}

void Pic8259::Chip::operation_command(uint8_t value) {
  if ((value & 8) != 0) {  // OCW3
    if ((value & 4) != 0) poll = true;
    if ((value & 2) != 0) read_isr = (value & 1) != 0;
    if ((value & 0x40) != 0) special_mask = (value & 0x20) != 0;
    return;
  }
  // OCW2: rotate, specific, end of interrupt.
  const unsigned level = value & 7;
  switch (value >> 5) {
    case 0:
    case 4:
      rotate_on_auto_eoi = (value >> 5) == 4;
      break;
    case 1:
    case 5: {
      // In special mask mode a masked bit is not cleared by a non-specific EOI.
      const int served = highest(special_mask ? without(isr, imr) : isr);
      if (served < 0) break;
      isr = without(isr, bit(static_cast<unsigned>(served)));
      if ((value >> 5) == 5) lowest = static_cast<uint8_t>(served);
      break;
    }
    case 3:
    case 7:
      isr = without(isr, bit(level));
      if ((value >> 5) == 7) lowest = static_cast<uint8_t>(level);
      break;
    case 6:
      lowest = static_cast<uint8_t>(level);
      break;
    default:
      break;
  }
}

}  // namespace limen::irq
