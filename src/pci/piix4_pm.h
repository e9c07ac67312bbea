// The power management function of the PIIX4, 8086:7113 at 0:1.3, which board pc has beside its
// PIIX3 (Intel 82371AB datasheet 290562, chapter 7).
#pragma once

#include <cstdint>
#include <mutex>

#include "pci/pci_function.h"

namespace limen::pci {

class Piix4Pm final : public PciFunction {
 public:
  static constexpr uint64_t kPmSize = 64;

  /// `pm` answers the 64 ports at PMBASE (register 40h) while PMREGMISC (80h) enables them.
  /// `base`: where they are at power-on; 0: nowhere. Everything outlives the function.
  Piix4Pm(memory::IoSpace& ports, memory::IoHandler& pm, uint16_t base = 0);
  ~Piix4Pm() override;

  void reset() override;
  /// Where the ports are now; 0: nowhere.
  [[nodiscard]] uint16_t pm_base();

 protected:
  void config_written(uint16_t offset, unsigned size) override;

 private:
  void update_pm();

  memory::IoSpace& ports_;
  memory::IoHandler& pm_;
  std::mutex mutex_;
  uint64_t claimed_at_ = 0;  // guarded by mutex_; 0: not claimed
};

}  // namespace limen::pci
