// How the INTx pins of the devices on the root bus reach the I/O APIC. The ACPI _PRT method must
// say the same: for each (device, pin) the GSI that intx_gsi() gives, level-triggered, active high
// in the I/O APIC's sense (active low on the wire, as for every PCI interrupt).
//
//   devices 0..24 and 30 rotate through PIRQ E..H (device 30: no rotation),
//   devices 25..29 and 31 (parts of the chipset) use PIRQ A..D without rotation,
//   PIRQ A..H are I/O APIC inputs 16..23 in APIC mode; in PIC mode the routing registers of the LPC
//   bridge (60h-63h, 68h-6Bh) connect them to ISA interrupts.
#pragma once

#include <cstdint>

namespace limen::pci {

inline constexpr unsigned kPirqCount = 8;
inline constexpr unsigned kFirstPirqGsi = 16;

/// PIRQ number, 0 (A) to 7 (H), of a pin. `device` 0 to 31; `pin` 0 (INTA) to 3 (INTD).
constexpr unsigned intx_pirq(unsigned device, unsigned pin) {
  if (device == 30) return 4 + pin % 4;
  if (device >= 25) return pin % 4;
  return 4 + (device + pin) % 4;
}

/// Global system interrupt (I/O APIC input), 16 to 23, of a pin. `pin` 0 (INTA) to 3 (INTD).
constexpr unsigned intx_gsi(unsigned device, unsigned pin) {
  return kFirstPirqGsi + intx_pirq(device, pin);
}

}  // namespace limen::pci
