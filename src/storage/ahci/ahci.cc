#include "storage/ahci/ahci.h"

#include <algorithm>
#include <utility>

#include "base/trace.h"

namespace limen::storage {

using namespace ahci;

namespace {

trace::Event trace_write("ahci_mem_write");

constexpr uint64_t kRegisterBytes = 4096, kIndexPorts = 32;
constexpr uint64_t kIndex = 0x10, kData = 0x14;
/// 64-bit addresses, command queueing, list override, AHCI alone, 3 Gb/s, 32 slots.
constexpr uint32_t kCapabilities = 1u << 31 | 1u << 30 | 1u << 24 | 1u << 18 | 2u << 20 |
                                   (Port::kSlots - 1) << 8 | (Ahci::kPorts - 1);
constexpr uint32_t kVersion = 0x0001'0301;
constexpr uint32_t kImplemented = (1u << Ahci::kPorts) - 1;
/// The SATA capability (Serial ATA AHCI 1.3.1 §2.4): where the index and data pair is.
constexpr uint8_t kSataCapability = 0x12;
constexpr uint32_t kIndexPairPlace = kIndex / 4 << 4 | (4 + Ahci::kIndexBar);

}  // namespace

Ahci::Ahci(std::string name, memory::GuestMemory& memory)
    : PciFunction(std::move(name), {.vendor = 0x8086,
                                    .device = 0x2922,
                                    .revision = 2,
                                    .class_code = 0x010601,
                                    .subsystem_vendor = 0x1AF4,
                                    .subsystem = 0x1100}),
      memory_(memory),
      register_block_(*this),
      index_pair_(*this) {
  for (auto& port : ports_) port = std::make_unique<Port>(memory_);
  set_bar(kIndexBar, {.kind = pci::BarKind::kIo, .size = kIndexPorts, .handler = &index_pair_});
  set_bar(kRegisterBar,
          {.kind = pci::BarKind::kMemory32, .size = kRegisterBytes, .handler = &register_block_});
  add_msi();
  const uint16_t sata = add_capability(kSataCapability, 8);
  set_register(static_cast<uint16_t>(sata + 2), 2, 0x0010);
  set_register(static_cast<uint16_t>(sata + 4), 4, kIndexPairPlace);
  set_interrupt_pin(1);
}

Ahci::~Ahci() { reset(); }

Result<> Ahci::attach_drive(unsigned port, std::unique_ptr<ata::Device> device) {
  if (occupied(port)) return fail("IDE unit 0 is in use");
  const std::lock_guard lock(mutex_);
  ports_[port]->attach(std::move(device));
  return {};
}

// --- Resets -------------------------------------------------------------------------------------

bool Ahci::quiet_locked() const {
  return completing_ == 0 && std::ranges::all_of(ports_, [](const auto& port) {
           return port->idle() && !port->feeding;
         });
}

void Ahci::reset_ports_locked(bool power_on) {
  reset_wanted_ = false;
  global_ = ghc::kAhci;
  status_ = 0;
  seen_ = {};
  for (auto& port : ports_) port->reset(power_on);
}

void Ahci::reset() {
  const auto give_up = [this](bool on) {
    for (auto& port : ports_)
      if (port->device() != nullptr) port->device()->give_up_held(on);
  };
  give_up(true);
  {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return quiet_locked(); });
    reset_ports_locked(true);
  }
  give_up(false);
  index_pair_.index = 0;
  record_intx(false);
  deliver_intx();
  PciFunction::reset();
}

// --- Registers ----------------------------------------------------------------------------------

uint32_t Ahci::read(uint32_t offset) {
  const std::lock_guard lock(mutex_);
  if (offset >= kPortRegisters) {
    const uint32_t port = (offset - kPortRegisters) / kPortStride;
    return port < kPorts ? ports_[port]->read((offset - kPortRegisters) % kPortStride) : 0;
  }
  switch (offset) {
    case kCap:
      return kCapabilities;
    case kGhc:
      return global_ | (reset_wanted_ ? ghc::kReset : 0);
    case kIs:
      return status_;
    case kPi:
      return kImplemented;
    case kVs:
      return kVersion;
    default:
      return 0;
  }
}

void Ahci::write_locked(uint32_t offset, uint32_t value) {
  if (offset >= kPortRegisters) {
    const uint32_t port = (offset - kPortRegisters) / kPortStride;
    if (port < kPorts) ports_[port]->write((offset - kPortRegisters) % kPortStride, value);
    return;
  }
  switch (offset) {
    case kGhc:
      global_ = (value & ghc::kInterrupts) | ghc::kAhci;
      if ((value & ghc::kReset) == 0) return;
      reset_wanted_ = true;
      if (quiet_locked()) reset_ports_locked(false);
      return;
    case kIs:
      status_ &= ~value;
      status_left_ = true;
      return;
    default:
      return;
  }
}

