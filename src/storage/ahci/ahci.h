// The AHCI controller of the ICH9, 8086:2922 (Serial ATA AHCI 1.3.1; Intel ICH9 datasheet 316972,
// §15): six ports, a drive each.
#pragma once

#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "base/result.h"
#include "pci/pci_function.h"
#include "storage/ahci/port.h"

namespace limen::storage {

class Ahci final : public pci::PciFunction {
 public:
  static constexpr unsigned kPorts = 6;
  static constexpr unsigned kIndexBar = 4, kRegisterBar = 5;

  /// `memory` outlives the controller.
  Ahci(std::string name, memory::GuestMemory& memory);
  ~Ahci() override;

  /// Before the machine runs. Fails where a drive is.
  Result<> attach_drive(unsigned port, std::unique_ptr<ata::Device> device);
  [[nodiscard]] bool occupied(unsigned port) const { return ports_[port]->device() != nullptr; }

  void reset() override;

 protected:
  void config_written(uint16_t offset, unsigned size) override;

 private:
  struct Registers final : memory::IoHandler {
    explicit Registers(Ahci& owner) : controller(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    Ahci& controller;
  };
  /// The same registers through a pair of ports (§2.4.1).
  struct IndexPair final : memory::IoHandler {
    explicit IndexPair(Ahci& owner) : controller(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    Ahci& controller;
    std::atomic<uint32_t> index{0};
  };

  uint32_t read(uint32_t offset);
  void write(uint32_t offset, uint32_t value);
  void write_locked(uint32_t offset, uint32_t value);
  void feed(unsigned port);
  void done(unsigned port, unsigned slot, const ata::Ending& ending);
  [[nodiscard]] bool quiet_locked() const;
  void reset_ports_locked(bool power_on);
  /// Whether a message is due; records the level of INTx.
  bool update_interrupt_locked();
  void deliver(bool message);

  memory::GuestMemory& memory_;
  Registers register_block_;
  IndexPair index_pair_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable idle_;
  std::array<std::unique_ptr<ahci::Port>, kPorts> ports_;
  uint32_t global_ = 0x8000'0000;
  uint32_t status_ = 0;
  bool reset_wanted_ = false;
  bool status_left_ = false;             ///< The driver took only some of what was pending.
  std::array<uint32_t, kPorts> seen_{};  ///< Pending events that a message told of.
  unsigned completing_ = 0;
};

}  // namespace limen::storage
