#include "nic/e1000/e1000.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "nic/e1000/e1000_port.h"

namespace limen::nic {

using namespace e1000;

namespace {

constexpr uint64_t kMemoryBarBytes = 128 << 10, kPortBarBytes = 64;
constexpr uint64_t kIoAddress = 0, kIoData = 4;
/// A step of ITR (SDM 13.4.18).
constexpr auto kThrottleStep = std::chrono::nanoseconds(256);

struct Range {
  uint32_t first, last;
};
/// Registers that only keep what is written, for drivers that read it back.
constexpr std::array<Range, 14> kPlain = {{
    {kCtrlExt, kCtrlExt},
    {0x0028, 0x0038},  // flow control, VET
    {kItr, kItr},
    {kRctl, kRctl},
    {0x0170, 0x0170},
    {0x0400, 0x0458},  // TCTL, TIPG, AIT
    {0x0E00, 0x0E00},
    {kPba, kPba},
    {0x2160, 0x2170},  // flow control thresholds
    {0x2800, 0x2C08},  // receive ring
    {0x3800, 0x3840},  // transmit ring
    {kRxcsum, kRxcsum},
    {kMta, 0x5A00},  // filters, wake-up, management
    {0x5B50, 0x5B50},
}};

uint32_t writable_bits(uint32_t offset) {
  switch (offset) {
    case kRdbal:
    case kTdbal:
      return 0xFFFF'FFF0;
    case kRdlen:
    case kTdlen:
      return 0x000F'FF80;
    case kRdh:
    case kRdt:
    case kTdh:
    case kTdt:
    case kItr:
    case kVet:
    case kRdtr:
      return 0x0000'FFFF;
    default:
      return 0xFFFF'FFFF;
  }
}

}  // namespace

Result<std::unique_ptr<E1000>> E1000::create(const E1000Properties& properties,
                                             memory::GuestMemory& memory, net::Network& network) {
  std::unique_ptr<E1000> card(new E1000(properties, memory, network));
  if (!properties.netdev.empty()) LIMEN_TRY(network.plug(*card->port_, properties.netdev));
  network.add_card(*card->port_, properties.id, "e1000");
  network.run([&card] { card->link_changed(); });
  return card;
}

E1000::E1000(const E1000Properties& properties, memory::GuestMemory& memory, net::Network& network)
    : PciFunction(properties.name, {.vendor = 0x8086,
                                    .device = 0x100E,
                                    .revision = 3,
                                    .class_code = 0x020000,
                                    .subsystem_vendor = 0x1AF4,
                                    .subsystem = 0x1100}),
      memory_(memory),
      network_(network),
      mac_(properties.mac),
      memory_window_(*this),
      port_window_(*this),
      port_(std::make_unique<Port>(*this)),
      registers_(kRegistersEnd / 4),
      eeprom_(mac_),
      throttle_(network.loop(), [this] {
        {
          const std::lock_guard lock(mutex_);
          update_line_locked();
        }
        deliver_intx();
      }) {
  set_bar(kMemoryBar,
          {.kind = pci::BarKind::kMemory32, .size = kMemoryBarBytes, .handler = &memory_window_});
  set_bar(kPortBar, {.kind = pci::BarKind::kIo, .size = kPortBarBytes, .handler = &port_window_});
  set_interrupt_pin(1);
  reset_locked();
}

E1000::~E1000() {
  network_.run([this] {
    network_.remove_card(*port_);
    port_.reset();
  });
}

void E1000::reset() {
  reset_card();
  PciFunction::reset();
}

void E1000::reset_card() {
  network_.run([this] {
    {
      const std::lock_guard lock(mutex_);
      reset_locked();
    }
    packet_.clear();
    first_.reset();
    waiting_.reset();
    too_long_ = false;
    vlan_tag_ = 0;
    context_ = segment_context_ = {};
    port_->room_again();  // what waits for descriptors need not
  });
  deliver_intx();
}

void E1000::reset_locked() {
  std::ranges::fill(registers_, 0);
  eeprom_.reset();
  phy_.reset();
  at(kCtrl) = ctrl::kFullDuplex | ctrl::kSpeed1000 | ctrl::kSetLinkUp;
  at(kStatus) = status::kFullDuplex | status::kSpeed1000;
  at(kPba) = 0x0010'0030;
  // What the card reads from its EEPROM at power-on: its address, valid.
  std::memcpy(&at(kRal), mac_.data(), 4);
  at(kRal + 4) = static_cast<uint32_t>(mac_[4] | mac_[5] << 8) | 1u << 31;
  next_interrupt_ = {};
  starved_ = false;
  update_link_locked();
  update_line_locked();
}

void E1000::update_link_locked() {
  phy_.set_link(link_up_);
  at(kStatus) = (at(kStatus) & ~status::kLinkUp) | (link_up_ ? status::kLinkUp : 0);
}

void E1000::link_changed() {
  {
    const std::lock_guard lock(mutex_);
    const bool up = port_ != nullptr && port_->cable_up();
    if (std::exchange(link_up_, up) == up) return;
    update_link_locked();
    raise_locked(cause::kLinkChange);
  }
  deliver_intx();
}

// --- Interrupts (SDM 3.2.7, 13.4.17 to 13.4.21)
// -----------------------------------------------------

void E1000::raise_locked(uint32_t causes) {
  at(kIcr) |= causes & cause::kAll;
  update_line_locked();
}

void E1000::raise(uint32_t causes) {
  {
    const std::lock_guard lock(mutex_);
    raise_locked(causes);
  }
  deliver_intx();
}

void E1000::update_line_locked() {
  const bool wanted = (at(kIcr) & at(kIms)) != 0;
  if (wanted && !line_ && at(kItr) != 0) {
    const auto now = network_.loop().now();
    if (now < next_interrupt_) return throttle_.arm(next_interrupt_);
    next_interrupt_ = now + at(kItr) * kThrottleStep;
  }
  line_ = wanted;
  record_intx(wanted);
}

// --- Registers
// -------------------------------------------------------------------------------------

uint64_t E1000::MemoryWindow::io_read(uint64_t offset, unsigned size) {
  const uint32_t value = card.read_register(static_cast<uint32_t>(offset & ~3ull));
  const uint64_t shifted = value >> (offset % 4 * 8);
  return size >= 4 ? shifted : shifted & ((1ull << size * 8) - 1);
}

void E1000::MemoryWindow::io_write(uint64_t offset, unsigned size, uint64_t value) {
  // Registers are written as a whole (SDM 13.1).
  if (offset % 4 == 0 && size >= 4)
    card.write_register(static_cast<uint32_t>(offset), static_cast<uint32_t>(value));
}

uint64_t E1000::PortWindow::io_read(uint64_t offset, unsigned) {
  if (offset == kIoAddress) return address;
  return offset == kIoData ? card.read_register(address & ~3u) : 0;
}

void E1000::PortWindow::io_write(uint64_t offset, unsigned size, uint64_t value) {
  if (size != 4) return;
  if (offset == kIoAddress) address = static_cast<uint32_t>(value);
  if (offset == kIoData) card.write_register(address & ~3u, static_cast<uint32_t>(value));
}

uint32_t E1000::read_register(uint32_t offset) {
  if (offset >= kRegistersEnd) return 0;
  uint32_t value = 0;
  {
    const std::lock_guard lock(mutex_);
    value = at(offset);
    switch (offset) {
      case kIcr:
        if ((value & at(kIms)) != 0) value |= cause::kAsserted;
        at(kIcr) = 0;
        update_line_locked();
        break;
      case kEecd:
        value = eeprom_.read_pins();
        break;
      default:
        if (offset < kStatistics || offset >= kStatisticsEnd) return value;
        at(offset) = 0;
        return value;
    }
  }
  deliver_intx();
  return value;
}

void E1000::write_register(uint32_t offset, uint32_t value) {
  if (offset >= kRegistersEnd) return;
  if (offset == kCtrl && (value & ctrl::kReset) != 0) return reset_card();
  bool send = false, resume = false;
  {
    const std::lock_guard lock(mutex_);
    write_register_locked(offset, value);
    if (offset == kTdt || offset == kTctl)
      send = (at(kTctl) & tctl::kEnable) != 0 && !std::exchange(transmit_posted_, true);
    if (offset == kRdt || offset == kRctl) resume = std::exchange(starved_, false);
  }
  deliver_intx();
  if (send)
    network_.loop().post([this] {
      {
        const std::lock_guard lock(mutex_);
        transmit_posted_ = false;
      }
      transmit();
    });
  if (resume) network_.loop().post([this] { port_->room_again(); });
}

void E1000::write_register_locked(uint32_t offset, uint32_t value) {
  switch (offset) {
    case kCtrl:
      at(kCtrl) = value & ~ctrl::kPhyReset;
      if ((value & ctrl::kPhyReset) != 0) phy_.reset();
      return;
    case kEecd:
      return eeprom_.write_pins(value);
    case kEerd:
      at(kEerd) = eeprom_.read_word(value);
      return;
    case kMdic: {
      constexpr uint32_t kInterrupt = 1u << 29;
      at(kMdic) = phy_.access(value);
      if ((value & kInterrupt) != 0) raise_locked(cause::kMdioDone);
      if (phy_.take_renegotiated() && link_up_) raise_locked(cause::kLinkChange);
      return;
    }
    case kIcr:
      at(kIcr) &= ~value;
      return update_line_locked();
    case kIcs:
      return raise_locked(value);
    case kIms:
      at(kIms) |= value & cause::kAll;
      return update_line_locked();
    case kImc:
      at(kIms) &= ~value;
      return update_line_locked();
    default:
      for (const auto& range : kPlain)
        if (offset >= range.first && offset <= range.last)
          at(offset) = value & writable_bits(offset);
  }
}

/// The ring whose registers begin at `base`; without entries where the driver's setup is wrong.
E1000::Ring E1000::ring_locked(uint32_t base) {
  Ring ring;
  ring.base = uint64_t{at(base + 4)} << 32 | at(base);
  ring.entries = at(base + kRdlen - kRdbal) / kDescriptorBytes;
  ring.head = at(base + kRdh - kRdbal);
  ring.tail = at(base + kRdt - kRdbal);
  if (ring.head >= ring.entries || ring.tail >= ring.entries) ring = {};
  return ring;
}

/// Packets and octets: two statistics registers, the second of 64 bits.
void E1000::count_locked(uint32_t packets, uint32_t octets, size_t bytes) {
  if (at(packets) != UINT32_MAX) ++at(packets);
  uint64_t sum = uint64_t{at(octets + 4)} << 32 | at(octets);
  sum += bytes;
  at(octets) = static_cast<uint32_t>(sum);
  at(octets + 4) = static_cast<uint32_t>(sum >> 32);
}

}  // namespace limen::nic
