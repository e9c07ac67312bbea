// -device bochs-display: the VGA's linear modes without the VGA (QEMU, docs/specs/standard-vga).
#pragma once

#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "display/bochs_vbe.h"
#include "display/edid.h"
#include "display/linear_picture.h"
#include "display/register_bar.h"
#include "display/screen.h"
#include "pci/pci_function.h"

namespace limen::display {

struct BochsDisplayProperties {
  std::string name = "bochs-display";  ///< For messages.
  std::optional<EdidProperties> edid = EdidProperties{};
};

class BochsDisplay final : public pci::PciFunction, public Source, private RegisterTarget {
 public:
  static constexpr unsigned kMemoryBar = 0, kRegisterBar = 2;

  /// `memory` is the video memory, of GuestMemory::reserve(), and outlives the function.
  BochsDisplay(const BochsDisplayProperties& properties, std::span<std::byte> memory);

  void reset() override;
  void update(Frame& frame, bool all, std::vector<Rectangle>& changed) override;

 private:
  uint16_t read_vbe(uint16_t index) override;
  void write_vbe(uint16_t index, uint16_t value) override;
  bool big_endian() override;
  void set_big_endian(bool big_endian) override;

  const std::span<std::byte> memory_;
  RegisterBar registers_;
  std::mutex mutex_;
  BochsVbe vbe_;             // guarded by mutex_
  bool big_endian_ = false;  // guarded by mutex_
  LinearPicture picture_;    // of the thread that draws
};

}  // namespace limen::display