void Ahci::write(uint32_t offset, uint32_t value) {
  trace_write("ahci {}: write 0x{:x} to {:#x}", static_cast<const void*>(this), value, offset);
  bool message = false;
  {
    const std::lock_guard lock(mutex_);
    write_locked(offset, value);
    message = update_interrupt_locked();
  }
  deliver(message);
  if (offset < kPortRegisters) return;
  const uint32_t port = (offset - kPortRegisters) / kPortStride;
  if (port < kPorts) feed(port);
}

uint64_t Ahci::Registers::io_read(uint64_t offset, unsigned size) {
  uint64_t value = controller.read(static_cast<uint32_t>(offset & ~3ull));
  if (size == 8) value |= uint64_t{controller.read(static_cast<uint32_t>(offset + 4))} << 32;
  return value >> 8 * (offset & 3);
}

/// Registers take whole doublewords (§3): of less, the rest is zeroes.
void Ahci::Registers::io_write(uint64_t offset, unsigned size, uint64_t value) {
  const auto at = static_cast<uint32_t>(offset & ~3ull);
  controller.write(at, static_cast<uint32_t>(value << 8 * (offset & 3)));
  if (size == 8) controller.write(at + 4, static_cast<uint32_t>(value >> 32));
}

uint64_t Ahci::IndexPair::io_read(uint64_t offset, unsigned size) {
  if (offset == kIndex) return index;
  if (offset == kData) return controller.register_block_.io_read(index, size);
  return 0;
}

void Ahci::IndexPair::io_write(uint64_t offset, unsigned size, uint64_t value) {
  if (offset == kIndex) index = static_cast<uint32_t>(value) & (kRegisterBytes - 4);
  if (offset == kData) controller.register_block_.io_write(index, size, value);
}

// --- Interrupts ---------------------------------------------------------------------------------

bool Ahci::update_interrupt_locked() {
  bool fresh = false;
  for (unsigned i = 0; i < kPorts; ++i) {
    const uint32_t pending = ports_[i]->pending();
    if (pending != 0) status_ |= 1u << i;
    fresh |= (pending & ~seen_[i]) != 0;
    seen_[i] = pending;
  }
  const bool level = (global_ & ghc::kInterrupts) != 0 && status_ != 0;
  const bool left = std::exchange(status_left_, false);
  const bool messages = msi_enabled();
  record_intx(level && !messages);
  if ((global_ & ghc::kInterrupts) == 0) seen_ = {};  // told of once they are wanted
  // What the driver left pending is told of again (§10.7.2.1).
  return level && messages && (fresh || left);
}

void Ahci::deliver(bool message) {
  deliver_intx();
  if (message) send_msi();
}

void Ahci::config_written(uint16_t, unsigned) {
  {
    const std::lock_guard lock(mutex_);
    record_intx((global_ & ghc::kInterrupts) != 0 && status_ != 0 && !msi_enabled());
  }
  deliver_intx();
}

// --- Commands -----------------------------------------------------------------------------------

/// Gives the drive of a port what there is for it. A drive that ends a command at once, on this
/// very thread, does not get here again: the loop goes on instead.
void Ahci::feed(unsigned index) {
  Port& port = *ports_[index];
  std::unique_lock lock(mutex_);
  if (port.feeding) {
    port.feed_again = true;
    return;
  }
  port.feeding = true;
  do {
    port.feed_again = false;
    while (auto job = reset_wanted_ ? std::nullopt : port.next()) {
      lock.unlock();
      port.device()->transfer(job->operation, 0, std::move(job->buffers),
                              [this, index, slot = job->slot](const ata::Ending& ending) {
                                done(index, slot, ending);
                              });
      lock.lock();
    }
  } while (port.feed_again);
  port.feeding = false;
  ++completing_;
  const bool message = update_interrupt_locked();
  lock.unlock();
  deliver(message);
  lock.lock();
  --completing_;
  if (reset_wanted_ && quiet_locked()) reset_ports_locked(false);
  idle_.notify_all();
}

void Ahci::done(unsigned index, unsigned slot, const ata::Ending& ending) {
  bool message = false;
  {
    const std::lock_guard lock(mutex_);
    ++completing_;
    ports_[index]->done(slot, ending);
    message = update_interrupt_locked();
  }
  deliver(message);
  feed(index);
  const std::lock_guard lock(mutex_);
  --completing_;
  if (reset_wanted_ && quiet_locked()) reset_ports_locked(false);
  idle_.notify_all();
}

}  // namespace limen::storage
