// -device VGA, which -vga std plugs in: a VGA with Bochs' VBE on PCI (QEMU,
// docs/specs/standard-vga).
//
// BAR 0: video memory. BAR 2: registers.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "display/edid.h"
#include "display/register_bar.h"
#include "display/vga/vga_core.h"
#include "memory/io_space.h"
#include "pci/pci_function.h"

namespace limen::display::vga {

struct VgaProperties {
  std::string name = "VGA";  ///< For messages.
  std::optional<EdidProperties> edid = EdidProperties{};
};

class Vga final : public pci::PciFunction {
 public:
  static constexpr unsigned kMemoryBar = 0, kRegisterBar = 2;

  /// `memory` is the video memory, of GuestMemory::reserve(): a power of two, at least 1 MiB. All
  /// outlive the function.
  Vga(const VgaProperties& properties, memory::IoSpace& ports, memory::IoSpace& mmio,
      std::span<std::byte> memory);

  [[nodiscard]] Source& source() { return core_; }
  void reset() override;

 private:
  VgaCore core_;
  RegisterBar registers_;
};

}  // namespace limen::display::vga
