// The IDE function of the PIIX3, 8086:7010 (Intel 82371SB datasheet 290550, §2.3, §2.7): two
// channels at their ISA ports, and a bus master for each.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "pci/pci_function.h"
#include "storage/ide/channel.h"

namespace limen::storage {

class Piix3Ide final : public pci::PciFunction {
 public:
  static constexpr unsigned kChannels = 2;
  static constexpr unsigned kMasterBar = 4;
  static constexpr std::array<unsigned, kChannels> kIsaLines = {14, 15};

  /// `lines`: those of kIsaLines. All outlive the function.
  Piix3Ide(std::string name, memory::GuestMemory& memory, memory::IoSpace& ports,
           const std::array<irq::InterruptLine, kChannels>& lines);
  ~Piix3Ide() override;

  /// Before the machine runs. Fails where a drive is.
  Result<> attach_drive(unsigned channel, unsigned unit, std::unique_ptr<ata::Device> device);
  [[nodiscard]] bool occupied(unsigned channel, unsigned unit) const {
    return channels_[channel]->occupied(unit);
  }

  void reset() override;

 private:
  struct BusMaster final : memory::IoHandler {
    explicit BusMaster(Piix3Ide& owner) : function(owner) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    Piix3Ide& function;
  };

  std::array<std::unique_ptr<IdeChannel>, kChannels> channels_;
  BusMaster bus_master_;
};

}  // namespace limen::storage
